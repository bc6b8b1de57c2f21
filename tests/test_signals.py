"""Signals, and every other way in which a run can be ended: what is left is whole, and goes on to the same end."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybridnet.errors import Stopped
from hybridnet.files import read_json
from hybridnet.signals import SIGNALS, Interruption
from tests.conftest import ROOT, Command, outcome, require_whole_files, wait_until, wait_until_saved

Start = Callable[..., Command]
Run = Callable[..., tuple[int, str, str]]

CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
ASKING = [(number, CODES[number]) for number in SIGNALS]
NOTICE = "\nstopping after this step, once it is saved; a second signal ends the run at once\n"
NOTICE_OF_SEVERAL = "\nstopping after this step, once it is saved\n"


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A test that fails must not leave its handlers to the next one."""
    own = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, where the tests are started by nohup
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    after = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in (before | {signal.SIGHUP: own}).items():
        signal.signal(number, handler)
    assert after == before


def _send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # handlers run between two instructions


@pytest.mark.parametrize(("number", "code"), ASKING)
def test_outside_of_a_training_a_signal_ends_at_once(number: int, code: int) -> None:
    with pytest.raises(Stopped, match=f"stopped by {signal.Signals(number).name}") as caught, Interruption():
        _send(number)
        raise AssertionError("not reached")
    assert caught.value.exit_code == code
    assert isinstance(caught.value, KeyboardInterrupt), "no `except Exception` swallows it"


@pytest.mark.parametrize(("number", "code"), ASKING)
def test_within_a_training_it_is_kept(capfd: pytest.CaptureFixture[str], number: int, code: int) -> None:
    reached = []
    with Interruption() as interruption, pytest.raises(Stopped) as caught, interruption.deferred():
        assert interruption.pending() is None
        _send(number)
        reached.append(interruption.pending())
    assert reached == [caught.value]
    assert caught.value.exit_code == code
    assert capfd.readouterr().err == NOTICE


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    """As `nohup` starts a command."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption, interruption.deferred():
            _send(signal.SIGHUP)
            assert interruption.pending() is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_ends_a_training_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with Interruption() as interruption, pytest.raises(Stopped) as caught, interruption.deferred():
        _send(signal.SIGTERM)
        _send(signal.SIGINT)
        raise AssertionError("not reached")
    assert caught.value.exit_code == 130
    assert capfd.readouterr().err == NOTICE, "said once"


def test_what_ends_the_training_first_is_what_is_raised() -> None:
    """The trainer raises what is pending; another error than that is not hidden by it."""
    with Interruption() as interruption:
        with pytest.raises(ValueError, match="boom"), interruption.deferred():
            _send(signal.SIGTERM)
            raise ValueError("boom")
        with pytest.raises(Stopped) as caught:  # the first one was never answered
            _send(signal.SIGINT)
    assert caught.value.exit_code == 130


def test_after_a_training_a_signal_ends_at_once_again() -> None:
    with Interruption() as interruption:
        with interruption.deferred():
            pass
        assert interruption.pending() is None
        with pytest.raises(Stopped):
            _send(signal.SIGTERM)


def test_the_handlers_before_it_come_back() -> None:
    def own(number: int, frame: object) -> None:
        raise AssertionError("not called")

    before = {number: signal.signal(number, own) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Interruption():
            assert signal.getsignal(signal.SIGTERM) is not own
        assert signal.getsignal(signal.SIGINT) is own and signal.getsignal(signal.SIGTERM) is own
        with pytest.raises(RuntimeError), Interruption():
            raise RuntimeError
        assert signal.getsignal(signal.SIGINT) is own and signal.getsignal(signal.SIGTERM) is own
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_terminal_that_was_closed_keeps_nobody_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int, text: bytes) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Stopped), Interruption() as interruption, interruption.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.pending()


def test_without_an_error_output_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As after `2>&-`: the number 2 then belongs to the first file that was opened."""
    monkeypatch.setattr(sys, "__stderr__", None)
    with pytest.raises(Stopped), Interruption() as interruption, interruption.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.pending()
    assert capfd.readouterr().err == ""


