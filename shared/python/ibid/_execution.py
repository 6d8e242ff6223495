"""Calls as objects, and the execution that this process is in the middle of."""

from __future__ import annotations

import os
from contextlib import contextmanager
from itertools import islice
from typing import Any, Callable, Generator, Generic, Iterator, Optional, TypeVar, cast
from weakref import WeakValueDictionary

from . import _blobs, _values
from ._connection import Connection
from ._errors import rebuild

__all__ = ["Execution", "Context", "current"]

T = TypeVar("T", covariant=True)

ASKED_ALONG = 64
"""So many other calls are asked for with one that is waited for: whoever asks for one after the other has them then."""


class Context:
    """What a worker knows of the execution that it runs."""

    def __init__(self, connection: Connection, execution: str, bind: Optional[Callable[..., list[str]]] = None) -> None:
        self.connection = connection
        self.execution = execution
        self.unheard = False
        """Whether a message was sent that the daemon may not have heard yet."""
        self.bind = bind
        """The wire form of arguments for the target that runs."""
        self.open: WeakValueDictionary[str, Execution[Any]] = WeakValueDictionary()
        """Handles whose calls are not known to have ended, in the order of the calls."""
        self.asking = False
        """Whether a wait asks for other calls; one at a time does, or all would ask for the same."""

    @contextmanager
    def ask_along(self, id: str) -> Iterator[str]:
        """For a wait for one call: results of others that are likely to be next come with its answer."""
        if self.asking:
            yield ""
            return
        self.asking = True
        try:
            others = [f'"{other}"' for other in islice(self.open.keys(), ASKED_ALONG) if other != id]
        except RuntimeError:  # another thread makes calls right now
            others = []
        try:
            yield f',"also":[{",".join(others)}]'
        finally:
            self.asking = False

    def note(self, ended: list[dict[str, Any]]) -> None:
        """Keeps the outcomes that came with another."""
        for call in ended:
            execution = self.open.pop(call["step"], None)
            if execution is not None:
                execution._outcome = call["outcome"]


_current: Optional[Context] = None


def current() -> Optional[Context]:
    """The execution that this process runs, if it runs one."""
    return _current


os.register_at_fork(after_in_child=lambda: set_current(None))  # the connection stays the parent's


def set_current(context: Optional[Context]) -> None:
    global _current
    _current = context


class Execution(Generic[T]):
    """A call that was submitted: a handle on its result.

    It can be passed to other targets as an argument and returned as a result; in
    both it stands for the call, and counts by the value that the call leads to.
    """

    __slots__ = ("_id", "_outcome", "_local", "__weakref__")

    def __init__(self, id: str, outcome: Optional[dict[str, Any]] = None) -> None:
        self._id = id
        self._outcome = outcome if outcome and _ended(outcome) else None
        self._local: Optional[tuple[bool, Any]] = None
        if outcome and self._outcome is None and _current is not None:
            _current.open[id] = self

    @classmethod
    def _finished(cls, ok: bool, value: Any) -> "Execution[Any]":
        """One that has already run here, outside the daemon."""
        execution: Execution[Any] = cls("local")
        execution._local = (ok, value)
        return execution

    @property
    def id(self) -> str:
        """The id of the call, e.g. ``"R12:3"``; ``"local"`` outside an execution."""
        return self._id

    def __repr__(self) -> str:
        return f"<Execution {self._id}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Execution):
            return NotImplemented
        return self is other or (self._id == other._id and self._id != "local")

    def __hash__(self) -> int:
        return hash(self._id) if self._id != "local" else object.__hash__(self)

    def result(self) -> T:
        """Waits for the result and returns it; the slot of the caller is free meanwhile.

        Raises:
            ExecutionError: If the call failed; also an instance of the original type
                where that can be rebuilt.
        """
        if self._local is not None:
            return cast(T, self._local_result())
        if self._outcome is None:
            self._wait(None)
        return cast(T, _value(self._outcome))

    def poll(self, timeout: Optional[float] = None) -> Optional[T]:
        """The result if it is there, else ``None``.

        With a ``timeout`` (seconds) waits at most that long, and gives the slot up
        meanwhile; without one only asks.
        """
        if self._local is not None:
            return cast(T, self._local_result())
        if self._outcome is None:
            self._wait(0.0 if timeout is None else timeout)
        return None if self._outcome is None else cast(T, _value(self._outcome))

    def cancel(self) -> None:
        """Withdraws the interest in the result. The work stops if nobody else wants it."""
        context = _current
        if self._local is None and context is not None:
            from ._errors import IbidError

            try:
                context.connection.request("cancel", f'{{"id":"{self._id}"}}')
            except IbidError as error:
                if error.kind != "already_ended":
                    raise

    def __await__(self) -> Generator[Any, None, T]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> T:
        if self._local is not None:
            return cast(T, self._local_result())
        if self._outcome is None:
            context = _require(self._id)
            with context.ask_along(self._id) as along:
                params = f'{{"execution":"{context.execution}","step":"{self._id}"{along}}}'
                self._heard(context, await context.connection.wait_async(context.execution, params))
        return cast(T, _value(self._outcome))

    def _local_result(self) -> Any:
        assert self._local is not None
        ok, value = self._local
        if ok:
            return value
        raise value

    def _wait(self, timeout: Optional[float]) -> None:
        context = _require(self._id)
        params = f'{{"execution":"{context.execution}","step":"{self._id}"'
        if timeout is not None:
            params += f',"timeout":{max(0, int(timeout * 1000))}'
            self._heard(context, context.connection.request("execution.wait", params + "}"))
            return
        with context.ask_along(self._id) as along:
            self._heard(context, context.connection.request("execution.wait", f"{params}{along}}}"))

    def _heard(self, context: Context, reply: dict[str, Any]) -> None:
        context.note(reply["also"])
        if reply["outcome"] is not None:
            self._outcome = reply["outcome"]
            context.open.pop(self._id, None)


def _require(id: str) -> Context:
    if _current is None:
        raise RuntimeError(f"{id} belongs to a run; its result can be asked for only inside an execution")
    return _current


def _ended(outcome: dict[str, Any]) -> bool:
    return outcome.get("value") is not None or outcome.get("error") is not None or outcome.get("state") == "succeeded"


def value_of(outcome: Optional[dict[str, Any]], resolve: Callable[[str], Any]) -> Any:
    """The result, with the results of other calls in place of the references to them."""
    if outcome is None or outcome["state"] != "succeeded":
        raise rebuild(outcome or {})
    return _values.decode_result(_blobs.take(outcome.get("value")), resolve)


def _value(outcome: Optional[dict[str, Any]]) -> Any:
    return value_of(outcome, lambda id: Execution(id).result())


_values.execution_type = Execution
_values.make_execution = Execution
