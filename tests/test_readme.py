"""What the README shows of `make demo` is what it prints, and a newcomer finds what the first steps need."""

import doctest
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from albert_cli import tasks

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def shown():
    """The commands of `make demo` in the README, each with what it prints."""
    block = re.search(r"What `make demo` prints.*?```\n(.*?)```", README, re.DOTALL)[1]
    for part in re.split(r"^\$ albert ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def test_the_readme_has_the_commands_of_make_demo():
    recipe = MAKEFILE.partition("\ndemo: .venv/runtime\n")[2].partition("\n\n")[0].replace("$(DEMO)", "demo-out")
    commands = [line.removeprefix("\talbert ") for line in recipe.splitlines() if line.startswith("\talbert ")]
    assert commands == [command for command, _ in shown()]


@pytest.mark.slow
def test_make_demo_prints_what_the_readme_shows(albert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo-out").mkdir()
    recipe = re.search(r"printf '%s\\n' (.*?) > \$\(DEMO\)/texts.txt", MAKEFILE, re.DOTALL)[1]
    texts = shlex.split(recipe.replace("\\\n", " "))
    (tmp_path / "demo-out/texts.txt").write_text("".join(f"{text}\n" for text in texts))
    for command, output in shown():
        code, out, err = albert(*shlex.split(command))
        assert code == 0, err
        same = doctest.OutputChecker().check_output(output.replace("…\n", "...\n"), err + out, doctest.ELLIPSIS)
        assert same, f"albert {command}\n{err}{out}"


def test_the_environment_is_activated_before_a_bare_albert():
    install = README.partition("## Install")[2]
    assert 0 < install.index(". .venv/bin/activate") < install.index("$ albert ")


def test_every_task_is_in_the_readme_and_in_help(albert):
    code, page, _ = albert("finetune", "-h")
    assert code == 0
    for name in [*tasks.names(), "glue"]:
        assert re.search(rf"^\| .*`{name}`", README, re.MULTILINE), name
        assert re.search(rf"\b{name}\b", page), name


def test_help_names_the_default_model_and_shows_a_file_of_settings(albert):
    from test_options import commands, options

    for name, callback in commands().items():
        for option, (*_, meaning) in options(callback):
            if option == "--model":
                assert "the small built-in one by default" in meaning, name
    for command in ("finetune", "pretrain"):
        page = albert(command, "-h")[1]
        assert re.search(rf"albert {command} .*--config settings.toml", page)


PYTHON = """#!/bin/sh
case "$*" in
  "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
  *--index-url*) echo "no route to the index" >&2; exit 1;;
  *"pip install"*) echo "no route to PyPI" >&2; exit ${FAILS:-0};;
esac
"""


@pytest.mark.skipif(not shutil.which("make") or os.uname().sysname != "Linux", reason="needs make, on Linux")
@pytest.mark.parametrize("fails", [0, 1])
def test_make_says_why_pip_failed_only_where_it_failed_twice(tmp_path, fails):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    words = ["make", "install", f"PYTHON={tmp_path}/python", "TORCH_INDEX=http://index.invalid"]
    environment = {"PATH": os.environ["PATH"], "FAILS": str(fails)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    first = (
        "installing into .venv: gigabytes, so some minutes; pip reports only what goes wrong\n"
        "torch cannot be had from http://index.invalid; pip's usual index is taken, whose torch brings libraries "
        "for GPUs: gigabytes more\nno route to PyPI\n"
    )
    assert done.stderr.startswith(first)
    assert (done.returncode != 0) == bool(fails)
    assert ("and before, from http://index.invalid:\nno route to the index\n" in done.stderr) == bool(fails)
    assert (tmp_path / ".venv/installed").exists() != bool(fails)


def test_pretraining_says_that_its_default_is_a_tiny_model(albert, tmp_path):
    (tmp_path / "corpus.txt").write_text("".join(f"A line of text {n}.\nAnd one more {n}.\n\n" for n in range(40)))
    words = [
        "pretrain",
        "--corpus",
        tmp_path / "corpus.txt",
        "--vocab-size",
        "78",
        "--steps",
        "1",
        "--max-length",
        "16",
    ]
    words += ["--tokens-per-update", "32", "--hold-out", "4"]
    notice = (
        "albert: note: no --preset is named: this trains the tiny shape, to try things out; name a real one, such as "
        "--preset base"
    )
    for more, said in (([], True), (["--resume"], False), (["--preset", "tiny", "--force"], False)):
        code, _, err = albert(*words, "--out", tmp_path / "run", *more)
        assert code == 0, err
        assert (notice in err.splitlines()) == said
