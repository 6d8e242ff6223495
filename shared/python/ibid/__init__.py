"""Tasks whose results are remembered.

Decorate functions with `task`, `workflow` and `sensor`, make them known with
``ibid register MODULE``, and start workflows with ``ibid run MODULE/NAME``::

    from ibid import task, workflow

    @task(cache=True)
    def add(a, b):
        return a + b

    @workflow()
    def total():
        return add(add(1, 2), 3)
"""

from __future__ import annotations

from typing import Any

from ._decorators import sensor, stub, task, workflow
from ._errors import Cancelled, ExecutionError, IbidError
from ._execution import Execution
from ._reports import checkpoint, group, metric, progress, write_log
from ._start import run
from ._targets import Target

__all__ = [
    "Cancelled",
    "Execution",
    "ExecutionError",
    "IbidError",
    "Target",
    "checkpoint",
    "group",
    "log_debug",
    "log_error",
    "log_info",
    "log_warning",
    "metric",
    "progress",
    "run",
    "sensor",
    "stub",
    "task",
    "workflow",
]

__version__ = "0.1.0"


def log_debug(template: str, /, **values: Any) -> None:
    """Adds a message to the log of the running execution; ``{name}`` shows a value."""
    write_log("debug", template, values)


def log_info(template: str, /, **values: Any) -> None:
    """Adds a message to the log of the running execution; ``{name}`` shows a value."""
    write_log("info", template, values)


def log_warning(template: str, /, **values: Any) -> None:
    """Adds a message to the log of the running execution; ``{name}`` shows a value."""
    write_log("warning", template, values)


def log_error(template: str, /, **values: Any) -> None:
    """Adds a message to the log of the running execution; ``{name}`` shows a value."""
    write_log("error", template, values)
