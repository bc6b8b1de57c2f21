"""What was typed: Hydra's own options and the overrides, with those of what is continued."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from hydra._internal.utils import get_args_parser

from hybridnet import binding, config
from hybridnet.errors import Fault, InputError
from hybridnet.sweep.ledger import is_sweep, read_sweep

# What is typed for keys of commands: their knobs, and `sweep`, which Hydra would take for a file of conf/sweep.
TYPED_AS = {"folder": "sweep", "metadata": "data.metadata", "label2id": "data.label2id"}

# Options of Hydra's that only train.py has a use for, as they are typed, and what to do instead.
_OF_TRAINING = {
    "multirun": ("-m", "start it once for each value; python train.py -m … trains many models"),
    "config_dir": ("--config-dir", "leave it out: yamls of your own are for python train.py"),
    "config_path": ("--config-path", "leave it out; --help shows the keys"),
    "info": ("--info", "--cfg job shows the configuration"),
    "hydra_help": ("--hydra-help", "--help shows the keys"),
    "run": ("--run", "leave it out; --help shows the keys"),
    "shell_completion": ("--shell-completion", "leave it out; --help shows the keys"),
    "experimental_rerun": ("--experimental-rerun", "leave it out; --help shows the keys"),
}


def read(config_name: str) -> argparse.Namespace:
    """Hydra's own options and the overrides; `--epochs 3`, as in other programs, is answered with `trainer.epochs`."""
    # Of a folder to be resumed, `continued` takes the name as it stands.
    as_it_stands = ("-", "resume=", "+resume=", "++resume=")
    sys.argv[1:] = [text if text.startswith(as_it_stands) else config.readable(text) for text in sys.argv[1:]]
    # Options may stand between settings; Hydra takes them before or behind all of these only.
    arguments, unknown = get_args_parser().parse_known_intermixed_args()
    arguments.continues = arguments.began_in = None  # the folder of a run or sweep; where that was last started
    if unknown:
        option = unknown[0].partition("=")[0]
        match = binding.nearest(option.lstrip("-"), config.keys(config.compose(config_name)))
        hint = f"did you mean {match}=<value>?" if match else "--help lists the groups and keys"
        raise InputError(Fault("unknown option", option, "settings are written key=value", hint))
    if (arguments.resolve or arguments.package) and not (arguments.cfg or arguments.help):
        option = "--resolve" if arguments.resolve else f"--package {arguments.package}"
        raise InputError(Fault("wrong option", option, "it says how to show the configuration", f"--cfg job {option}"))
    for word in arguments.overrides:
        if hint := _meant(word, config_name):
            raise InputError(Fault("unreadable override", word, "settings are written key=value", hint))
    return retype(arguments, arguments.overrides)


def continued(arguments: argparse.Namespace) -> argparse.Namespace:
    """With `resume=<folder>` of a run or a sweep: the overrides that it began with, those given now, and its folder.

    A preset of a sweep (`+sweep=…`) asks for many runs, as `-m` does.

    Raises:
        InputError: if there is no such run, or nothing says which run shall be continued.
    """
    given = {name.lstrip("+"): value for name, _, value in (text.partition("=") for text in arguments.overrides)}
    if any(text.startswith("+sweep=") for text in arguments.overrides):
        _ask_for_many(arguments)
    resume = _unquoted(given.get("resume", "null"))
    if resume == "null":
        return arguments
    place = "hydra.sweep.dir" if arguments.multirun else "hydra.run.dir"
    if resume == "auto":
        if place not in given:
            hint = f"add {place}=<folder>, the same at every start; or resume=<run folder>"
            raise InputError(Fault("missing value", place, "resume=auto continues what is there", hint))
        return arguments
    if place in given:
        cause = "what is continued is continued in its own folder"
        raise InputError(Fault("wrong option", f"{place} with resume={resume}", cause, f"leave out {place}"))
    resume = os.path.expanduser(resume)  # noqa: PTH111
    folder = Path(resume)
    others = [text for text in arguments.overrides if text.partition("=")[0].lstrip("+") != "resume"]
    if arguments.multirun or is_sweep(folder):
        sweep = read_sweep(folder)
        older, own, began_in = sweep["overrides"], sweep["config_dir"], sweep["working_directory"]
        places = [f"hydra.sweep.dir={config.quoted(resume)}"]
        _ask_for_many(arguments)
    else:
        older, own = config.read_overrides(folder), config.config_dir(folder)
        began_in = config.working_directory(folder)
        places = [f"hydra.run.dir={config.quoted(resume)}", f"resume={config.quoted(resume)}"]
    arguments.continues, arguments.began_in = folder, Path(began_in) if began_in else None
    if own and not arguments.config_dir:
        arguments.config_dir = own
        sys.argv += ["--config-dir", own]
    return retype(arguments, [*config.merged(older, others), *places])


def retype(arguments: argparse.Namespace, overrides: list[str]) -> argparse.Namespace:
    """The command line with other overrides."""
    options = [word for word in sys.argv[1:] if word not in arguments.overrides]
    sys.argv[1:] = [*options, *overrides]
    arguments.overrides = overrides
    return arguments


