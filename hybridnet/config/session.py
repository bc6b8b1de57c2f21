"""Hydra over conf/ and the folders of the user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from hybridnet.errors import Fault, InputError

_PACKAGE = Path(__file__).parents[1]
CONF_DIR = next((p for p in (_PACKAGE.parent / "conf", _PACKAGE / "conf") if p.is_dir()), _PACKAGE / "conf")


@contextmanager
def hydra_over(config_dirs: Sequence[str]) -> Iterator[None]:
    """Hydra over conf/ and, where `--config-dir` puts it, each of the user's own folders: of two files of one name the
    project's is taken. What was initialised before comes back at the end.
    """
    outer = GlobalHydra.instance().hydra  # of a search, whose jobs are composed while it runs
    GlobalHydra.instance().clear()
    with ExitStack() as on_exit:
        on_exit.callback(lambda: setattr(GlobalHydra.instance(), "hydra", outer))
        on_exit.enter_context(initialize_config_dir(str(CONF_DIR), version_base="1.3"))
        if config_dirs:
            search_path = create_config_search_path(str(CONF_DIR))
            for folder in config_dirs:
                search_path.prepend("command-line", f"file://{Path(folder).resolve()}", anchor="schema")
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2(task_name="app", config_search_path=search_path)
        _prefer_own_files()
        yield


def train_script(*, hint: str) -> Path:
    """train.py, which an installed package comes without.

    Raises:
        InputError: with the hint, if it is not there.
    """
    script = CONF_DIR.parent / "train.py"
    if not script.is_file():
        raise InputError(Fault("no train.py", str(script.parent), "it lies beside conf in the project", hint))
    return script


def hidden(folder: Path) -> list[Path]:
    """The yamls in a folder of the user's that are not taken: those of conf/ with their names are others."""
    pairs = [(file, folder / file.relative_to(CONF_DIR)) for file in sorted(CONF_DIR.rglob("*.yaml"))]
    return [own for file, own in pairs if own.is_file() and own.read_bytes() != file.read_bytes()]


def _prefer_own_files() -> None:
    """Where conf/hydra has a file for a plugin, forget what the plugin has registered under the same name.

    Hydra would merge the two and warn that it will not do so in future.
    """
    for file in (CONF_DIR / "hydra").glob("*/*.yaml"):
        registered = ConfigStore.instance().repo.get("hydra", {}).get(file.parent.name, {})
        registered.pop(file.name, None)
