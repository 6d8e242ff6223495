"""Starting workflows from a plain script."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from typing import Any

from . import _blobs, _values
from ._connection import Connection, socket_path
from ._errors import IbidError
from ._execution import value_of

__all__ = ["run"]


def run(target: str, *args: Any, **kwargs: Any) -> Any:
    """Starts a workflow, waits, and returns its result.

    The project and environment are ``$IBID_PROJECT`` and ``$IBID_ENVIRONMENT``
    (``default`` where they are not set). The daemon is started if none answers.

    Raises:
        ExecutionError: If the run failed.
        IbidError: If there is no such workflow or the arguments do not fit.
    """
    connection = _connect()
    try:
        scope = {
            "project": os.environ.get("IBID_PROJECT") or "default",
            "environment": os.environ.get("IBID_ENVIRONMENT") or "default",
        }
        wire = functools.partial(_wire, connection)
        arguments = ",".join(map(wire, args))
        named = ",".join(f"[{json.dumps(name)},{wire(value)}]" for name, value in kwargs.items())
        submitted = connection.request(
            "submit",
            f'{{"scope":{json.dumps(scope)},"target":{json.dumps(target)},"arguments":[{arguments}],"named":[{named}]}}',
        )

        def result(id: str) -> Any:
            return value_of(connection.request("result", json.dumps({"id": id})), result)

        return result(submitted["step"])
    finally:
        connection.close()


def _wire(connection: Connection, value: Any) -> str:
    return _blobs.hand_over(connection, _values.encode(value))


def _connect() -> Connection:
    path = socket_path()
    try:
        return Connection(path)
    except OSError:
        pass
    try:
        started = subprocess.run(["ibid", "daemon", "start"], capture_output=True, text=True)
    except FileNotFoundError:
        raise IbidError(f"no daemon answers at {path}, and there is no 'ibid' on the path to start one", "no_daemon") from None
    if started.returncode != 0:
        raise IbidError(started.stderr.strip() or "the daemon could not be started", "no_daemon")
    return Connection(path)