def test_in_another_thread_it_does_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def work() -> None:
        with Interruption() as interruption, interruption.deferred():
            found.extend([interruption.pending(), signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None, before]


@pytest.mark.parametrize(("number", "code"), ASKING)
def test_before_anything_has_begun_a_signal_ends_the_process(number: int, code: int) -> None:
    """Without an exception, which an import might swallow, but not without what was printed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HELD],
        env=os.environ | {"PYTHONUNBUFFERED": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stderr.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(60) == code
        assert (process.stdout.read(), process.stderr.read()) == ("kept", "")


_HELD = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from hybridnet.signals import end_at_once
end_at_once()
print("kept", end="")
print("ready", file=sys.stderr, flush=True)
try:
    sys.stdin.read()  # for ever
except BaseException:
    print("an exception")
"""


@pytest.mark.parametrize("module", ["hydra", "torch"])
@pytest.mark.parametrize(("number", "code"), ASKING)
def test_a_command_that_is_still_importing_ends_at_once(tmp_path: Path, module: str, number: int, code: int) -> None:
    """A real process, which says itself where it is: in the middle of an import."""
    text = "print('importing', flush=True)\nimport sys\nsys.stdin.read()\n"
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / f"{module}.py").write_text(text)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "hydra.run.dir=run"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "scripts"), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        assert process.wait(60) == code
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["scripts"]


def _kill(command: Command, number: int, folder: Path) -> None:
    """End a command that is held somewhere: SIGKILL there, other signals at the step boundary that follows."""
    command.wait_until_held().send(number)
    if number != signal.SIGKILL:
        command.go_on()
    wait_until(lambda: not command.is_running(), "it ends: a scheduler does not wait for long", seconds=35)
    assert command.wait() == CODES[number], command.stderr
    wait_until(lambda: not command.session(), f"{command.session()} ends", seconds=10)
    if folder.exists():
        require_whole_files(folder)
    if number != signal.SIGKILL:
        assert NOTICE.strip() in command.stderr and "Traceback" not in command.stderr
        assert read_json(folder / "status.json")["status"] == "stopped"
        assert read_json(folder / "status.json")["error"] == f"Stopped: stopped by {signal.Signals(number).name}"
        assert command.stdout.endswith("stopped; continue with python train.py resume=run\n")
        assert not [*folder.rglob(".*.tmp")]


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_were_not(
    start: Start, run: Run, tiny: list[str], tmp_path: Path, reference: Path
) -> None:
    folder = tmp_path / "run"
    kills = [
        (signal.SIGKILL, "setup", 1, None),  # before anything was saved
        (signal.SIGKILL, "step", 2, None),
        (signal.SIGINT, "step", 2, None),  # saved in the middle of the first epoch
        (signal.SIGKILL, "sync last.pt", 1, None),  # which is written anew at each start
        (signal.SIGKILL, "sync last.pt", 2, "epoch 0, batch 2"),  # written, but not yet in its place
        (signal.SIGKILL, "rename last.pt", 2, "epoch 0, batch 2"),  # the one before it is the previous one already
        (signal.SIGKILL, "sync best_model.pt", 1, "epoch 0, batch 2"),  # after the first epoch
        (signal.SIGTERM, "step", 3, "epoch 1, batch 0"),
        (signal.SIGHUP, "step", 2, "epoch 1, batch 3"),  # while the second epoch may still be written
        (signal.SIGKILL, "sync best_model.pt", 1, None),  # which is written anew as well
        (signal.SIGKILL, "sync metrics.json", 1, "epoch 2, batch 1"),
    ]
    for number, place, count, at in kills:
        command = start(*tiny, "hydra.run.dir=run", "resume=auto", hold=(place, count))
        _kill(command, number, folder)
        if at:
            assert f"continuing after {at}" in command.stdout, (place, count)
    code, output, error = run("resume=run")
    assert (code, error) == (0, "")
    assert "continuing after epoch 3, batch 0" in output
    assert outcome(folder) == outcome(reference)
    assert not [*folder.rglob(".*.tmp")]
    assert len(read_json(folder / "environment.json")["earlier"]) == 8, "it is written once the data are known"


