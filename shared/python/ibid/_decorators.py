"""The decorators: task, workflow, sensor, stub."""

from __future__ import annotations

from typing import Any, Callable, Optional, ParamSpec, TypeVar, overload

from ._targets import Age, Defer, Key, Memo, Retries, Span, Target, Waited, _check, declare

__all__ = ["sensor", "stub", "task", "workflow"]

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


@overload
def task(function: Callable[P, R], /) -> Target[P, R]: ...
@overload
def task(
    *,
    name: Optional[str] = None,
    wait: Waited = False,
    cache: Age = False,
    cache_key: Optional[Key] = None,
    cache_namespace: Optional[str] = None,
    cache_version: Optional[str] = None,
    retries: Retries = 0,
    defer: Defer = False,
    defer_max_wait: Optional[Span] = None,
    delay: Span = 0,
    memo: Memo = None,
    timeout: Optional[Span] = None,
) -> Callable[[Callable[P, R]], Target[P, R]]: ...
def task(
    function: Any = None,
    /,
    *,
    name: Optional[str] = None,
    wait: Waited = False,
    cache: Age = False,
    cache_key: Optional[Key] = None,
    cache_namespace: Optional[str] = None,
    cache_version: Optional[str] = None,
    retries: Retries = 0,
    defer: Defer = False,
    defer_max_wait: Optional[Span] = None,
    delay: Span = 0,
    memo: Memo = None,
    timeout: Optional[Span] = None,
) -> Any:
    """Declares a function as a task: something that workflows and other tasks call.

    Inside an execution a call is scheduled by the daemon: ``f(x)`` waits for the
    result, ``f.submit(x)`` returns an `Execution` at once, ``f.map(xs)`` submits
    many. Outside an execution (a plain script, a test) the function just runs,
    uncached.

    Args:
        name: Its name; the function's own if absent.
        wait: ``True`` starts it only when the calls that its arguments refer to
            (`Execution` objects, anywhere inside them) have ended, well or badly;
            a name or several do so for those parameters.
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
        defer: ``True`` lets a newer call take the place of one that is still queued,
            whose callers then get the newer one's result: a burst of calls executes
            once, with the last arguments. Use it together with ``delay``. A function
            of the arguments that gives a string does so among calls with the same
            string.
        defer_max_wait: A burst is put off no longer than this after its first call.
        delay: The earliest start after the call, in seconds or as a ``timedelta``.
        memo: ``True`` answers a call with an earlier call of the same run that had
            the same arguments, if that is unfinished or succeeded; a function of
            the arguments that gives a string compares those. ``False`` refuses it
            where the run's workflow has made it the default.
        timeout: The longest time that an attempt may take, waiting included.

    A single call can differ: ``f.with_cache(False)(x)``, ``f.with_retries(3)``,
    ``.with_delay``, ``.with_timeout``, ``.with_defer``, ``.with_memo``.

    Example::

        @task(cache=dt.timedelta(minutes=10), retries=(3, 1, 10))
        def latest_posts(user_id):
            return requests.get(f"https://example.com/{user_id}").json()
    """
    return declare("task", function, _options(locals()))


@overload
def workflow(function: Callable[P, R], /) -> Target[P, R]: ...
@overload
def workflow(
    *,
    name: Optional[str] = None,
    wait: Waited = False,
    cache: Age = False,
    cache_key: Optional[Key] = None,
    cache_namespace: Optional[str] = None,
    cache_version: Optional[str] = None,
    retries: Retries = 0,
    defer: Defer = False,
    defer_max_wait: Optional[Span] = None,
    delay: Span = 0,
    memo: Memo = None,
    timeout: Optional[Span] = None,
) -> Callable[[Callable[P, R]], Target[P, R]]: ...
def workflow(
    function: Any = None,
    /,
    *,
    name: Optional[str] = None,
    wait: Waited = False,
    cache: Age = False,
    cache_key: Optional[Key] = None,
    cache_namespace: Optional[str] = None,
    cache_version: Optional[str] = None,
    retries: Retries = 0,
    defer: Defer = False,
    defer_max_wait: Optional[Span] = None,
    delay: Span = 0,
    memo: Memo = None,
    timeout: Optional[Span] = None,
) -> Any:
    """Declares a function as a workflow: something that can be started by hand.

    ``ibid run module/name`` starts it and makes a run. Called from another target
    it is a call like any other, with a run of its own. The options are those of
    `task`, with two differences. ``memo=True`` is also the default for every call
    in its run. The cache settings, and functions of the arguments, apply only
    where it is called, because nobody evaluates them for a start by hand
    (``ibid run --use-cache`` opts in).
    """
    return declare("workflow", function, _options(locals()))


@overload
def sensor(function: Callable[P, R], /) -> Target[P, R]: ...
@overload
def sensor(*, name: Optional[str] = None) -> Callable[[Callable[P, R]], Target[P, R]]: ...
def sensor(function: Any = None, /, *, name: Optional[str] = None) -> Any:
    """Declares a function as a sensor: something that is kept running and starts workflows.

    ``ibid sensor start module/name`` starts it; from then on it is started again
    whenever it ends, crashes or the daemon restarts, until ``ibid sensor stop``.
    What it passes to `checkpoint` is what it is started with the next time.
    Workflows that it calls get runs of their own, which outlive it.

    Example::

        @sensor()
        def ticks(beat=0):
            while True:
                report.submit(beat)
                beat += 1
                checkpoint(beat)
                time.sleep(60)
    """
    return declare("sensor", function, {"name": name})


def stub(
    repository: str,
    /,
    *,
    name: Optional[str] = None,
    wait: Waited = False,
    cache: Age = False,
    cache_key: Optional[Key] = None,
    cache_namespace: Optional[str] = None,
    cache_version: Optional[str] = None,
    retries: Retries = 0,
    defer: Defer = False,
    defer_max_wait: Optional[Span] = None,
    delay: Span = 0,
    memo: Memo = None,
    timeout: Optional[Span] = None,
) -> Callable[[Callable[P, R]], Target[P, R]]:
    """Declares a target of another repository, so that it can be called from this one.

    The function gives the signature; its body runs only outside an execution. The
    options are those of `task`; they are the caller's, so they are given here
    whatever the target itself declares.

    Example::

        @stub("shop.prices", cache=3600)
        def price(product): ...
    """
    options = {key: value for key, value in locals().items() if key != "repository"}

    def declared(function: Callable[P, R]) -> Target[P, R]:
        _check("stub", function)
        return Target(function, "stub", repository, options)

    return declared


def _options(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "function"}
