"""What an execution says of itself: messages, progress, figures, groups, checkpoints."""

from __future__ import annotations

import contextlib
import contextvars
import io
import json
import math
import time
from typing import Any, Iterable, Iterator, Optional, TypeVar

from . import _values
from ._errors import IbidError
from ._execution import Context, current

__all__ = ["OrderedOutput", "checkpoint", "current_group", "group", "metric", "progress", "write_log"]

T = TypeVar("T")

_INTERVAL = 0.05
"""Seconds between two reports of one loop."""

_group: "contextvars.ContextVar[Optional[str]]" = contextvars.ContextVar("group", default=None)


def current_group() -> Optional[str]:
    """The group that calls are made in just now."""
    return _group.get()


@contextlib.contextmanager
def group(name: str) -> Iterator[None]:
    """Shows the calls made inside as one row, with counts::

        with ibid.group("pages"):
            pages = fetch.map(urls)
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"a group has a name, not {name!r}")
    outer = _group.get()
    token = _group.set(name if outer is None else f"{outer} / {name}")
    try:
        yield
    finally:
        _group.reset(token)


def progress(items: Iterable[T], total: Optional[float] = None, label: str = "") -> Iterator[T]:
    """Goes through the items and reports how many are done, shown as a bar while the execution runs.

    ``total`` is the number of items where they don't know it themselves; several
    loops of one execution are told apart by their ``label``.
    """
    if total is None:
        try:
            total = len(items)  # type: ignore[arg-type]
        except TypeError:
            total = None
    context = current()
    if context is None:
        yield from items
        return
    done, told = 0, time.monotonic()
    _report(context, label, done, total)
    try:
        for item in items:
            yield item
            done += 1
            now = time.monotonic()
            if now - told >= _INTERVAL:
                told = now
                _report(context, label, done, total)
    finally:
        _report(context, label, done, total)


def metric(name: str, value: float) -> None:
    """Reports a named figure, shown while the execution runs."""
    context = current()
    if context is not None and math.isfinite(value):
        figures = f"[[{json.dumps(name)},{float(value)!r}]]"
        context.connection.notify("execution.progress", f'{{"execution":"{context.execution}","metrics":{figures}}}')


def _report(context: Context, label: str, done: float, total: Optional[float]) -> None:
    of = "null" if total is None else repr(float(total))
    told = f'{{"execution":"{context.execution}","label":{json.dumps(label)},"done":{float(done)!r},"total":{of}}}'
    context.connection.notify("execution.progress", told)


def checkpoint(*args: Any, **kwargs: Any) -> None:
    """Inside a sensor: what it is started with the next time, in place of its arguments.

    Returns when it is stored: whatever happens from then on, the sensor goes on
    from there. Outside an execution it does nothing.
    """
    context = current()
    if context is None:
        return
    if context.bind is None:
        raise RuntimeError("a checkpoint belongs to a sensor, and this execution is not one's")
    arguments = ",".join(context.bind(args, kwargs))
    context.connection.request(
        "execution.checkpoint", f'{{"execution":"{context.execution}","arguments":[{arguments}]}}'
    )


class OrderedOutput(io.FileIO):
    """Standard output or error: what is written after a message comes after it in the log.

    The two take different ways to the daemon, so before the first output that
    follows a message the daemon must have heard that.
    """

    def write(self, data: Any, /) -> int:
        context = current()
        if context is not None and context.unheard:
            context.unheard = False
            try:
                context.connection.request("ping", "{}")
            except IbidError:
                pass  # the daemon is gone, and the order with it
        return super().write(data)


_TEXT_MAX = 1024 * 1024


def _shown(value: Any) -> str:
    try:
        text = _values.encode(value)
    except Exception:
        return json.dumps(f"<{type(value).__qualname__}>")
    if text.startswith('{"$type":"python"'):
        # Nobody reads a pickle: shown is what Python shows.
        return json.dumps(repr(value)[:_TEXT_MAX], ensure_ascii=False)
    return text if len(text) <= _TEXT_MAX else json.dumps(f"<{type(value).__qualname__}, {len(text)} characters>")


def write_log(level: str, template: str, values: dict[str, Any]) -> None:
    """Adds a message to the log of the running execution; outside one, prints it."""
    try:
        text = template.format(**values) if values else template
    except Exception:  # a message that cannot be made must not end the task
        text = template
    context = current()
    if context is None:
        print(f"{level}: {text}")
        return
    encoded = ",".join(f"[{json.dumps(name)},{_shown(value)}]" for name, value in values.items())
    told = json.dumps(text[:_TEXT_MAX], ensure_ascii=False)
    line = f'{{"at":{int(time.time() * 1000)},"level":"{level}","text":{told},"values":[{encoded}]}}'
    context.connection.notify("execution.log", f'{{"execution":"{context.execution}","lines":[{line}]}}')
    context.unheard = True