def test_neither_is_one_with_worker_processes_which_end_with_it(
    start: Start, run: Run, tiny: list[str], tmp_path: Path, reference: Path
) -> None:
    folder, options = tmp_path / "run", ["hydra.run.dir=run", "data.num_workers=2"]
    command = start(*tiny, *options, hold=("step", 6)).wait_until_held()
    assert len(command.session()) >= 1 + 2, command.session()
    wait_until_saved(folder)
    _kill(command, signal.SIGKILL, folder)
    command = start(*tiny, *options, "resume=auto", hold=("step", 2)).wait_until_held()
    for process in {*command.session()} - {command.process}:  # as a terminal's Ctrl-C does
        os.kill(process, signal.SIGINT)
    _kill(command, signal.SIGINT, folder)
    code, output, error = run("resume=run", "data.num_workers=0")
    assert (code, error) == (0, "")
    assert "continuing after epoch 1, batch 2 of the next one (step 6)" in output
    assert outcome(folder) == outcome(reference)


def test_a_signal_while_the_figures_are_drawn_waits_for_them(
    start: Start, run: Run, tiny: list[str], tmp_path: Path, reference: Path
) -> None:
    """Raised within what draws, it came out as `Invalid bounding box` at times."""
    folder = tmp_path / "run"
    _kill(start(*tiny, "hydra.run.dir=run", hold=("sync training_plot.png", 1)), signal.SIGTERM, folder)
    assert (folder / "confusion_matrix.png").exists() and not (folder / "metrics.json").exists()
    assert run("resume=run")[::2] == (0, "")
    assert outcome(folder) == outcome(reference)


def test_a_second_ctrl_c_ends_at_once(start: Start, tiny: list[str], tmp_path: Path) -> None:
    command = start(*tiny, "hydra.run.dir=run", hold=("step", 6)).wait_until_held()
    command.send(signal.SIGINT)
    wait_until(lambda: NOTICE in command.stderr, "the first signal is noticed")
    command.send(signal.SIGINT)
    assert command.wait() == 130, "and the step has never gone on"
    assert command.stderr == NOTICE
    assert read_json(tmp_path / "run" / "status.json")["status"] == "stopped"
    assert not (tmp_path / "run" / "previous.pt").exists(), "only the first epoch was saved"
    require_whole_files(tmp_path / "run")


@pytest.mark.parametrize("place", ["setup", "sync metrics.json"])
def test_where_no_step_is_lost_the_first_signal_ends_at_once(
    start: Start, tiny: list[str], tmp_path: Path, place: str
) -> None:
    command = start(*tiny, "hydra.run.dir=run", hold=(place, 1)).wait_until_held()
    assert command.send(signal.SIGTERM).wait() == 143
    assert command.stderr == ""
    assert read_json(tmp_path / "run" / "status.json")["status"] == "stopped"
    end = "stopped before anything was saved" if place == "setup" else "continue with python train.py resume=run"
    assert command.stdout.endswith(f"{end}\n")
    require_whole_files(tmp_path / "run")
    assert not [*(tmp_path / "run").rglob(".*.tmp")]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_thirty_kills_at_random_moments(
    start: Start, run: Run, stripes: Path, tmp_path: Path, num_workers: int
) -> None:
    """A ResNet, whose checkpoints take a while to write; early, late, within steps and within writes."""
    settings = [
        *("data=metadata", f"data.metadata={stripes / 'metadata.csv'}", f"data.label2id={stripes / 'label2id.json'}"),
        *("data.image_size=32", "data.batch_size=4", f"data.num_workers={num_workers}", "model=plain"),
        *("model.stem=small", "model.backbone.layers=[1,1,1,1]", "trainer.epochs=3"),
    ]
    started = time.monotonic()
    code, _, error = run(*settings, "hydra.run.dir=reference")
    assert code == 0, error
    seconds, expected = time.monotonic() - started, outcome(tmp_path / "reference")
    rng, folder, num_ended = random.Random(num_workers), tmp_path / "run", 0
    files = ("last.pt", "best_model.pt", "history.json", "status.json", "previous.pt", "config.yaml")
    for number in range(30):
        command = start(*settings, "hydra.run.dir=run", "resume=auto")
        kind, skip, name = rng.choice(list(CODES)), rng.randrange(3), rng.choice(files)
        if number % 3:  # within the writing of a file
            seen: set[str] = set()
            while command.is_running() and len(seen) <= skip:
                seen |= {path.name for path in folder.rglob(f".{name}.*.tmp")}
        else:
            time.sleep(rng.uniform(0.1, seconds))
        with contextlib.suppress(ProcessLookupError):
            command.send(kind)
        code = command.wait()
        assert code in (0, CODES[kind]), command.stderr
        assert "Traceback" not in command.stderr
        wait_until(lambda command=command: not command.session(), "no process is left", seconds=10)
        if folder.exists():
            require_whole_files(folder)
        if code == 0:
            num_ended += 1
            assert outcome(folder) == expected
            shutil.rmtree(folder)
    code, _, error = run(*settings, "hydra.run.dir=run", "resume=auto")
    assert (code, error) == (0, "")
    assert outcome(folder) == expected
    assert not [*folder.rglob(".*.tmp")]


