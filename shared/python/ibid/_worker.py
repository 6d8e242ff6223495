"""The process that runs tasks: a template that forks executors, or one executor.

The daemon starts it (``python -m ibid worker``) and tells it by environment
variables where to connect and what to import.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import io
import json
import os
import select
import signal
import sys
import threading
from typing import Any, NoReturn, Optional

from . import _blobs, _values
from ._connection import Connection, ConnectionLost
from ._errors import IbidError, describe
from ._execution import Context, set_current
from ._reports import OrderedOutput
from ._targets import Target, registry

_libc: Any = None


def main() -> NoReturn:
    """Runs until the daemon says stop or goes away."""
    role = os.environ.pop("IBID_WORKER_ROLE", "template")
    token = os.environ.pop("IBID_WORKER_TOKEN", "")
    module = os.environ.pop("IBID_WORKER_MODULE", "")
    number = os.environ.pop("IBID_WORKER_NUMBER", None)
    outputs = (os.environ.pop("IBID_WORKER_STDOUT", None), os.environ.pop("IBID_WORKER_STDERR", None))
    os.environ.pop("IBID_WORKER_REPOSITORY", None)
    path = os.environ["IBID_SOCKET"]
    _own_group()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(path)
    connection.request("worker.attach", json.dumps({"token": token, "pid": os.getpid()}))
    if sys.version_info < (3, 10):
        _failed(connection, RuntimeError(f"ibid needs Python 3.10 or newer, and {sys.executable} is {sys.version.split()[0]}"))
    try:
        importlib.import_module(module)
    except BaseException as error:  # whatever it raises, the daemon must hear of it
        _failed(connection, error)
    targets = {name: target for (repository, name), target in registry.items() if repository == module}
    try:
        specs = [target.spec() for target in targets.values()]
    except _values.Unserialisable as error:
        _failed(connection, error)
    unforkable = _unforkable()
    if role == "executor" and number is not None:
        # Before it is ready: the daemon then takes the names away.
        _take_outputs(outputs)
    ready = f'{{"targets":[{",".join(specs)}],"unforkable":{json.dumps(unforkable)}}}'
    connection.request("worker.ready", ready)
    if role == "executor" and number is not None:
        _execute_all(connection, targets)
    _serve_forks(connection, path, token, targets)


def _failed(connection: Connection, error: BaseException) -> NoReturn:
    wire = describe(error)
    wire["original"] = None
    connection.request("worker.failed", json.dumps({"error": wire}, ensure_ascii=False))
    os._exit(1)


def _own_group(parent: Optional[int] = None) -> None:
    """A process group of its own, which dies with whoever started it (``parent``, where that is known)."""
    global _libc
    try:
        os.setpgid(0, 0)
    except OSError:
        pass  # it leads one already
    try:
        _libc = ctypes.CDLL(None)
        if sys.platform == "linux":
            _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        _libc = None
    if parent is not None and os.getppid() != parent:
        os._exit(0)  # it ended before this process asked to be told


def _unforkable() -> Optional[str]:
    try:
        threads = len(os.listdir("/proc/self/task"))
    except OSError:
        threads = threading.active_count()
    if threads > 1:
        return f"the import leaves {threads - 1} more thread(s) running, which would not survive a fork"
    return None


def _serve_forks(connection: Connection, path: str, token: str, targets: dict[str, Target[Any, Any]]) -> NoReturn:
    """The template: forks when told to, and tells how its children ended."""
    gc.collect()
    gc.freeze()
    waker_out, waker_in = os.pipe()
    os.set_blocking(waker_in, False)
    os.set_blocking(waker_out, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker_in, warn_on_full_buffer=False)
    spool = os.path.join(os.environ.get("IBID_DATA_DIR", ""), "spool")
    stopping = False
    children: set[int] = set()
    while True:
        sources = [waker_out] if stopping else [waker_out, connection.fileno()]
        if not connection._notices:
            readable, _, _ = select.select(sources, [], [])
        else:
            readable = [connection.fileno()]
        if waker_out in readable:
            try:
                os.read(waker_out, 4096)
            except BlockingIOError:
                pass
            _reap(spool, children)
        if connection.fileno() in readable and not stopping:
            try:
                notice = connection.notice()
            except ConnectionLost:
                os._exit(0)
            if notice["method"] == "fork":
                template = os.getpid()
                child = os.fork()
                if child == 0:
                    _become_executor(template, connection, path, token, notice["params"], targets)
                children.add(child)
            elif notice["method"] == "stop":
                stopping = True
        if stopping and not children:
            os._exit(0)


def _reap(spool: str, children: set[int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid not in children:
            continue  # started by the module itself
        children.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            try:
                with open(os.path.join(spool, f"exit-{pid}"), "w") as file:
                    file.write(str(code))
            except OSError:
                pass  # the daemon then says that the process is gone, without the cause


def _become_executor(
    parent: int,
    inherited: Connection,
    path: str,
    token: str,
    fork: dict[str, Any],
    targets: dict[str, Target[Any, Any]],
) -> NoReturn:
    try:
        inherited.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _own_group(parent)
        _take_outputs((fork["stdout"], fork["stderr"]))
        connection = Connection(path)
        attach = {"token": token, "worker": fork["worker"], "pid": os.getpid()}
        connection.request("worker.attach", json.dumps(attach))
        _execute_all(connection, targets)
    except BaseException:
        os._exit(1)
    os._exit(0)


def _take_outputs(outputs: tuple[Optional[str], Optional[str]]) -> None:
    """Makes the FIFOs standard output and error, also for what C code and child processes write."""
    for path, descriptor in zip(outputs, (1, 2)):
        if path is not None:
            # The daemon reads already; if it does not any more, this fails instead of waiting for ever.
            opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            os.set_blocking(opened, True)
            os.dup2(opened, descriptor)
            os.close(opened)
    # A line is told when it is written, and in its place among messages.
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        raw = io.BufferedWriter(OrderedOutput(descriptor, "w", closefd=False))
        encoding, errors = getattr(old, "encoding", None) or "utf-8", getattr(old, "errors", None) or "backslashreplace"
        setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding, errors=errors, line_buffering=True))


def _execute_all(connection: Connection, targets: dict[str, Target[Any, Any]]) -> NoReturn:
    home = os.getcwd()
    kept = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    streams = [(name, getattr(sys, name)) for name in ("stdout", "stderr")]
    while True:
        try:
            notice = connection.notice()
        except ConnectionLost:
            os._exit(0)
        if notice["method"] == "execute":
            # What an earlier task did to its process is not the next one's business.
            os.chdir(home)
            for descriptor, copy in kept:
                os.dup2(copy, descriptor)
            for position, (name, stream) in enumerate(streams):
                if stream.closed:
                    stream = open(position + 1, "w", buffering=1, closefd=False)
                    streams[position] = (name, stream)
                setattr(sys, name, stream)
            _execute(connection, targets, notice["params"])
        elif notice["method"] == "stop":
            os._exit(0)


def _execute(connection: Connection, targets: dict[str, Target[Any, Any]], order: dict[str, Any]) -> None:
    execution = order["execution"]
    context = Context(connection, execution)
    os.environ["IBID_EXECUTION"] = execution
    set_current(context)
    pid = os.getpid()
    try:
        try:
            target = _target(targets, order["target"])
            if target.kind == "sensor":
                context.bind = lambda args, kwargs: target.encode_arguments(context, target.bind(args, kwargs))
            result = _blobs.hand_over(connection, _values.encode(_run(target, order)))
            method, params = "execution.complete", f'{{"execution":"{execution}","result":{result}}}'
        except ConnectionLost:
            os._exit(0)
        except BaseException as error:  # also sys.exit and ctrl-c: a task ends, not its worker
            if os.getpid() != pid:
                code = error.code if isinstance(error, SystemExit) else 1
                _flush()
                os._exit(code if isinstance(code, int) else int(code is not None))
            set_current(None)
            method, params = "execution.fail", _failure(execution, error)
        _flush()
        if os.getpid() != pid:
            os._exit(0)  # a process that the task forked: its parent tells the result
        try:
            connection.notify(method, params)
        except IbidError as error:
            if error.kind != "too_large":
                raise
            connection.notify("execution.fail", _failure(execution, error))
    finally:
        set_current(None)


def _failure(execution: str, error: BaseException) -> str:
    return f'{{"execution":"{execution}","error":{json.dumps(describe(error), ensure_ascii=False)}}}'


def _target(targets: dict[str, Target[Any, Any]], name: str) -> Target[Any, Any]:
    target = targets.get(name)
    if target is None:
        raise LookupError(f"this worker's code has no target '{name}'; register the module again")
    return target


def _run(target: Target[Any, Any], order: dict[str, Any]) -> Any:
    args, kwargs = target.unbind([_values.decode(_blobs.take(value)) for value in order["arguments"]])
    result = target.function(*args, **kwargs)
    if asyncio.iscoroutine(result):
        return asyncio.run(result)
    return result


def _flush() -> None:
    """Whatever was written belongs to this execution: it must be in the pipe before its end is told."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed or replaced by the task
    if _libc is not None:
        _libc.fflush(None)
