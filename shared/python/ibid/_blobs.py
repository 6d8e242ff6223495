"""Large values: files that are handed to the daemon, and read from it, instead of messages."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

from . import _values

if TYPE_CHECKING:
    from ._connection import Connection

__all__ = ["hand_over", "take"]

_LARGE = 64 * 1024
_PIECE = 1024 * 1024


def hand_over(connection: "Connection", text: str) -> str:
    """What a message says for a value: its text, or of a large one the name that the daemon gave it."""
    if len(text) * 4 < _LARGE or (len(text) < _LARGE and len(text.encode("utf-8")) < _LARGE):
        return text
    name = f"value-{os.getpid()}-{uuid.uuid4().hex}"
    path = os.path.join(connection.spool(), name)
    try:
        with open(path, "wb", opener=_private) as file:
            for start in range(0, len(text), _PIECE):
                file.write(text[start : start + _PIECE].encode("utf-8"))
        blob = connection.request("blob.put", f'{{"name":"{name}"}}')
    except BaseException:
        if os.path.exists(path):
            os.unlink(path)
        raise
    return f'{{"$type":"blob","hash":"{blob["hash"]}","size":{blob["size"]}}}'


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def take(wire: Any) -> Any:
    """The wire form of a value, also where a message only names it."""
    if type(wire) is dict and wire.get("$type") == "blob":
        with open(wire["path"], encoding="utf-8") as file:
            return _values.loads(file.read())
    return wire