# Of several processes


@pytest.fixture
def unhandled() -> Iterator[list[int]]:
    """The signals that would have ended the process."""
    found: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: found.append(number)) for number in SIGNALS}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("unhandled")
def test_of_several_processes_only_the_first_signal_counts(capfd: pytest.CaptureFixture[str]) -> None:
    """torchrun hands on the signal that the process has got itself."""
    with Interruption(of_several=True) as interruption, pytest.raises(Stopped) as caught, interruption.deferred():
        _send(signal.SIGINT)
        _send(signal.SIGTERM)
        _send(signal.SIGINT)
        assert interruption.pending().exit_code == 130
    assert caught.value.exit_code == 130
    assert capfd.readouterr().err == NOTICE_OF_SEVERAL


def test_of_several_processes_none_counts_while_what_was_stopped_is_written_down(unhandled: list[int]) -> None:
    """The second one may come when the job's training has ended, but its record in the ledger still says running."""
    with Interruption(of_several=True):
        pass
    _send(signal.SIGINT)
    assert unhandled == [signal.SIGINT]
    with pytest.raises(Stopped), Interruption(of_several=True):
        _send(signal.SIGINT)
    _send(signal.SIGTERM)
    _send(signal.SIGINT)
    assert unhandled == [signal.SIGINT]


BLOCKED = """
import hashlib, sys, threading
from hybridnet.signals import Interruption
with Interruption(of_several=True) as interruption, interruption.deferred():
    interruption.end_if_blocked(0.2)
    if sys.argv[1] == "awake":
        print("ready", flush=True)
    else:
        sys.setswitchinterval(1000)  # another thread has its turn only once the call below lets go
        begun = threading.Event()
        threading.Thread(target=lambda: begun.wait() and print("ready", flush=True), daemon=True).start()
        begun.set()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in one call, which no signal interrupts
    while not interruption.pending():
        pass
    end = sum(range(3 * 10**7))  # longer than a moment, but not blocked
    print("handled", flush=True)
"""


@pytest.mark.parametrize(("how", "code", "output"), [("blocked", 143, ""), ("awake", 1, "handled\n")])
def test_a_process_that_waits_in_vain_is_ended_by_a_signal(how: str, code: int, output: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED, how], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.stdout.read() == output
    assert process.returncode == code


OTHER = """
import os, signal, time
from hybridnet.signals import Interruption
signal.signal(signal.SIGUSR1, lambda *_: None)
with Interruption(of_several=True) as interruption, interruption.deferred():
    interruption.end_if_blocked(0.1)
    os.kill(os.getpid(), signal.SIGUSR1)
    end = time.monotonic() + 1
    while time.monotonic() < end:  # awake: the other thread has its turns
        pass
    print("goes on", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.pending()
"""


def test_a_signal_that_somebody_else_handles_ends_no_process() -> None:
    """A tracker's, or a scheduler's warning."""
    ended = subprocess.run([sys.executable, "-c", OTHER], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.stdout == "goes on\n" and "Stopped" in ended.stderr


PARENT = """
import subprocess, sys
from hybridnet import signals
signals.end_at_once()
signals.end_with_children("last words")
child = "import signal; print('ready', flush=True); signal.pause()"
process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True)
process.stdout.readline()
print(process.pid, flush=True)
process.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_that_work_for_one_end_with_it(number: int) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PARENT], **pipes, text=True, cwd=ROOT) as process:
        child = Path("/proc") / process.stdout.readline().strip()
        assert child.exists()
        process.send_signal(number)
        assert process.wait(timeout=20) == CODES[number]
        assert process.stderr.read() == "\nlast words\n"
    wait_until(
        lambda: not child.exists() or "State:\tZ" in (child / "status").read_text(), "the child ends", seconds=20
    )
