"""What the decorators make of functions: something to call, submit and map."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import inspect
import json
import math
from typing import Any, Callable, Coroutine, Generic, Iterable, Optional, ParamSpec, TypeVar, Union, cast, overload

from . import _blobs, _values
from ._execution import Context, Execution, current
from ._errors import IbidError, rebuild
from ._reports import current_group

__all__ = ["Age", "Key", "Memo", "Defer", "Retries", "Span", "Target", "Waited", "declare"]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")

Age = Union[bool, int, float, dt.timedelta]
Span = Union[int, float, dt.timedelta]
Retries = Union[int, tuple[int, Span], tuple[int, Span, Span]]
Key = Callable[..., str]
Memo = Union[bool, Key, None]
Defer = Union[bool, Key]
Waited = Union[bool, str, Iterable[str]]

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


def _memo(value: Any) -> Any:
    if value is None or callable(value):
        return "inherit"
    if not isinstance(value, bool):
        raise TypeError(f"memo must be True, False or a function of the arguments that gives a string, not {value!r}")
    return "arguments" if value else "off"


def _defer(value: Any, max_wait: Any) -> Any:
    if not isinstance(value, bool) and not callable(value):
        raise TypeError(f"defer must be True, False or a function of the arguments that gives a string, not {value!r}")
    longest = None if max_wait is None else _milliseconds(max_wait, "defer_max_wait")
    return {"key": None, "max_wait": longest} if value is not False else None


def _wait(value: Any, names: list[str], target: str) -> Any:
    if isinstance(value, bool):
        return "all" if value else "no"
    wanted = [value] if isinstance(value, str) else list(value)
    for name in wanted:
        if name not in names:
            raise ValueError(f"wait of {target} names '{name}', which is not one of its parameters: {', '.join(names)}")
    return {"positions": [names.index(name) for name in wanted]}


_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional_or_keyword",
    inspect.Parameter.VAR_POSITIONAL: "var_positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
    inspect.Parameter.VAR_KEYWORD: "var_keyword",
}


class Target(Generic[P, R]):
    """A decorated function. Call it; or ``submit`` it to get an `Execution` at once."""

    def __init__(self, function: Callable[P, R], kind: str, repository: str, options: dict[str, Any]) -> None:
        functools.update_wrapper(cast(Any, self), function)
        self._function = function
        self._kind = kind
        self._name: str = options["name"] or function.__name__
        self._repository = repository
        self._async = inspect.iscoroutinefunction(function)
        self._signature = inspect.signature(function)
        self._parameters = list(self._signature.parameters.values())
        self._plain = all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in self._parameters)
        self._given = options
        self._settle()

    def _settle(self) -> None:
        """Reads the options, and writes their wire form once; what each call adds is put in between."""
        given = self._given
        key: Any = given.get("cache_key")
        if key is not None and not callable(key):
            raise TypeError(f"cache_key of {self._name} must be a function of the arguments that gives a string")
        for name in ("cache_namespace", "cache_version"):
            value = given.get(name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} of {self._name} must be a string, not {value!r}")
        self._key: Optional[Key] = cast(Optional[Key], key)
        memo: Any = given.get("memo")
        defer: Any = given.get("defer", False)
        self._memo_key: Optional[Key] = cast(Key, memo) if callable(memo) else None
        self._defer_key: Optional[Key] = cast(Key, defer) if callable(defer) else None
        names = [parameter.name for parameter in self._parameters]
        timeout = given.get("timeout")
        self._options: dict[str, Any] = {
            "cache": _cache(given.get("cache", False)),
            "cache_namespace": given.get("cache_namespace"),
            "cache_version": given.get("cache_version"),
            "retries": _retries(given.get("retries", 0)),
            "delay": _milliseconds(given.get("delay", 0), "delay"),
            "timeout": None if timeout is None else _milliseconds(timeout, "timeout"),
            "wait": _wait(given.get("wait", False), names, self._name),
            "memo": _memo(memo),
            "defer": _defer(defer, given.get("defer_max_wait")),
        }
        evaluated = [name for name, key in (("memo", self._memo_key), ("defer", self._defer_key)) if key is not None]
        self._options_text = json.dumps({name: value for name, value in self._options.items() if name not in evaluated})[1:-1]
        self._target_text = json.dumps(f"{self._repository}/{self._name}")

    def _with(self, **changed: Any) -> "Target[P, R]":
        other: Target[P, R] = object.__new__(type(self))  # copies by name otherwise, as functions do
        other.__dict__.update(self.__dict__)
        other._given = {**self._given, **changed}
        other._settle()
        return other

    def with_cache(self, cache: Age) -> "Target[P, R]":
        """The same target with another ``cache`` setting, for calls made through it."""
        return self._with(cache=cache)

    def with_retries(self, retries: Retries) -> "Target[P, R]":
        """The same target with other ``retries``, for calls made through it."""
        return self._with(retries=retries)

    def with_delay(self, delay: Span) -> "Target[P, R]":
        """The same target with another ``delay``, for calls made through it."""
        return self._with(delay=delay)

    def with_timeout(self, timeout: Optional[Span]) -> "Target[P, R]":
        """The same target with another ``timeout``, for calls made through it."""
        return self._with(timeout=timeout)

    def with_defer(self, defer: Defer, max_wait: Optional[Span] = None) -> "Target[P, R]":
        """The same target with another ``defer`` setting, for calls made through it."""
        return self._with(defer=defer, defer_max_wait=max_wait)

    def with_memo(self, memo: Memo) -> "Target[P, R]":
        """The same target with another ``memo`` setting, for calls made through it."""
        return self._with(memo=memo)

    def __reduce__(self) -> str:
        return self._function.__qualname__  # pickled by name, as functions are

    def __repr__(self) -> str:
        return f"<{self._kind} {self._repository}/{self._name}>"

    @property
    def kind(self) -> str:
        """``task``, ``workflow``, ``sensor`` or ``stub``."""
        return self._kind

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
        reply = self._request(context, [self._call(context, args, kwargs)], wait=True)
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
        [called] = self._request(context, [self._call(context, args, kwargs)], wait=False)
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
        calls: list[str] = []
        size = 0
        for position, args in enumerate(arguments):
            calls.append(self._call(context, args, {}))
            size += len(calls[-1])
            if len(calls) == 1000 or size > 1024 * 1024 or position + 1 == len(arguments):
                called = self._request(context, calls, wait=False)
                executions.extend(Execution(one["step"], one["outcome"]) for one in called)
                calls, size = [], 0
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

    def _key_of(self, option: str, key: Key, values: list[Any]) -> str:
        args: list[Any] = []
        for parameter, value in zip(self._parameters, values):
            if parameter.kind is parameter.VAR_POSITIONAL:
                args.extend(value)
            else:
                args.append(value)
        made = key(*args)
        if not isinstance(made, str):
            raise TypeError(f"{option} of {self._name} must give a string, not {made!r}")
        return json.dumps(str(made))

    def _call(self, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        values = self.bind(args, kwargs)
        options = self._options_text
        if self._key is not None and self._options["cache"] != "off":
            options += f',"cache_key":{self._key_of("cache_key", self._key, values)}'
        if self._memo_key is not None:
            options += f',"memo":{{"key":{self._key_of("memo", self._memo_key, values)}}}'
        if self._defer_key is not None:
            longest = json.dumps(self._options["defer"]["max_wait"])
            options += f',"defer":{{"key":{self._key_of("defer", self._defer_key, values)},"max_wait":{longest}}}'
        group = current_group()
        grouped = "" if group is None else f',"group":{json.dumps(group)}'
        encoded = self.encode_arguments(context, values)
        return f'{{"target":{self._target_text},"arguments":[{",".join(encoded)}],"options":{{{options}}}{grouped}}}'

    def encode_arguments(self, context: Context, values: list[Any]) -> list[str]:
        """The wire form of arguments in the order of the signature."""
        encoded = []
        for parameter, value in zip(self._parameters, values):
            try:
                encoded.append(_blobs.hand_over(context.connection, _values.encode(value)))
            except _values.Unserialisable as error:
                raise _values.Unserialisable(f"argument '{parameter.name}' of {self._name}: {error}") from None
        return encoded

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
        options = dict(self._options)
        if self._defer_key is not None:
            options["defer"] = None  # only a caller can evaluate it
        rest = {
            "name": self._name,
            "kind": self._kind,
            "options": options,
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


def declare(kind: str, function: Any, options: dict[str, Any]) -> Any:
    """Makes a target of a function and remembers it; without a function, what does so."""
    if function is None:
        return lambda function: declare(kind, function, options)
    _check(kind, function)
    target = Target(function, kind, function.__module__, options)
    name = (function.__module__, target._name)
    known = registry.get(name)
    if known is not None and known._function.__qualname__ != function.__qualname__:
        raise ValueError(
            f"{name[0]} declares two targets named '{name[1]}': {known._function.__qualname__} and {function.__qualname__}"
        )
    registry[name] = target
    return target


def _check(kind: str, function: Any) -> None:
    if not inspect.isfunction(function):
        raise TypeError(f"@{kind} decorates functions, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"@{kind} cannot decorate the generator {function.__name__}: return a list instead")
