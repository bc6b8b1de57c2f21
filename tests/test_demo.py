"""`python -m hybridnet.demo`: a page that answers photos, survives all else, and ends when it is asked to."""

from __future__ import annotations

import csv
import os
import queue
import shutil
import signal
import threading
import webbrowser
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from served import SECONDS, ask, in_thread, send

from hybridnet import config
from hybridnet.demo import facts
from hybridnet.errors import Fault, InputError, Stopped
from hybridnet.inference.runs import RunSettings
from hybridnet.inference.trained import load_trained

pytest.importorskip("starlette", reason="needs the extra demo")
pytest.importorskip("uvicorn", reason="needs the extra demo")

from hybridnet.web import answer, server

OWN = "extra_targets=[own_parts.]"
Served = Callable[..., Iterator[int]]


def demo(*overrides: str) -> None:
    cfg = config.compose("demo", [OWN, "port=0", *overrides])
    assert not config.find_faults(cfg)
    config.build(cfg)


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Iterator[int]:
    """The command in a thread; gives its port once the page would be opened in a browser."""
    servers: list[server.Server] = []
    opened: queue.Queue[str] = queue.Queue()

    class Noted(server.Server):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)
            servers.append(self)

    monkeypatch.setattr(server, "Server", Noted)
    monkeypatch.setattr(webbrowser, "open", opened.put)
    with in_thread(lambda: demo("open_browser=true", *overrides)):
        try:
            yield urlsplit(opened.get(timeout=SECONDS)).port
        finally:
            for each in servers:
                each.stop()


def photos_of(run: Path) -> list[tuple[bytes, str]]:
    """Pictures, and what the training said to them at its end."""
    folder = Path(RunSettings(run).get("data.metadata")).parent
    with (run / "predictions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [((folder / row["path"]).read_bytes(), row["prediction"]) for row in rows]


def test_photos_a_text_file_and_two_at_once(
    reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (first, label), *_, (last, other_label) = photos_of(reference)
    with served(monkeypatch, f"run={reference}") as port:
        assert b"<h1>Try run</h1>" in ask(port, "GET", "/")[2]
        status, one = send(port, first)
        assert (status, one["label"]) == (200, label)
        assert [panel["title"] for panel in one["panels"]] == ["The picture", f"Evidence for “{label}”"]
        status, refused = send(port, b"I am a letter")
        assert (status, refused["error"][:22]) == (400, "it is none of JPEG, PN")
        two = send(port, last)[1]
        assert two["label"] == other_label
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda upload: send(port, upload)[1], [first, last, first, last]))
        assert answers == [one, two, one, two]
    assert capsys.readouterr().out == f"the page is at http://127.0.0.1:{port}/ (Ctrl-C ends it)\n"


def test_without_explanation(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, label = photos_of(reference)[0]
    with served(monkeypatch, f"run={reference}", "explain=false", "max_megabytes=1") as port:
        status, found = send(port, photo)
        assert (status, found["label"], len(found["panels"]), found["caveat"]) == (200, label, 1, "")
        assert send(port, photo + b"0" * 1_000_000) == (413, {"error": "it is larger than 1 MB"})


def test_a_model_that_cannot_be_explained_is_shown_without(
    reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InputError(Fault("unusable model", "model", "it has no maps"))

    monkeypatch.setattr(answer, "explain", refuse)
    with served(monkeypatch, f"run={reference / 'best_model.pt'}") as port:
        assert len(send(port, photos_of(reference)[0][0])[1]["panels"]) == 1
    assert "note: the page shows no explanation: it has no maps" in capsys.readouterr().out


def test_others_in_the_network_are_warned_of(
    reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "_address_in_network", lambda: "192.168.1.20")
    monkeypatch.setattr("socket.gethostname", lambda: "lab")
    with served(monkeypatch, f"run={reference}", "host=0.0.0.0", "explain=false") as port:
        assert ask(port, "GET", "/", Host=f"lab:{port}")[0] == 200
        assert ask(port, "GET", "/", Host=f"evil.example:{port}")[0] == 403
    printed = capsys.readouterr().out
    assert (
        f"warning: everybody who reaches this machine through its network can send pictures, at http://192.168.1.20:{port}/"
        in printed
    )
    assert f"the page is at http://127.0.0.1:{port}/" in printed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it(reference: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    assert threading.current_thread() is threading.main_thread()
    ports = []

    def press(url: str) -> None:
        ports.append(urlsplit(url).port)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(webbrowser, "open", press)
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        demo(f"run={reference}", "explain=false", "open_browser=true")
    assert stopped.value.exit_code == code
    assert signal.getsignal(number) is before
    with pytest.raises(ConnectionRefusedError):
        ask(ports[0], "GET", "/")


def test_all_that_is_wrong_is_told_at_once(reference: Path, tmp_path: Path) -> None:
    with server.listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InputError) as error:
            demo(f"run={tmp_path / 'nowhere'}", f"port={port}")
    assert [fault.what for fault in error.value.faults] == ["missing run", "unusable port"]
    with pytest.raises(InputError, match="missing value in run"):
        demo()
    with pytest.raises(InputError, match="wrong value in trainer.device"):
        demo(f"run={reference}", "trainer.device=toaster")
    faults = config.find_faults(config.compose("demo", ["run=a", "port=65536", "max_megabytes=0"]))
    assert set(faults) == {"port", "max_megabytes"}


def test_a_missing_extra_is_told(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridnet.packages.find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        demo(f"run={reference}")
    (fault,) = error.value.faults
    assert fault.cause == "starlette and uvicorn are not installed"
    assert fault.hint == 'pip install -e ".[demo]"'


def test_facts_about_the_model(reference: Path, tmp_path: Path) -> None:
    model = load_trained(reference, extra_targets=["own_parts."])
    accuracy = RunSettings(reference).metrics()["valid_acc"]
    assert facts(model, reference) == {
        "Model": "plain on small",
        "Input": "32×32 pixels",
        "3 classes": "horizontal, none, vertical",
        "Validation accuracy": f"{accuracy:.1%} of 9 pictures",
    }
    alone = shutil.copy(reference / "best_model.pt", tmp_path)
    model.classes = [f"c{number}" for number in range(25)]
    found = facts(model, Path(alone))
    assert found["Model"] == "PlainClassifier"
    assert found["25 classes"].endswith("c19 and 5 more")
    assert "Validation accuracy" not in found
