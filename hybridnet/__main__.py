"""`python -m hybridnet`: which commands there are."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

TRAIN = ("python train.py", "trains a model, or with -m many")


def commands() -> Iterator[tuple[str, str]]:
    """How each command is typed, and what it does, from the first lines of the modules, none of which is imported."""
    yield TRAIN
    for file in sorted(Path(__file__).parent.glob("*.py")):
        line = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        typed, is_one, what = line.removeprefix("`").partition("`: ")
        if is_one and typed.startswith(f"python -m hybridnet.{file.stem}"):
            yield typed, what.removesuffix(".")


def main(words: Sequence[str]) -> int:
    """List the commands, which are modules of their own; returns the exit code."""
    if words and words[0] not in ("-h", "--help"):
        typed = f"python -m hybridnet.{words[0]}"
        is_there = any(known.split(" ")[:3] == typed.split(" ") for known, _ in commands())
        meant = typed if is_there else "python -m hybridnet lists the commands"
        print(f"error: unknown option in {words[0]}: each command is a module\nhint: {meant}", file=sys.stderr)
        return 2
    for typed, what in commands():
        print(f"{typed}: {what}")
    print("\n--help behind a command shows its keys")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
