from __future__ import annotations

import json
import ntpath
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from hybridnet.checkpoint import load_checkpoint
from hybridnet.files import read_json, write_json

ROOT = Path(__file__).parents[1]
STARTER = Path(__file__).with_name("starter.py")
SECONDS = 240.0  # until a test gives up; a machine may be busy
BACKBONES = ("Small", "Raising", "Broken", "Hungry", "Careless", "Still", "Faithless", "Interrupted")
OWN_PARTS = {
    "data": {"Promised": "metadata"},
    "data/augment": {"Deadly": "photo"},
    "model/backbone": dict.fromkeys(BACKBONES, "resnet18"),
}
DIFFERENT_EVERY_TIME = {"train_images_per_second", "train_seconds", "data_wait_seconds", "peak_memory_bytes"}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


# The tests' tensors are small: a second thread costs more than it gains, and fights with whatever else runs.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Stores of decoded pictures go to the session's own folder, never the user's; of its subprocesses as well."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def two_drives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several paths, the first lies on another drive than the second, as on Windows."""

    def commonpath(paths: Iterable[Path]) -> str:
        return ntpath.commonpath([f"{drive}:{path}" for drive, path in zip("CD", paths, strict=False)])

    monkeypatch.setattr(os.path, "commonpath", commonpath)