def require_usable(config_name: str, arguments: argparse.Namespace) -> None:
    """Refuse options of Hydra's that a command which trains nothing would have to ignore.

    Raises:
        InputError: for the first of them.
    """
    _require_own_name(config_name, arguments, hint="leave it out; --help shows the keys")
    for name, (option, hint) in _OF_TRAINING.items():
        if getattr(arguments, name):
            raise InputError(Fault("wrong option", option, "this command has no use for it", hint))
    if arguments.cfg not in (None, "job"):
        cause = "this command has no settings of Hydra's"
        raise InputError(Fault("wrong option", f"--cfg {arguments.cfg}", cause, "--cfg job shows the configuration"))


def require_own_files(config_name: str, arguments: argparse.Namespace) -> None:
    """Refuse options of Hydra's that name files which are not there, or not those that were checked.

    Raises:
        InputError: for another configuration than the command's own, a folder that does not exist, and files in it
            that Hydra would not take.
    """
    _require_own_name(
        config_name, arguments, hint="settings of your own are an experiment: --config-dir <folder> experiment=<name>"
    )
    if arguments.config_dir and not Path(arguments.config_dir).is_dir():
        hint = "--config-dir <folder>, in which your yamls are: <folder>/experiment/<name>.yaml"
        raise InputError(Fault("missing folder", f"--config-dir={arguments.config_dir}", "no such folder", hint))
    if arguments.config_dir and (hidden := config.hidden(Path(arguments.config_dir))):
        cause = "the project has another file of this name, which is taken"
        raise InputError(*(Fault("name in use", str(file), cause, "rename it") for file in hidden))


def require_one_run(arguments: argparse.Namespace) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        InputError: for a sweep, and for a verification of resume.
    """
    hint = "start it with python train.py: one process"
    if arguments.multirun:
        raise InputError(Fault("wrong option", "-m with torchrun", "several processes train one model together", hint))
    if any(text.startswith("verify_resume=") for text in arguments.overrides):
        cause = "it compares runs of one process"
        raise InputError(Fault("wrong option", "verify_resume with torchrun", cause, hint))


def config_dirs(arguments: argparse.Namespace) -> list[str]:
    """The user's own folders, which is one at most."""
    return [arguments.config_dir] if arguments.config_dir else []


def jobs(config_name: str, arguments: argparse.Namespace) -> list[list[str]]:
    """The overrides of every job: of a search those of which each choice is one; without a sweep the ones typed."""
    if not arguments.multirun:
        return [arguments.overrides]
    from hybridnet.sweep.plan import is_search

    dirs = config_dirs(arguments)
    many = config.multirun(config_name, arguments.overrides, config_dirs=dirs)
    if is_search(many):
        return config.sample_values(many.overrides)
    return config.expand(config_name, many.overrides, config_dirs=dirs)


def of_first_job(config_name: str, arguments: argparse.Namespace) -> argparse.Namespace:
    """The command line of a sweep's first job, without `-m`, which Hydra takes for a contradiction to `--cfg`."""
    (first, *_), own = jobs(config_name, arguments), of_hydra(arguments)
    retype(arguments, [*own, *first] if arguments.multirun else first)
    sys.argv[1:] = [word for word in sys.argv[1:] if not _asks_for_many(word)]
    arguments.multirun = False
    return arguments


def of_hydra(arguments: argparse.Namespace) -> list[str]:
    """The overrides of Hydra's own settings."""
    return [text for text in arguments.overrides if text.startswith(("hydra.", "hydra/", "+hydra", "~hydra"))]


def _asks_for_many(word: str) -> bool:
    return word == "-m" or (word.startswith("--m") and "--multirun".startswith(word))


def _require_own_name(config_name: str, arguments: argparse.Namespace, *, hint: str) -> None:
    if arguments.config_name not in (None, config_name):
        cause = f"this command is composed from conf/{config_name}.yaml"
        raise InputError(Fault("wrong option", f"--config-name={arguments.config_name}", cause, hint))


def _meant(word: str, config_name: str) -> str:
    """Of a word without a key that is the name of something: the setting of the command that it was meant for."""
    path = Path(word)
    if "=" in word or word.startswith("~") or not os.path.exists(word):  # noqa: PTH110 - no error where it is too long
        return ""
    if is_sweep(path):
        keys = ["folder", "resume"]
    elif (path / ".hydra").is_dir() or (path / "best_model.pt").is_file() or path.suffix in (".pt", ".safetensors"):
        keys = ["run", "runs", "resume"]
    elif path.is_dir():
        keys = ["root", "images"]
    else:
        keys = [{".csv": "metadata", ".json": "label2id"}.get(path.suffix, "images")]
    key = next((key for key in keys if key in config.own_keys(config_name)), None)
    return shlex.quote(f"{TYPED_AS.get(key, key)}={word}") if key else ""


def _ask_for_many(arguments: argparse.Namespace) -> None:
    if not arguments.multirun:
        arguments.multirun = True
        sys.argv.append("-m")


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
