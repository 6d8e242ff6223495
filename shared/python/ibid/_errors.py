"""What can go wrong with an execution, as exceptions."""

from __future__ import annotations

import base64
import pickle
import traceback
from typing import Any, Optional

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
    except Exception:  # an exception that cannot be rebuilt is told by its words alone
        original = None
    try:
        message = str(error)
    except Exception as broken:
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
        "kind": type(error).__qualname__ if type(error).__module__ in ("builtins", "__main__") else f"{type(error).__module__}.{type(error).__qualname__}",
        "message": message[:10_000],
        "traceback": "".join(frames.format())[-50_000:],
        "original": original,
    }


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
    original = _original(error.get("original"))
    message = f"{kind}: {error.get('message', '')}" if kind != "Cancelled" else error.get("message", "cancelled")
    rebuilt: ExecutionError
    if original is not None:
        rebuilt = _both(original)
    elif state == "cancelled":
        rebuilt = Cancelled(message)
    else:
        rebuilt = ExecutionError(message)
    rebuilt.execution = execution
    rebuilt.state = state
    rebuilt.kind = kind
    rebuilt.remote_traceback = error.get("traceback")
    note = f"execution {execution}" if execution else "another execution"
    if rebuilt.remote_traceback:
        note += f", which failed with:\n{rebuilt.remote_traceback.rstrip()}"
    rebuilt.__cause__ = _Remote(note)
    return rebuilt


class _Remote(Exception):
    """Shows the remote traceback above the local one, as a cause."""

    def __str__(self) -> str:
        return "in " + str(self.args[0])


def _original(wire: Any) -> Optional[BaseException]:
    if not isinstance(wire, dict) or "pickle" not in wire:
        return None
    try:
        error = pickle.loads(base64.b64decode(wire["pickle"]))
    except Exception:  # its type is not importable here: its words are all there is
        return None
    return error if isinstance(error, Exception) else None


def _both(original: BaseException) -> ExecutionError:
    kind = type(original)
    if isinstance(original, ExecutionError):
        return original
    try:
        combined = type(kind.__name__, (ExecutionError, kind), {"__module__": kind.__module__, "__reduce__": lambda self: (_again, (original,))})
        error = combined.__new__(combined)
        error.args = original.args
        error.__dict__.update(original.__dict__)
        for name in ("errno", "strerror", "filename", "filename2", "name", "path", "value", "code"):
            if hasattr(original, name) and not hasattr(error, name):
                setattr(error, name, getattr(original, name))
        str(error)
        return error
    except Exception:  # types that cannot be combined (fixed layouts, own metaclasses)
        return ExecutionError(f"{kind.__qualname__}: {original}")


def _again(original: BaseException) -> BaseException:
    return _both(original)
