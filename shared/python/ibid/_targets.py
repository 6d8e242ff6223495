"""The decorators, and what they make of functions."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import inspect
import json
import math
from typing import Any, Callable, Coroutine, Generic, Iterable, Optional, ParamSpec, TypeVar, Union, cast, overload

from . import _values
from ._execution import Context, Execution, current
from ._errors import IbidError, rebuild




__all__ = ["task", "workflow", "Target"]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")

Age = Union[bool, int, float, dt.timedelta]
Span = Union[int, float, dt.timedelta]
Retries = Union[int, tuple[int, Span], tuple[int, Span, Span]]

registry: dict[tuple[str, str], "Target[Any, Any]"] = {}
"""Every target declared in this process, by module and name."""


def _milliseconds(value: Any, what: str) -> int:
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what} must be a number of seconds or a timedelta, not {value!r}")
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{what} must be zero or more and finite, not {value!r}")
    return int(round(seconds * 1000))


def _cache(value: Any) -> Any:
    if value is False or value is None:
        return "off"
    if value is True:
        return "on"
    return {"max_age": _milliseconds(value, "cache")}


def _retries(value: Any) -> dict[str, int]:
    parts = value if isinstance(value, tuple) else (value,)
    if not 1 <= len(parts) <= 3 or isinstance(parts[0], bool) or not isinstance(parts[0], int) or parts[0] < 0:
        raise TypeError(f"retries must be n, (n, delay) or (n, min, max), not {value!r}")
    delays = [_milliseconds(part, "the delay of retries") for part in parts[1:]] or [0]
    return {"limit": parts[0], "delay_min": delays[0], "delay_max": delays[-1]}


_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional_or_keyword",
    inspect.Parameter.VAR_POSITIONAL: "var_positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
    inspect.Parameter.VAR_KEYWORD: "var_keyword",
}


class Target(Generic[P, R]):
    """A decorated function. Call it; or ``submit`` it to get an `Execution` at once."""

    def __init__(self, function: Callable[P, R], kind: str, options: dict[str, Any]) -> None:
        functools.update_wrapper(cast(Any, self), function)
        self._function = function
        self._kind = kind
        self._name: str = options["name"] or function.__name__
        self._repository: str = function.__module__
        self._async = inspect.iscoroutinefunction(function)
        self._key: Optional[Callable[..., str]] = options["cache_key"]
        self._signature = inspect.signature(function)
        self._parameters = list(self._signature.parameters.values())
        self._plain = all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in self._parameters)
        if self._key is not None and not callable(self._key):
            raise TypeError(f"cache_key of {self._name} must be a function of the arguments that gives a string")
        for name in ("cache_namespace", "cache_version"):
            value = options[name]
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} of {self._name} must be a string, not {value!r}")
        self._options: dict[str, Any] = {
            "cache": _cache(options["cache"]),
            "cache_namespace": options["cache_namespace"],
            "cache_version": options["cache_version"],
            "retries": _retries(options["retries"]),
            "delay": _milliseconds(options["delay"], "delay"),
            "timeout": None if options["timeout"] is None else _milliseconds(options["timeout"], "timeout"),
        }
        # The wire form of the options, written once; the key of each call is put in between.
        self._options_text = json.dumps(self._options)[1:-1]
        self._target_text = json.dumps(f"{self._repository}/{self._name}")
        known = registry.get((self._repository, self._name))
        if known is not None and known._function.__qualname__ != function.__qualname__:
            raise ValueError(f"{self._repository} declares two targets named '{self._name}': {known._function.__qualname__} and {function.__qualname__}")
        registry[(self._repository, self._name)] = self

    def __reduce__(self) -> str:
        return self._function.__qualname__  # pickled by name, as functions are

    def __repr__(self) -> str:
        return f"<{self._kind} {self._repository}/{self._name}>"

    @property
    def function(self) -> Callable[P, R]:
        """The function as it was written."""
        return self._function

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Schedules the call and waits for its result; outside an execution, just runs the function."""
        context = current()
        if context is None:
            return self._function(*args, **kwargs)
        if self._async:
            return cast(R, self.submit(*args, **kwargs))
        reply = self._request(context, [self._call(args, kwargs)], wait=True)
        outcome = reply[0]["outcome"]
        if outcome["state"] == "succeeded":
            execution: Execution[R] = Execution(reply[0]["step"], outcome)
            return execution.result()
        raise rebuild(outcome)

    @overload
    def submit(self: "Target[P, Coroutine[Any, Any, T]]", /, *args: P.args, **kwargs: P.kwargs) -> "Execution[T]": ...
    @overload
    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> "Execution[R]": ...
    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Schedules the call and returns at once."""
        context = current()
        if context is None:
            return self._run_here(args, kwargs)
        [called] = self._request(context, [self._call(args, kwargs)], wait=False)
        return Execution(called["step"], called["outcome"])

    @overload
    def map(self: "Target[P, Coroutine[Any, Any, T]]", items: Iterable[Any]) -> "list[Execution[T]]": ...
    @overload
    def map(self, items: Iterable[Any]) -> "list[Execution[R]]": ...
    def map(self, items: Iterable[Any]) -> Any:
        """Schedules one call for each item, in one message; a tuple is several arguments."""
        arguments = [item if type(item) is tuple else (item,) for item in items]
        context = current()
        if context is None:
            return [self._run_here(args, {}) for args in arguments]
        executions: list[Execution[R]] = []
        for start in range(0, len(arguments), 1000):
            calls = [self._call(args, {}) for args in arguments[start : start + 1000]]
            called = self._request(context, calls, wait=False)
            executions.extend(Execution(one["step"], one["outcome"]) for one in called)
        return executions

    def _run_here(self, args: Any, kwargs: Any) -> "Execution[R]":
        try:
            value = cast(Any, self._function)(*args, **kwargs)
            if self._async:
                import asyncio

                value = asyncio.run(cast(Any, value))
        except Exception as error:
            return Execution._finished(False, error)
        return Execution._finished(True, value)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The arguments in the order of the signature, defaults applied."""
        if self._plain and not kwargs and len(args) == len(self._parameters):
            return list(args)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = []
        for parameter in self._parameters:
            value = bound.arguments[parameter.name]
            values.append(list(value) if parameter.kind is parameter.VAR_POSITIONAL else value)
        return values

    def unbind(self, values: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """The inverse of `bind`: what to call the function with."""
        if self._plain:
            return values, {}
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter, value in zip(self._parameters, values):
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif parameter.kind is parameter.KEYWORD_ONLY:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        return args, kwargs

    def _key_of(self, values: list[Any]) -> str:
        assert self._key is not None
        args: list[Any] = []
        for parameter, value in zip(self._parameters, values):
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(value)
            else:
                args.append(value)
        key = self._key(*args)
        if not isinstance(key, str):
            raise TypeError(f"cache_key of {self._name} must give a string, not {key!r}")
        return str(key)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        values = self.bind(args, kwargs)
        options = self._options_text
        if self._key is not None and self._options["cache"] != "off":
            options += ',"cache_key":' + json.dumps(self._key_of(values))
        encoded = []
        for parameter, value in zip(self._parameters, values):
            try:
                encoded.append(_values.encode(value))
            except _values.Unserialisable as error:
                raise _values.Unserialisable(f"argument '{parameter.name}' of {self._name}: {error}") from None
        return f'{{"target":{self._target_text},"arguments":[{",".join(encoded)}],"options":{{{options}}}}}'

    def _request(self, context: Context, calls: list[str], wait: bool) -> list[dict[str, Any]]:
        params = f'{{"execution":"{context.execution}","calls":[{",".join(calls)}],"wait":{"true" if wait else "false"}}}'
        try:
            reply: list[dict[str, Any]] = context.connection.request("execution.call", params)["calls"]
        except IbidError as error:
            if error.kind == "unknown_target" and self._repository != "":
                raise IbidError(f"{error}; if its module is new, 'ibid register {self._repository}'", error.kind) from None
            raise
        return reply

    def spec(self) -> str:
        """The declaration as JSON, for the daemon."""
        parameters = []
        for parameter in self._parameters:
            default = "null"
            if parameter.default is not parameter.empty:
                try:
                    default = _values.encode(parameter.default)
                except _values.Unserialisable as error:
                    raise _values.Unserialisable(f"the default of '{parameter.name}' of {self._name}: {error}") from None
            wire = {"name": parameter.name, "kind": _KINDS[parameter.kind]}
            text = json.dumps(wire)[:-1]
            has_default = parameter.default is not parameter.empty
            parameters.append(text + (f',"default":{default}}}' if has_default else "}"))
        doc = inspect.getdoc(self._function)
        rest = {
            "name": self._name,
            "kind": self._kind,
            "options": self._options,
            "own_key": self._key is not None,
            "doc": doc.split("\n\n")[0] if doc else None,
            "source": _source_digest(self._function),
        }
        return json.dumps(rest, ensure_ascii=False)[:-1] + f',"parameters":[{",".join(parameters)}]}}'


def _source_digest(function: Callable[..., Any]) -> Optional[str]:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return None
    return hashlib.blake2b(source.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _decorator(kind: str, function: Any, options: dict[str, Any]) -> Any:
    if function is None:
        return lambda function: _declare(kind, function, options)
    return _declare(kind, function, options)


def _declare(kind: str, function: Any, options: dict[str, Any]) -> Any:
    if not inspect.isfunction(function):
        raise TypeError(f"@{kind} decorates functions, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"@{kind} cannot decorate the generator {function.__name__}: return a list instead")
    return Target(function, kind, options)


@overload
def task(function: Callable[P, R], /) -> Target[P, R]: ...
@overload
def task(
    *,
    name: Optional[str] = None,
    cache: Age = False,
    cache_key: Optional[Callable[..., str]] = None,
    cache_namespace: Optional[str] = None,
    cache_version: Optional[str] = None,
    retries: Retries = 0,
    delay: Span = 0,
    timeout: Optional[Span] = None,
) -> Callable[[Callable[P, R]], Target[P, R]]: ...
def task(
    function: Any = None,
    /,
    *,
    name: Optional[str] = None,
    cache: Age = False,
    cache_key: Optional[Callable[..., str]] = None,
    cache_namespace: Optional[str] = None,
    cache_version: Optional[str] = None,
    retries: Retries = 0,
    delay: Span = 0,
    timeout: Optional[Span] = None,
) -> Any:
    """Declares a function as a task: something that workflows and other tasks call.

    Inside an execution a call is scheduled by the daemon: ``f(x)`` waits for the
    result, ``f.submit(x)`` returns an `Execution` at once, ``f.map(xs)`` submits
    many. Outside an execution (a plain script, a test) the function just runs,
    uncached.

    Args:
        name: Its name; the function's own if absent.
        cache: ``False`` (the default) executes every call. ``True`` takes the result
            of an earlier call with the same arguments, of any age; a number of
            seconds or a ``timedelta`` takes one at most that old. A call that is
            being made right now is joined, not made twice. ``0`` is an age: it
            accepts no finished result but still joins.
        cache_key: A function of the arguments that gives a string; calls with the
            same string are the same call.
        cache_namespace: In place of ``"<module>:<name>"``. Two tasks with one
            namespace share results; a renamed one keeps its own.
        cache_version: Results of another version are not taken.
        retries: ``n``, ``(n, delay)`` or ``(n, min, max)``: how often a failed
            execution is tried again, with delays that grow linearly.
        delay: The earliest start after the call, in seconds or as a ``timedelta``.
        timeout: The longest time that an attempt may take, waiting included.

    Example::

        @task(cache=dt.timedelta(minutes=10), retries=(3, 1, 10))
        def latest_posts(user_id):
            return requests.get(f"https://example.com/{user_id}").json()
    """
    return _decorator("task", function, _options(locals()))


@overload
def workflow(function: Callable[P, R], /) -> Target[P, R]: ...
@overload
def workflow(
    *,
    name: Optional[str] = None,
    cache: Age = False,
    cache_key: Optional[Callable[..., str]] = None,
    cache_namespace: Optional[str] = None,
    cache_version: Optional[str] = None,
    retries: Retries = 0,
    delay: Span = 0,
    timeout: Optional[Span] = None,
) -> Callable[[Callable[P, R]], Target[P, R]]: ...
def workflow(
    function: Any = None,
    /,
    *,
    name: Optional[str] = None,
    cache: Age = False,
    cache_key: Optional[Callable[..., str]] = None,
    cache_namespace: Optional[str] = None,
    cache_version: Optional[str] = None,
    retries: Retries = 0,
    delay: Span = 0,
    timeout: Optional[Span] = None,
) -> Any:
    """Declares a function as a workflow: something that can be started by hand.

    ``ibid run module/name`` starts it and makes a run. Called from another target
    it is a call like any other, with a run of its own. The options are those of
    `task`; the cache settings apply only where it is called, because nobody
    evaluates them for a start by hand (``ibid run --use-cache`` opts in).
    """
    return _decorator("workflow", function, _options(locals()))


def _options(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "function"}
