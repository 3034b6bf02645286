"""Run every command that docs/tried.md shows, and write what it prints beneath it; `--check` fails where it differs.

What depends on the machine (times) is `…`. Nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE / "tried.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\$ ((?:[^\n]*\\\n)*[^\n]*\n)")
HEREDOC = re.compile(r"cat > (\S+) <<'END'\n(.*?)END\n", re.DOTALL)
# What is not the same on every machine.
_TIMES = [(re.compile(r"^(took +)\S.*$", re.MULTILINE), r"\1…"), (re.compile(r"\d+(?:\.\d+)? s\b"), "… s")]


def renewed(page: str) -> str:
    """The page with the outputs of now; the commands run in order, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        return BLOCK.sub(lambda block: f"```console\n{_run(block[1], Path(folder))}```", page)


def _run(block: str, folder: Path) -> str:
    if made := HEREDOC.match(block.removeprefix("$ ")):
        (folder / made[1]).write_text(made[2], encoding="utf-8")
        return block
    return "".join(f"$ {command}{_output(command, folder)}" for command in COMMAND.findall(block))


def _output(command: str, folder: Path) -> str:
    program, *words = shlex.split(command.replace("\\\n", " "))
    if program != "albert":
        raise SystemExit(f"{PAGE}: {command.strip()}: only albert is run here")
    environment = {name: value for name, value in os.environ.items() if name != "ALBERT_MODEL"}
    environment |= {"HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "albert_cli", *words],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise SystemExit(f"{PAGE}: {command.strip()}\n{done.stdout}")
    text = done.stdout
    for pattern, shown in _TIMES:
        text = pattern.sub(shown, text)
    return text


def main() -> None:
    before = PAGE.read_text(encoding="utf-8")
    after = renewed(before)
    if "--check" not in sys.argv:
        PAGE.write_text(after, encoding="utf-8")
    elif before != after:
        sys.exit(f"{PAGE}: the commands print something else now; run python docs/tried.py")


if __name__ == "__main__":
    main()
