"""What a shell gives and gets: short names, completion, ALBERT_MODEL, --quiet and --verbose, what -V says."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from terminal import ROOT, Terminal
from typer.testing import CliRunner

from albert_cli import __version__
from albert_cli.arguments import SHORT
from albert_cli.help_pages import PANELS
from albert_cli.main import app

NAMES = [
    command.name or command.callback.__name__
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
]
SECONDS = re.compile(r"albert: seconds: (.*); (\d+\.\d\d) in all\n")


def page_of(name):
    return CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "120"}).stdout


# --- Help


def test_every_command_stands_in_one_panel():
    page = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    listed = {}
    for panel in PANELS:
        section = page.partition(f"\n{panel}:\n")[2].partition("\n\n")[0]
        listed[panel] = re.findall(r"^  (\S+)  ", section, re.MULTILINE)
    assert all(listed.values())
    assert sorted(name for names in listed.values() for name in names) == sorted(NAMES)
    assert {"convert", "init", "models"} <= set(listed["Models"])
    assert listed["Train"] == ["finetune", "pretrain"]


@pytest.mark.parametrize("name", NAMES)
def test_the_short_names_are_there_wherever_the_long_ones_are(name):
    page = page_of(name)
    for long, short in SHORT.items():
        assert (f"\n  {long} " in page) is False
        assert (f"  {short}, {long} " in page) == bool(re.search(rf"{long} [A-Z]", page.partition("Examples:")[0]))
    for every in ("-q, --quiet ", "-v, --verbose "):
        assert f"\n  {every}" in page


def test_short_names_do_what_the_long_ones_do(albert, letter_model, tmp_path):
    (tmp_path / "t.txt").write_text("a [MASK]\nb [MASK]\n")
    outputs = []
    for number, (model, source, out) in enumerate((("--model", "--in", "--out"), ("-m", "-i", "-o"))):
        target = tmp_path / f"{number}.csv"
        words = ["fill-mask", model, letter_model, source, tmp_path / "t.txt", out, target]
        assert albert(*words) == (0, f"{target}: 10 rows\n", "")
        outputs.append(target.read_bytes())
    assert outputs[0] == outputs[1]


def test_what_refuses_idle_options_names_the_long_one(albert, letter_model):
    code, _, err = albert("similarity", "v.parquet", "w.parquet", "-m", letter_model)
    assert code == 2
    assert "--model has no effect where all vectors are ready; leave it out" in " ".join(err.split())


# --- Quiet and verbose


def test_quiet_leaves_results_and_errors(albert, letter_model, tmp_path):
    code, out, err = albert("fill-mask", "A cup of [MASK].", "-q")
    assert (code, err) == (0, "")
    assert out == albert("fill-mask", "A cup of [MASK].")[1]
    assert albert("inspect", tmp_path / "none", "--quiet")[2].startswith(f"albert: {tmp_path / 'none'}: no such file")


def test_quiet_shows_no_bars(letter_model, tmp_path):
    (tmp_path / "t.txt").write_text("abc def\n" * 40)
    words = ["embed", "-q", "-i", str(tmp_path / "t.txt"), "-m", str(letter_model), "-o", str(tmp_path / "v.parquet")]
    code = f"import sys\nfrom albert_cli.main import main\nsys.argv = ['albert', *{words!r}]\nmain()"
    terminal = Terminal(columns=160, code=code, forked=True)
    assert terminal.end(200) == 0
    assert b"embedding  " not in terminal.raw.partition(b"embedded")[0]
    assert b"working" not in terminal.raw
    assert terminal.lines[0].startswith("embedded  40 rows")


def test_quiet_and_verbose_are_one_too_many(albert):
    code, out, err = albert("models", "-q", "-v")
    assert (code, out) == (2, "")
    assert "--quiet and --verbose do not go together; choose one" in " ".join(err.split())


def test_quiet_is_no_option_of_what_is_merged(albert, letter_model, tmp_path):
    (tmp_path / "t.txt").write_text("abc\ndef\n")
    for shard in ("0/2", "1/2"):
        words = ["embed", "-i", tmp_path / "t.txt", "-m", letter_model, "-o", tmp_path / "v.parquet"]
        assert albert(*words, "--shard", shard)[0] == 0
    code, out, err = albert("embed", "--merge", "-i", tmp_path / "v-*.parquet", "-o", tmp_path / "v.parquet", "-q")
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path / 'v.parquet'}: 2 rows")


def test_verbose_adds_up_the_seconds_of_the_phases(letter_model):
    words = [sys.executable, "-m", "albert_cli", "fill-mask", "-v", "a [MASK]", "-m", str(letter_model)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    parts, total = SECONDS.fullmatch(done.stderr).groups()
    seconds = {name: float(taken) for name, taken in re.findall(r"([a-z ]+) (\d+\.\d\d)(?:, |$)", parts)}
    assert next(iter(seconds)) == "starting"
    assert {"importing", "finding the model", "loading the model", "filling in", "the rest"} <= seconds.keys()
    assert abs(sum(seconds.values()) - float(total)) < 0.01 * len(seconds)
    assert seconds["importing"] > seconds["filling in"] / 100


def test_a_bar_of_other_threads_is_a_phase(albert, letter_model, tmp_path):
    code, _, err = albert("convert", letter_model, tmp_path / "m.npz", "--verbose")
    assert code == 0
    assert {"write", "verify"} <= set(re.findall(r"(\w+) \d+\.\d\d", err)), err


def test_verbose_tells_the_seconds_of_what_failed_too(albert, tmp_path):
    code, _, err = albert("inspect", tmp_path / "none", "-v")
    assert code == 1
    first, second = err.splitlines()
    assert SECONDS.fullmatch(f"{first}\n")
    assert second.startswith(f"albert: {tmp_path / 'none'}: no such file")


# --- ALBERT_MODEL


def test_the_environment_names_the_model_where_nothing_else_does(albert, letter_model, tmp_path, monkeypatch):
    monkeypatch.setenv("ALBERT_MODEL", str(letter_model))
    notice = f"albert: no --model is named: this is {letter_model}, of ALBERT_MODEL\n"
    named = albert("tokenize", "a b", "-m", letter_model)
    assert named[2] == ""
    assert albert("tokenize", "a b") == (0, named[1], notice)
    assert albert("tokenize", "a b", "-m", "built-in")[2] == ""
    monkeypatch.setenv("ALBERT_MODEL", "")
    assert "this is the small built-in one" in albert("tokenize", "a b")[2]
    monkeypatch.setenv("ALBERT_MODEL", str(tmp_path / "gone"))
    assert albert("fill-mask", "a [MASK]")[2].endswith(
        f"albert: {tmp_path / 'gone'}: no such file, directory or checkpoint\n"
    )


def test_a_run_is_of_the_environments_model_and_is_resumed_as_it_was(albert, letter_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"a{n},{'xy'[n % 2]}\n" for n in range(12)))
    monkeypatch.setenv("HOME", str(letter_model.parent))
    monkeypatch.setenv("ALBERT_MODEL", f"~/{letter_model.name}")
    words = ["finetune", "csv", "--train", "t.csv", "--out", "run", "--steps", "1", "--max-length", "16"]
    code, _, err = albert(*words)
    assert code == 0, err
    assert f"albert: no --model is named: this is ~/{letter_model.name}, of ALBERT_MODEL" in err.splitlines()
    assert f'model = "{letter_model}"' in (tmp_path / "run/run.toml").read_text()
    monkeypatch.setenv("ALBERT_MODEL", "built-in")
    code, _, err = albert("finetune", "csv", "--out", "run", "--resume")
    assert code == 0
    assert "ALBERT_MODEL" not in err


# --- What -V says


def test_the_version_comes_with_what_a_report_of_a_fault_should_hold():
    import torch

    lines = CliRunner().invoke(app, ["-V"]).stdout.splitlines()
    facts = dict(re.split(r"\s+", line, maxsplit=1) for line in lines)
    assert facts["albert"] == __version__
    assert facts["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert facts["torch"] == torch.__version__
    assert "cpu" in facts["devices"].split(", ")
    assert re.match(rf"{torch.get_num_threads()} threads; \S", facts["cpu"])
    assert "numpy " in facts["libraries"]


def test_the_version_is_said_where_torch_is_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    lines = CliRunner().invoke(app, ["--version"]).stdout.splitlines()
    assert lines[0] == f"albert {__version__}"
    assert any(re.match(r"torch +cannot be imported: ", line) for line in lines)


# --- Completion


def completed(line, shell, folder, **more):
    """What a shell is told, by the protocol of its script."""
    words = {"_ALBERT_COMPLETE": f"complete_{shell}", "PYTHONPATH": str(ROOT)} | more
    if shell == "bash":
        words |= {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    else:
        words |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return subprocess.run([sys.executable, "-m", "albert_cli"], env=os.environ | words, cwd=folder,
                          capture_output=True, text=True, check=True).stdout  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    for name in ("runs/sst2", "runs/qnli", "runs/not", "mine", "deep/er/one"):
        (tmp_path / name).mkdir(parents=True)
        if name != "runs/not":
            (tmp_path / name / "run.toml").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("albert predict ", ["mine", "runs/qnli", "runs/sst2"]),
        ("albert predict runs/q", ["runs/qnli"]),
        ("albert evaluate runs/", ["runs/qnli", "runs/sst2"]),
        ("albert answer deep/er/", ["deep/er/one"]),
        ("albert finetune rte --compare m", ["mine"]),
        ("albert embed -m albert-base", ["albert-base-v1", "albert-base-v2"]),
        ("albert embed -m somebody/", ["somebody/some-model"]),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_runs_and_models(line, found, shell, runs):
    (runs / "hub/models--somebody--some-model").mkdir(parents=True)
    shown = completed(line, shell, runs, HF_HUB_CACHE=str(runs / "hub"))
    if shell == "zsh":
        assert re.findall(r'"([^"]+)"', shown) == found
    else:
        assert shown.split() == found


def test_a_shell_is_given_files_where_nothing_else_fits(tmp_path):
    assert completed("albert predict nothing", "zsh", tmp_path).strip() == "_files"
    assert completed("albert predict nothing", "bash", tmp_path).strip() == ""


# What each shell completes after `albert predict runs/`, by the script that albert prints for it.
SHELLS = {
    "bash": (
        "source <(albert --show-completion bash)\nCOMP_WORDS=(albert predict runs/) COMP_CWORD=2\n"
        'complete -p albert > /dev/null\n_albert_completion albert\nprintf "%s\\n" "${COMPREPLY[@]}"'
    ),
    "zsh": (
        "compdef() { [[ $* == '_albert_completion albert' ]] || echo $* }\n"
        "_arguments() { print -l -- ${(Q)${(z)${1//[*:()]/ }}} }\n"
        "source <(albert --show-completion zsh)\nwords=(albert predict runs/) CURRENT=3\n_albert_completion"
    ),
    "fish": "albert --show-completion fish | source\ncomplete -C 'albert predict runs/'",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_by_the_script_that_albert_prints(shell, runs):
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"needs {shell}")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    (runs / "albert").write_text(f'#!/bin/sh\nexec {sys.executable} -m albert_cli "$@"\n')
    (runs / "albert").chmod(0o755)
    environment |= {"PATH": f"{runs}:{environment['PATH']}", "HOME": str(runs)}
    plain = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run([found, *plain, "-c", SHELLS[shell]], env=environment, cwd=runs, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stdout.split() == ["runs/qnli", "runs/sst2"], done.stderr


def test_completion_loads_the_command_alone_and_nothing_heavy(runs):
    code = (
        "import atexit, sys\nfrom albert_cli.main import main\nsys.argv = ['albert']\n"
        "heavy = 'numpy torch tensorflow transformers pyarrow matplotlib albert_cli.commands.finetune'\n"
        "atexit.register(lambda: print('LOADED', *[name for name in heavy.split() if name in sys.modules]))\nmain()"
    )
    words = {"_ALBERT_COMPLETE": "complete_bash", "COMP_WORDS": "albert predict runs/", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | words | {"PYTHONPATH": str(ROOT)}, cwd=runs,
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.split() == ["runs/qnli", "runs/sst2", "LOADED"]
