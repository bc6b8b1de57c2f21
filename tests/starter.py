"""Starts commands in forks of one process that has imported everything already: in 1 s instead of 5.

Usage: python starter.py <socket>   # ends with its standard input

A request is one line of JSON: arguments (a script, or `-m` and a module; theirs), folder, environment, output, hold.
The answers are two lines: the process id, and, at the end, the exit code as `subprocess` has it. A command has its own
session, so that what it leaves behind can be found, and everything after the imports is as if it had been typed.

`hold` names a place in the command, such as `step` or `sync last.pt`, and how often it is passed: there the process
makes the file `<output>.held` and waits for `<output>.go`. So a test can send a signal at exactly this moment.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PARTS = (
    "data.metadata",
    "experiment",
    "figures",
    "launch",
    "model.hybrid",
    "optimizer.adamw",
    "parts",
    "scheduler.cosine",
)
MODULES = (
    "torch._dynamo",  # by the first normal_() on the meta device
    *(f"hybridnet.{name}" for name in (*PARTS, "results", "resume", "run", "trainer.supervised", "verification")),
)


def serve(address: str) -> None:
    import_everything()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()
    Path(f"{address}.new").rename(address)  # only now it is there for others
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that answer
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, where the tests are started by nohup
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if _fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return answer(connection)
        connection.close()


def import_everything() -> None:
    sys.path.insert(0, str(ROOT))
    for name in MODULES:
        importlib.import_module(name)


def answer(connection: socket.socket) -> None:
    """Start the command and say how it went; the command itself returns from here as well, to run to its end."""
    request = json.loads(connection.makefile().readline())
    process = _fork()
    if process == 0:
        connection.close()
        return run(**request)
    connection.sendall(f"{process}\n".encode())
    _, status = os.waitpid(process, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some library has a thread; the forks use none of its locks
        return os.fork()


def run(*, arguments: list[str], folder: str, environment: dict[str, str], output: str, hold: list[Any]) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    for descriptor, file, mode in ((0, os.devnull, os.O_RDONLY), (1, f"{output}.out", 1), (2, f"{output}.err", 1)):
        opened = os.open(file, mode | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    is_module = arguments[0] == "-m"
    sys.argv = arguments[is_module:]
    sys.orig_argv[1:] = arguments
    if hold:
        place, count = hold
        hold_at(place, count, Path(f"{output}.held"), Path(f"{output}.go"))("start")
    code = 0
    try:
        if is_module:
            sys.path.insert(0, folder)
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as error:
        code = error.code
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what Python does besides at its end takes more than a second with all of torch imported


def hold_at(place: str, count: int, held: Path, go: Path) -> Callable[[str], None]:
    """Stop this process when it comes to a place for the `count`-th time, until the file `go` is there.

    Returns:
        What is called with the name of the place where the process is.
    """
    left = count

    def passing(here: str) -> None:
        nonlocal left
        left -= here == place
        if left == 0 and here == place:
            held.touch()
            while not go.exists():
                time.sleep(0.005)

    from hybridnet.data.metadata import MetadataImages
    from hybridnet.trainer.evaluator import Evaluator
    from hybridnet.trainer.metrics import RunningTotals

    _before(MetadataImages, "setup", lambda *_: passing("setup"))
    _before(RunningTotals, "add", lambda *_: passing("step"))
    _before(Evaluator, "_logits", lambda *_: passing("validation"))
    _before(os, "fsync", lambda file: passing(f"sync {_name(Path(f'/proc/self/fd/{file}'))}"))
    _before(Path, "replace", lambda _, target: passing(f"rename {Path(target).name}"))
    return passing


def _before(owner: Any, name: str, call: Callable[..., None]) -> None:
    function = getattr(owner, name)

    def wrapper(*arguments: Any, **options: Any) -> Any:
        call(*arguments)
        return function(*arguments, **options)

    setattr(owner, name, wrapper)


def _name(descriptor: Path) -> str:
    """Of the file that is written: `.last.pt.123.tmp` -> `last.pt`."""
    name = descriptor.readlink().name
    return name[1:].rpartition(".tmp")[0].rpartition(".")[0] if name.endswith(".tmp") else name


if __name__ == "__main__":
    serve(sys.argv[1])
