"""One connection to the daemon: JSON-RPC lines over a local socket.

Any thread may ask. Whoever waits reads for all; with asyncio, the loop does.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import socket
import threading
from typing import Any, Optional

from ._errors import IbidError
from ._values import loads

__all__ = ["Connection", "ConnectionLost"]


_MESSAGE_MAX = 16 * 1024 * 1024


class ConnectionLost(IbidError):
    """The daemon went away."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the connection to the daemon was lost: {reason}", "lost")


class _Slot:
    """Where the answer to a request arrives."""

    __slots__ = ("done", "message", "future", "loop")

    def __init__(self) -> None:
        self.done = False
        self.message: Any = None
        self.future: Optional[asyncio.Future[None]] = None
        self.loop: Optional[asyncio.AbstractEventLoop] = None

    def fill(self, message: Any) -> None:
        self.message = message
        self.done = True
        if self.future is not None and self.loop is not None:
            self.loop.call_soon_threadsafe(_resolve, self.future)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Connection:
    """A connection. ``params`` are JSON text, so that values are encoded once."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._buffer = bytearray()
        self._slots: dict[int, _Slot] = {}
        self._next = 1
        self._notices: collections.deque[Any] = collections.deque()
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._news = threading.Condition()
        self._lost: Optional[str] = None
        self._spool: Optional[str] = None
        self._async_waiting: dict[asyncio.AbstractEventLoop, int] = {}

    def spool(self) -> str:
        """The directory where large values are handed over."""
        if self._spool is None:
            self._spool = str(self.request("hello", '{"client":"python"}')["spool"])
        return self._spool

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _send(self, data: bytes) -> None:
        with self._sending:
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise ConnectionLost(str(error)) from None

    def notify(self, method: str, params: str) -> None:
        """Says something that needs no answer."""
        self._send(_line(f'{{"jsonrpc":"2.0","method":"{method}","params":{params}}}\n'))

    def _ask(self, method: str, params: str) -> tuple[int, _Slot]:
        slot = _Slot()
        with self._sending:
            number = self._next
            self._next += 1
        line = _line(f'{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{params}}}\n')
        self._slots[number] = slot
        self._send(line)
        return number, slot

    def request(self, method: str, params: str) -> Any:
        """Asks and waits for the answer."""
        number, slot = self._ask(method, params)
        try:
            self._wait(slot)
        finally:
            self._slots.pop(number, None)
        return _result(slot.message)

    async def wait_async(self, execution: str, params: str) -> Any:
        """Waits inside an execution and lets the loop go on until the answer is there."""
        loop = asyncio.get_running_loop()
        slot_future: asyncio.Future[None] = loop.create_future()
        number, slot = self._ask("execution.wait", params)
        slot.loop, slot.future = loop, slot_future
        if slot.done:
            _resolve(slot_future)
        waiting = self._async_waiting.get(loop, 0)
        if waiting == 0:
            loop.add_reader(self._socket.fileno(), self._readable)
        self._async_waiting[loop] = waiting + 1
        try:
            if self._lost is not None and not slot.done:
                raise ConnectionLost(self._lost)
            await slot_future
        except asyncio.CancelledError:
            self.notify("execution.give_up", f'{{"execution":"{execution}","request":{number}}}')
            raise
        finally:
            self._async_waiting[loop] -= 1
            if self._async_waiting[loop] == 0:
                del self._async_waiting[loop]
                loop.remove_reader(self._socket.fileno())
            self._slots.pop(number, None)
        return _result(slot.message)

    def _readable(self) -> None:
        if self._reading.acquire(blocking=False):
            try:
                self._read(socket.MSG_DONTWAIT)  # a thread may have been faster
            except ConnectionLost:
                pass  # every waiting slot was told
            finally:
                self._reading.release()

    def _wait(self, slot: _Slot) -> None:
        while not slot.done:
            if self._reading.acquire(blocking=False):
                try:
                    while not slot.done:
                        self._read()
                finally:
                    self._reading.release()
                    with self._news:
                        self._news.notify_all()
            else:
                with self._news:
                    if not slot.done:
                        self._news.wait(0.05)

    def notice(self) -> Any:
        """Waits for something that the daemon says without being asked."""
        while not self._notices:
            # A thread that outlived its execution may be reading, for us too.
            if self._reading.acquire(timeout=0.05):
                try:
                    if not self._notices:
                        self._read()
                finally:
                    self._reading.release()
        return self._notices.popleft()

    def _read(self, flags: int = 0) -> None:
        """Reads once and hands out every whole message."""
        if self._lost is not None:
            raise ConnectionLost(self._lost)
        try:
            data = self._socket.recv(262144, flags)
        except BlockingIOError:
            return
        except OSError as error:
            data = b""
            reason = str(error)
        else:
            reason = "it was closed"
        if not data:
            self._lose(reason)
            raise ConnectionLost(reason)
        buffer = self._buffer
        start = len(buffer)
        buffer += data
        if b"\n" not in data:
            return
        end = buffer.rfind(b"\n", start)
        whole = bytes(buffer[:end])
        del buffer[: end + 1]
        for line in whole.split(b"\n"):
            self._dispatch(loads(line.decode("utf-8")))
        with self._news:
            self._news.notify_all()

    def _lose(self, reason: str) -> None:
        self._lost = reason
        for slot in list(self._slots.values()):
            slot.fill({"error": {"message": f"the connection to the daemon was lost: {reason}", "data": {"kind": "lost"}}})

    def _dispatch(self, message: Any) -> None:
        if "method" in message:
            self._notices.append(message)
            return
        number = message.get("id")
        slot = self._slots.get(number) if number is not None else None
        if slot is not None:
            slot.fill(message)


def _result(message: Any) -> Any:
    error = message.get("error")
    if error is None:
        return message.get("result")
    kind = (error.get("data") or {}).get("kind", "error")
    if kind == "lost":
        raise ConnectionLost(error.get("message", ""))
    raise IbidError(error.get("message", "refused"), kind)


def socket_path() -> str:
    """Where the daemon listens, found as every ibid program finds it."""
    own = os.environ.get("IBID_SOCKET")
    if own:
        return own
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "ibid.sock")
    data = os.environ.get("IBID_DATA_DIR")
    if not data:
        home = os.environ.get("XDG_DATA_HOME")
        data = os.path.join(home, "ibid") if home else os.path.expanduser("~/.local/share/ibid")
    return os.path.join(data, "ibid.sock")


def _line(text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    if len(data) > _MESSAGE_MAX:
        raise IbidError(
            f"a message of {len(data)} bytes is over the limit of 16 MiB; many values at once go as one list, which passes as a file",
            "too_large",
        )
    return data


def quote(text: str) -> str:
    """A JSON string."""
    return json.dumps(text)
