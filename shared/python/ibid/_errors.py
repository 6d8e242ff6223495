"""What can go wrong with an execution, as exceptions."""

from __future__ import annotations

import base64
import pickle
import traceback
from typing import Any, Optional, cast

__all__ = ["ExecutionError", "Cancelled", "IbidError"]


class IbidError(Exception):
    """The daemon refused something; ``kind`` is its stable name."""

    def __init__(self, message: str, kind: str = "error") -> None:
        super().__init__(message)
        self.kind = kind


class ExecutionError(Exception):
    """An execution ended without a result.

    Where the original exception can be rebuilt, what is raised is an instance of
    both this class and the original's type, so ``except ValueError`` works too.

    Attributes:
        execution: The id of the execution that really failed, e.g. ``"R12:3.1"``.
        state: ``"failed"``, ``"timed_out"``, ``"abandoned"`` or ``"cancelled"``.
        kind: The name of the original exception's type.
        remote_traceback: Where it happened, as text.
    """

    execution: Optional[str] = None
    state: str = "failed"
    kind: str = "Error"
    remote_traceback: Optional[str] = None


class Cancelled(ExecutionError):
    """The execution was cancelled."""


def describe(error: BaseException) -> dict[str, Any]:
    """The wire form of an exception: kind, message, traceback and, if possible, a pickle of it."""
    original = None
    try:
        text = pickle.dumps(error)
        pickle.loads(text)
        if len(text) <= 64 * 1024:
            original = {"pickle": base64.b64encode(text).decode("ascii")}
    except BaseException:  # an exception that cannot be rebuilt is told by its words alone
        original = _parts(error)
    try:
        message = str(error)
    except BaseException as broken:
        message = f"(its message cannot be made: {broken!r})"
    frames = traceback.TracebackException.from_exception(error)
    own = [
        index
        for index, frame in enumerate(frames.stack)
        if frame.filename.endswith(("/ibid/_worker.py", "/ibid/_execution.py"))
    ]
    # What the reader wants begins after the worker's own frames.
    if own and own[0] == 0:
        del frames.stack[: _leading(own)]
    return {
        "kind": type(error).__qualname__ if type(error).__module__ in ("builtins", "__main__", "ibid") else f"{type(error).__module__}.{type(error).__qualname__}",
        "message": message[:10_000],
        "traceback": _cut("".join(frames.format())),
        "original": original,
    }


def _cut(text: str) -> str:
    """A long text by its beginning and its end, which says what went wrong."""
    if len(text) <= 20_000:
        return text
    return f"{text[:4_000]}\n\n  … {len(text) - 20_000} characters are left out …\n\n{text[-16_000:]}"


def _parts(error: BaseException) -> Optional[dict[str, str]]:
    """For exceptions whose ``__init__`` takes something else than ``args``."""
    try:
        text = pickle.dumps((type(error), error.args, dict(vars(error))))
        return {"parts": base64.b64encode(text).decode("ascii")} if len(text) <= 64 * 1024 else None
    except BaseException:
        return None


def _leading(indices: list[int]) -> int:
    count = 0
    for position, index in enumerate(indices):
        if position != index:
            break
        count += 1
    return count


def rebuild(outcome: dict[str, Any]) -> ExecutionError:
    """The exception for an outcome without a value."""
    error = outcome.get("error") or {}
    state = outcome.get("state", "failed")
    kind = error.get("kind", "Error")
    execution = outcome.get("execution")
    message = f"{kind}: {error.get('message', '')}" if kind != "Cancelled" else error.get("message", "cancelled")
    rebuilt: ExecutionError
    both = _both(error.get("original"))
    if both is not None:
        rebuilt = both
    elif state == "cancelled":
        rebuilt = Cancelled(message)
    else:
        rebuilt = ExecutionError(message)
    rebuilt.execution = execution
    rebuilt.state = state
    if type(rebuilt) not in (ExecutionError, Cancelled) or both is None:
        rebuilt.kind = kind  # else it was told by its words alone, and has the first one's kind
    rebuilt.remote_traceback = error.get("traceback")
    note = f"execution {execution}" if execution else "another execution"
    if rebuilt.remote_traceback:
        note += f", which failed with:\n{rebuilt.remote_traceback.rstrip()}"
    rebuilt.__cause__ = RemoteTraceback(note)
    return rebuilt


class RemoteTraceback(Exception):
    """Shows the remote traceback above the local one, as a cause."""

    def __str__(self) -> str:
        return "in " + str(self.args[0])


def _original(wire: Any) -> Optional[BaseException]:
    if not isinstance(wire, dict) or not ("pickle" in wire or "parts" in wire):
        return None
    try:
        if "parts" in wire:
            kind, arguments, members = pickle.loads(base64.b64decode(wire["parts"]))
            error = kind.__new__(kind, *arguments)
            error.args = arguments
            error.__dict__.update(members)
        else:
            error = pickle.loads(base64.b64decode(wire["pickle"]))
    except Exception:  # its type is not importable here: its words are all there is
        return None
    return error if isinstance(error, Exception) else None


def _both(wire: Any) -> Optional[ExecutionError]:
    """An instance of both this package's error and the original's type, if there can be one."""
    original = _original(wire)
    if original is None or isinstance(original, ExecutionError):
        return original
    kind = type(original)
    namespace = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__reduce__": lambda self: (_both, (wire,))}
    metaclass: Any = type(kind)
    try:
        combined: Any = metaclass(kind.__name__, (ExecutionError, kind), namespace)
        error: Any = original
        try:
            error.__class__ = combined  # keeps everything, and calls no code of the type
        except TypeError:  # built-in types: made anew
            reduced: Any = original.__reduce_ex__(4)
            error = combined(*reduced[1])
            if len(reduced) > 2 and reduced[2]:
                error.__setstate__(reduced[2])
        str(error)
    except Exception:  # types that cannot be combined (fixed layouts, own metaclasses)
        return None
    return cast(ExecutionError, error)


# Shown to people, they are what `ibid` exports, wherever they are written.
for _public in (IbidError, ExecutionError, Cancelled, RemoteTraceback):
    _public.__module__ = "ibid"