@pytest.fixture
def root() -> Path:
    """The top level of the project."""
    return ROOT


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """Runs `python <arguments>` in an empty folder, as a user types it; `train.py` is the project's."""

    def run(*arguments: str, timeout: float = SECONDS, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *_words(arguments)],
            cwd=tmp_path,
            env=_environment() | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def command(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """As `process`, of a script or a module, and soon: where it is possible, in a fork that has imported everything."""
    if sys.platform != "linux":
        return request.getfixturevalue("process")
    starter: Starter = request.getfixturevalue("starter")

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        started = starter.start_python(*_words(arguments), folder=tmp_path, **environment)
        return subprocess.CompletedProcess(arguments, started.wait(), started.stdout, started.stderr)

    return run


def _words(arguments: Iterable[str]) -> list[str]:
    return [str(ROOT / word) if word == "train.py" else word for word in arguments]


def _environment() -> dict[str, str]:
    """For commands, which find `own_parts`, and the project where these tests do."""
    inherited = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    places = [str(STARTER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return inherited | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)}


def wait_until(is_so: Callable[[], Any], what: str, *, seconds: float = SECONDS) -> None:
    """Until a condition holds; a test never waits for a guessed time."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.005)


def wait_until_saved(folder: Path) -> None:
    """Until the first epoch of a run is on the disk: its files are written while the second one trains."""
    wait_until(lambda: (folder / "history.csv").exists(), f"the first epoch is saved in {folder}")


class Command:
    """A command that was started; see starter.py."""

    def __init__(self, connection: socket.socket, output: str) -> None:
        self._connection = connection
        self._answers = connection.makefile()
        self._output = output
        self.process = int(self._answers.readline())

    def wait(self) -> int:
        """Its exit code, as `subprocess` has it."""
        self._connection.settimeout(SECONDS)
        return int(self._answers.readline())

    def wait_until_held(self) -> Command:
        """Until it has come to the place where it was to be held."""
        held = Path(f"{self._output}.held")
        wait_until(lambda: held.exists() or not self.is_running(), "a command comes to the place where it is held")
        assert held.exists(), f"it ended before:\n{self.stdout}{self.stderr}"
        return self

    def go_on(self) -> None:
        """Let it go on from where it is held."""
        Path(f"{self._output}.go").touch()

    def send(self, number: int) -> Command:
        """Send it a signal."""
        os.kill(self.process, number)
        return self

    @property
    def stdout(self) -> str:
        return Path(f"{self._output}.out").read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return Path(f"{self._output}.err").read_text(encoding="utf-8")

    def is_running(self) -> bool:
        try:
            return _state(Path("/proc") / str(self.process))[0] not in "ZX"
        except OSError:
            return False

    def session(self) -> dict[int, str]:
        """The processes of its session that live, with their command lines: itself, and all that it has started."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = _state(folder)
                if int(session) == self.process and state not in "ZX":
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:  # has ended
                continue
        return found

    def close(self) -> None:
        for process in self.session():
            os.kill(process, signal.SIGKILL)
        self._answers.close()
        self._connection.close()


def _state(process: Path) -> list[str]:
    """State, parent, group and session of a process."""
    return (process / "stat").read_text().rpartition(") ")[2].split()[:4]


class Starter:
    """Starts commands as a user types them, in forks of a process that has imported everything; see starter.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._address = str(folder / "socket")
        self._num_started = 0
        self._commands: list[Command] = []

    def __enter__(self) -> Starter:
        with (self.folder / "log").open("w") as log:
            self._server = subprocess.Popen(
                [sys.executable, str(STARTER), self._address], env=_environment(), stdin=subprocess.PIPE, stderr=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        for command in self._commands:
            command.close()
        self._server.kill()
        self._server.communicate()

    def start(self, *arguments: str, folder: Path, hold: tuple[str, int] | None = None, **environment: str) -> Command:
        """Start `train.py` with these arguments in a folder."""
        return self.start_python(str(ROOT / "train.py"), *arguments, folder=folder, hold=hold, **environment)

    def start_python(
        self, *arguments: str, folder: Path, hold: tuple[str, int] | None = None, **environment: str
    ) -> Command:
        """Start a script, or with `-m` a module, in a folder."""
        self._num_started += 1
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": _environment() | environment,
            "output": str(self.folder / str(self._num_started)),
            "hold": hold,
        }
        connection = socket.socket(socket.AF_UNIX)
        wait_until(self._is_listening, "the server of the commands listens")
        connection.connect(self._address)
        connection.sendall(f"{json.dumps(request)}\n".encode())
        self._commands.append(Command(connection, request["output"]))
        return self._commands[-1]

    def _is_listening(self) -> bool:
        assert self._server.poll() is None, (self.folder / "log").read_text()
        return Path(self._address).exists()

    def run(self, *arguments: str, folder: Path, **environment: str) -> tuple[int, str, str]:
        """Its exit code, standard output and standard error."""
        command = self.start(*arguments, folder=folder, **environment)
        return command.wait(), command.stdout, command.stderr


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory, _own_cache: Path) -> Iterator[Starter]:
    if sys.platform != "linux":
        pytest.skip("looks at processes in /proc")
    with Starter(tmp_path_factory.mktemp("commands")) as starter:
        yield starter


@pytest.fixture
def start(starter: Starter, tmp_path: Path) -> Callable[..., Command]:
    """Starts `train.py <arguments>` in an empty folder."""
    return lambda *arguments, **options: starter.start(*arguments, folder=tmp_path, **options)


@pytest.fixture
def run(starter: Starter, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs `train.py <arguments>` in an empty folder; gives its exit code, standard output and standard error."""
    return lambda *arguments, **options: starter.run(*arguments, folder=tmp_path, **options)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides for an experiment of three epochs of four steps that takes a moment; its checkpoints have 100 kB."""
    folder = tmp_path_factory.mktemp("tiny")
    data = write_stripes(folder / "stripes")
    for group, names in OWN_PARTS.items():
        (folder / "conf" / group).mkdir(parents=True)
        for name, base in names.items():
            text = f"defaults: [{base}, _self_]\n_target_: own_parts.{name}\n"
            (folder / "conf" / group / f"{name.lower()}.yaml").write_text(text)
    (folder / "conf" / "logger").mkdir()
    (folder / "conf" / "logger" / "notes.yaml").write_text("notes: {_target_: own_parts.Notes, broken: null}\n")
    return [
        *("--config-dir", str(folder / "conf")),
        *("data=metadata", f"data.metadata={data / 'metadata.csv'}", f"data.label2id={data / 'label2id.json'}"),
        *("data.image_size=32", "data.batch_size=6"),
        *("model=plain", "extra_targets=[own_parts.]", "model/backbone=small"),
        *("trainer.epochs=3", "trainer.ema_decay=0.9", "optimizer.base_lr=1e-3"),
    ]


@pytest.fixture(scope="session")
def reference(starter: Starter, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of `tiny`."""
    folder = tmp_path_factory.mktemp("reference")
    code, _, error = starter.run(*tiny, "hydra.run.dir=run", folder=folder)
    assert code == 0, error
    return folder / "run"


@pytest.fixture(scope="session")
def stopped(starter: Starter, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `tiny` that a SIGTERM stopped after the second step of the second epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    command = starter.start(*tiny, "hydra.run.dir=run", folder=folder, hold=("step", 6)).wait_until_held()
    command.send(signal.SIGTERM).go_on()
    assert command.wait() == 143, command.stderr
    return folder / "run"


@pytest.fixture
def parted(stopped: Path, tmp_path: Path) -> Path:
    """A copy of `stopped`, to continue."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def outcome(folder: Path) -> dict[str, Any]:
    """What two runs of one training have in common: all but times."""
    metrics = read_json(folder / "metrics.json")
    weights = load_checkpoint(folder / "best_model.pt")["model"]
    return {
        "status": read_json(folder / "status.json")["status"],
        "files": {path.name for path in folder.iterdir()},
        "history": (folder / "history.json").read_bytes(),
        "predictions": (folder / "predictions.csv").read_bytes(),
        "metrics": {name: value for name, value in metrics.items() if name not in DIFFERENT_EVERY_TIME},
        "best model": {name: (tensor.dtype, tensor.numpy().tobytes()) for name, tensor in weights.items()},
    }


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, to the byte and the nanosecond of its last change."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def require_whole_files(folder: Path) -> None:
    """No file but the temporary ones of a process that was killed is torn."""
    for path in folder.rglob("*"):
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".pt":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None, path
        elif path.suffix == ".yaml":
            assert yaml.safe_load(path.read_text(encoding="utf-8")) is not None, path
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".csv":
            assert path.read_text(encoding="utf-8").endswith("\n"), path


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """See `write_stripes`."""
    return write_stripes(tmp_path / "stripes")


def write_stripes(folder: Path) -> Path:
    """A folder with metadata.csv and label2id.json: 24 training and 9 validation pictures of three kinds of stripes.

    Horizontal, vertical or none, 36×28 pixels on random patches: learned in a few steps, and not by colour; no two
    are copies of each other.
    """
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path,label,split"]
    for number in range(33):
        label = ("horizontal", "none", "vertical")[number % 3]
        pixels = rng.integers(40, 160, (4, 4, 3)).repeat(7, axis=0).repeat(9, axis=1)
        if label == "horizontal":
            pixels[::4] = 250
        if label == "vertical":
            pixels[:, ::4] = 250
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{label},{'train' if number < 24 else 'valid'}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    write_json(folder / "label2id.json", {"horizontal": 0, "none": 1, "vertical": 2})
    return folder


@pytest.fixture
def small(stripes: Path) -> list[str]:
    """Overrides for an experiment that takes a second or two."""
    return [
        "data=metadata",
        f"data.metadata={stripes / 'metadata.csv'}",
        f"data.label2id={stripes / 'label2id.json'}",
        "data.image_size=[40,48]",
        "data.batch_size=6",
        "data.augment.horizontal_flip=0",
        "model.size=lite",
        "trainer.epochs=2",
    ]
