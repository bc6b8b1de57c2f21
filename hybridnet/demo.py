"""`python -m hybridnet.demo run=<folder>`: a local page on which a trained model can be tried."""

from __future__ import annotations

import functools
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from hybridnet import config, packages
from hybridnet.console import show
from hybridnet.errors import Fault, InputError, collected
from hybridnet.inference.runs import RunSettings, folders_of, name_of
from hybridnet.inference.trained import TrainedModel, load_trained
from hybridnet.settings import Count, Range, checked
from hybridnet.signals import Interruption
from hybridnet.trainer.device import find_device

if TYPE_CHECKING:
    from hybridnet.web.server import Address

PACKAGES = ("starlette", "uvicorn")
MOST_CLASSES_LISTED = 20
MEGABYTE = 1_000_000

Port = Annotated[int, Range(minimum=0, maximum=65535)]


@checked
def demo(
    *,
    run: str | None,
    host: str,
    port: Port,
    open_browser: bool,
    explain: bool,
    max_megabytes: Count,
    device: str,
    extra_targets: Sequence[str],
) -> None:
    """Serve a page on which pictures can be dropped, until a signal ends it.

    Args:
        run: the folder of a run, or its best_model.pt.
        host: the address to listen on, see `listen`.
        port: 0 for any that is free.
        open_browser: whether the page is opened on this machine.
        explain: whether the maps of an explanation are shown too.
        max_megabytes: of an upload.
        device: as in training.
        extra_targets: see `load_trained`.

    Raises:
        InputError: for a missing package, and a run, device, host or port that cannot be used; all of them at once.
        Stopped: for SIGINT and SIGTERM.
    """
    _require_packages()
    from hybridnet.web import page, server
    from hybridnet.web.answer import answer, why_unexplained
    from hybridnet.web.app import make_app

    faults: list[Fault] = []
    with ExitStack() as stack:
        with collected(faults):
            (folder,) = folders_of(run)
            model = _on_device(load_trained(folder, extra_targets=extra_targets), device)
        with collected(faults):
            listener = stack.enter_context(server.listen(host, port))
        if faults:
            raise InputError(*faults)
        address = server.Address(listener, host)
        unexplained = why_unexplained(model) if explain else ""
        ask = functools.partial(answer, model, with_maps=explain and not unexplained)
        max_bytes = max_megabytes * MEGABYTE
        files = page.page_files(f"Try {name_of(folder)}", facts(model, folder), max_bytes=max_bytes)
        app = make_app(ask, files, hosts=address.names, max_bytes=max_bytes)

        def when_ready() -> None:
            show(*_lines(address, unexplained))
            if open_browser:  # which may block
                threading.Thread(target=webbrowser.open, args=[address.here], daemon=True).start()

        with Interruption():
            server.Server(app, listener, when_ready=when_ready).run()


def _require_packages() -> None:
    if missing := packages.missing(*PACKAGES):
        cause = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        raise InputError(Fault("missing package", "hybridnet.demo", cause, 'pip install -e ".[demo]"'))


def facts(model: TrainedModel, run: Path) -> dict[str, str]:
    """What the page says about a model, as far as its run tells."""
    settings = RunSettings(run)
    chosen = config.saved_settings(settings.folder, ("model", "model/backbone"))
    height, width = model.preprocessing.image_size
    metrics = settings.metrics()
    accuracy, num_valid = metrics.get("valid_acc"), metrics.get("num_valid")
    shown, others = model.classes[:MOST_CLASSES_LISTED], model.classes[MOST_CLASSES_LISTED:]
    found = {
        "Model": " on ".join(chosen.values()) or type(model.network).__name__,
        "Input": f"{height}×{width} pixels" + ("" if height == width else " (height×width)"),
        f"{len(model.classes)} classes": ", ".join(shown) + (f" and {len(others)} more" if others else ""),
    }
    if isinstance(accuracy, float) and isinstance(num_valid, int):
        found["Validation accuracy"] = f"{accuracy:.1%} of {num_valid:,} pictures"
    return found


def _on_device(model: TrainedModel, device: str) -> TrainedModel:
    try:
        return model.to(find_device(device))
    except ValueError as error:
        raise InputError(Fault("wrong value", "trainer.device", str(error))) from error


def _lines(address: Address, unexplained: str) -> Iterator[str]:
    if unexplained:
        yield f"note: the page shows no explanation: {unexplained}"
    if not address.is_local:
        where = f", at {address.elsewhere}" if address.elsewhere else ""
        yield f"warning: everybody who reaches this machine through its network can send pictures{where}"
    yield f"the page is at {address.here} (Ctrl-C ends it)"


if __name__ == "__main__":
    from hybridnet.launch import call

    call("demo")
