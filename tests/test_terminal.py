"""What people see in a terminal: help, bars, tables, Ctrl-C and completion, on the rendered screen."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
from terminal import ROOT, Terminal
from tuning import reviews, write_csv, write_model
from typer.testing import CliRunner

from albert_cli import console, interruption, tasks
from albert_cli.commands import __path__ as commands_path
from albert_cli.help_pages import split_examples
from albert_cli.main import app

COMMANDS = {
    command.name or command.callback.__name__: command
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
}
TEXT = "good film\nbad film\nthe plot\na very long story with music and an actor and a scene\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a tiny model `hf`, texts, pairs, a corpus and reviews."""
    folder = tmp_path_factory.mktemp("world")
    write_model(folder / "hf")
    (folder / "texts.txt").write_text(TEXT)
    (folder / "masked.txt").write_text("a [MASK] film\n[MASK] plot\n")
    (folder / "pairs.tsv").write_text("text\tpair\ngood film\tbad plot\n")
    write_csv(folder / "reviews.csv", reviews(64))
    (folder / "corpus.txt").write_text("\n".join("the film. a plot! very good music\n\n" for _ in range(60)))
    return folder


def in_one_process(*commands):
    """A program that runs commands one after the other, so that libraries are imported once."""
    return (
        "import sys\nfrom albert_cli.main import main\n"
        f"for words in {[[str(word) for word in command] for command in commands]!r}:\n"
        "    print('$', *words[:1], flush=True)\n    sys.argv = ['albert', *words]\n"
        "    try:\n        main()\n    except SystemExit as stop:\n        assert not stop.code, stop.code\n"
    )


# --- Help


@pytest.mark.parametrize("columns", [80, 120, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_breaks_no_example_no_choice_and_no_name(name, columns):
    done = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": str(columns)})
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    _, examples = split_examples(COMMANDS[name].callback)
    assert examples
    assert lines[lines.index("Examples:") + 1 :] == [f"  {example}" for example in examples]
    page = (ROOT / "docs/commands.md").read_text(encoding="utf-8").partition(f"\n## albert {name}")[2]
    for option, value in re.findall(r"^\| `(--[\w-]+)(?:, -\w+)? ?([^`]*)` \|", page.partition("\n## ")[0], re.M):
        shown = f"{option} {value}".replace("\\|", "|").replace(" /--", " / --").strip()
        assert any(re.match(rf"  (-\w, )?{re.escape(shown)}(  |$| /)", line) for line in lines), shown
    assert "<bool>" not in done.stdout


def test_examples_are_commands_that_a_shell_can_be_given():
    """Each is one line or goes on after a backslash, and its options exist."""
    for name, command in COMMANDS.items():
        _, examples = split_examples(command.callback)
        text = "\n".join(examples)
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith(("#", "curl ")):
                continue
            words = shlex.split(line.rpartition("| ")[2])
            assert words[:2] == ["albert", name], line
            options = [word for word in words if re.fullmatch(r"--[a-z][\w-]*", word)]
            page = CliRunner().invoke(app, [name, "--help"]).stdout
            assert [option for option in options if not re.search(rf"^  .*{option}\b", page, re.M)] == [], line


def test_the_first_page_reports_every_command_whole():
    page = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout
    told = " ".join(page.split())
    for name, command in COMMANDS.items():
        assert f"{name} {' '.join(split_examples(command.callback)[0].partition(chr(10) * 2)[0].split())}" in told
    assert "..." not in page.partition("Models:")[2]
    assert max(map(len, page.splitlines())) <= 80


def test_the_first_page_says_what_to_try_and_it_works(albert):
    page = CliRunner().invoke(app, []).output
    lines = [line.strip() for line in page.partition("Examples:")[2].splitlines() if line.strip()]
    assert len(lines) == 3
    for line in lines:
        code, out, err = albert(*shlex.split(line)[1:])
        assert code == 0, err
        assert out


def test_every_argument_is_explained():
    for name in COMMANDS:
        page = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "100"}).stdout
        for line in page.partition("Arguments:\n")[2].partition("\n\n")[0].splitlines():
            assert re.match(r"  \S.*  \S|   ", line), f"{name}: {line}"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["finetune"], f"Missing argument 'TASK'. One of {', '.join(tasks.names())}; or glue, all of GLUE."),
        (["embed"], "Invalid value: nothing to embed; give a TEXT, or --in FILE"),
        (["convert", "built-in"], "Missing argument 'TARGET'. Directory or file to write."),
        (["convert", "a", "b", "--dtype", "fp16"], "'--dtype': 'fp16' is not one of 'float32', 'float16', 'bfloat16'."),
        (["finetune", "sst2", "--steps", "many"], "Invalid value for '--steps': Input should be a valid integer"),
    ],
)
def test_a_wrong_command_line_is_reported_what_is_wanted(albert, words, says):
    code, out, err = albert(*words)
    assert (code, out) == (2, "")
    assert says in " ".join(err.split())
    assert "Value error" not in err


def test_an_unknown_task_is_reported_before_anything_else(albert):
    code, out, err = albert("finetune", "sst")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"albert: 'sst' is no task here; the tasks are choice, cola, .*; did you mean 'sst2'\?\n", err)


def test_a_terminal_shows_the_same_page(tmp_path):
    terminal = Terminal("similarity", "--help", columns=80)
    assert terminal.end() == 0
    plain = CliRunner().invoke(app, ["similarity", "--help"], env={"COLUMNS": "80"}).stdout
    assert terminal.lines == [line.rstrip() for line in plain.rstrip().splitlines()]
    assert b"\x1b[1m" in terminal.raw
    for variables in ({"TERM": "dumb"}, {"NO_COLOR": "1"}):
        terminal = Terminal("similarity", "--help", **variables)
        assert terminal.end() == 0
        assert b"\x1b" not in terminal.raw


def test_version_has_a_short_name():
    assert CliRunner().invoke(app, ["-V"]).stdout == CliRunner().invoke(app, ["--version"]).stdout


# --- Completion


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("albert fine", ["finetune"]),
        ("albert finetune q", ["qnli", "qqp"]),
        ("albert finetune gl", ["glue"]),
        ("albert convert a b --to s", ["safetensors", "saved-model", "sentence-transformers"]),
        ("albert convert a b --to on", ["onnx"]),
        ("albert convert a b --from on", []),
        ("albert convert a b --dtype b", ["bfloat16"]),
        ("albert init x --preset x", ["xlarge", "xxlarge"]),
        ("albert embed --in x --model albert-base", ["albert-base-v1", "albert-base-v2"]),
        ("albert pretrain --init built", ["built-in"]),
        ("albert tokenize --for", ["--force", "--format"]),
    ],
)
def test_a_shell_completes(line, found):
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_ALBERT_COMPLETE": "complete_bash"}
    done = subprocess.run([sys.executable, "-m", "albert_cli"], env=os.environ | words | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert sorted(done.stdout.split()) == found


def test_completion_is_offered():
    page = CliRunner().invoke(app, ["--help"]).stdout
    assert "--install-completion" in page
    assert "--show-completion" in page


# --- Bars


def test_bars_and_results_share_no_row(world, tmp_path):
    """Every command that draws a bar, in one terminal: in the end it shows what a pipe would be given."""
    commands = [
        ["convert", world / "hf", tmp_path / "m.npz"],
        ["diff", world / "hf", tmp_path / "m.npz"],
        ["inspect", tmp_path / "m.npz"],
        ["tokenize", "--in", world / "texts.txt", "--model", world / "hf", "--stats"],
        ["embed", "--in", world / "texts.txt", "--model", world / "hf", "--out", tmp_path / "v.parquet"],
        ["similarity", "--in", world / "texts.txt", "--model", world / "hf"],
        ["fill-mask", "--in", world / "masked.txt", "--model", world / "hf", "--top", "2"],
        ["score", "--in", world / "texts.txt", "--model", world / "hf", "--totals"],
        ["sop", "--in", world / "pairs.tsv", "--model", world / "hf"],
        ["finetune", "csv", "--train", world / "reviews.csv", "--model", world / "hf", "--out", tmp_path / "run",
         "--steps", "8", "--batch-size", "8", "--eval-every", "4", "--max-length", "16"],
        ["evaluate", tmp_path / "run", "--data", world / "reviews.csv"],
        ["predict", tmp_path / "run", "--in", world / "reviews.csv", "--out", tmp_path / "p.csv"],
        ["pretrain", "--corpus", world / "corpus.txt", "--tokenizer", world / "hf/spiece.model", "--preset", "tiny",
         "--out", tmp_path / "pre", "--steps", "4", "--eval-every", "2", "--max-length", "16",
         "--tokens-per-update", "64"],
    ]  # fmt: skip
    bars = [b"write", b"compare", b"hash", b"reading", b"embedding", b"filling in", b"scoring", b"ordering",
            b"training  loss", b"steps", b"evaluating", b"predicting", b"masked words", b"tokenizing"]  # fmt: skip
    terminal = Terminal(columns=160, code=in_one_process(*commands), cwd=tmp_path, forked=True)
    assert terminal.end(400) == 0, "\n".join(terminal.lines)
    for bar in bars:
        assert bar in terminal.raw, bar
    shown = "\n".join(terminal.lines)
    assert "━" not in shown
    assert "working" not in shown
    for line in (
        "equal: ", "proved  ", "embedded  4 rows, ", "58 rows, 8 steps, ", "best: step ", "4 steps, ",
    ):  # fmt: skip
        assert sum(shown_line.lstrip().startswith(line) for shown_line in terminal.lines) == 1 or line in shown, line
    steps = [line for line in terminal.lines if re.match(r"step \d+  ", line)]
    assert [line.split()[1] for line in steps] == ["4", "8", "2", "4"]
    assert all(re.fullmatch(r"step \d+(  \S+ \S+)+(  best)?", line) for line in steps)
    assert sum(line.startswith("albert: note: ") for line in terminal.lines) >= 1


def test_a_bar_counts_with_a_rate_and_a_time_to_come(monkeypatch):
    code = (
        "import time\nfrom albert_cli import console\nfrom albert_cli.runs import progress\n"
        "from albert_cli.runs.events import Evaluated, FineTuningPlan, Note, StepDone\n"
        "with progress.shown(quiet=False) as report:\n"
        "    report(FineTuningPlan(train_rows=9, steps=1234, warmup_steps=2))\n"
        "    for step in range(1, 13):\n"
        "        report(StepDone(step, {'loss': 0.5}))\n"
        "        time.sleep(0.1)\n"
        "    report(Note('above'))\n"
        "    report(Evaluated(12, 0.5, {'loss': 0.25, 'accuracy': 0.75}, best=True))\n"
        "    time.sleep(0.3)\n"
        "console.say('done')\n"
    )
    terminal = Terminal(columns=80, code=code, forked=True)
    assert terminal.end() == 0
    assert terminal.lines == [
        "9 rows, 1234 steps, 2 of warm-up",
        "albert: note: above",
        "step 12  epoch 0.50  loss 0.2500  accuracy 0.7500  best",
        "done",
    ]
    bar = next(line for screen in terminal.seen[::-1] for line in screen.splitlines() if "training" in line)
    assert re.fullmatch(r"training  loss 0\.5000 \S+ +12/1,234 steps +\d+\.\d/s +eta 0:\d\d:\d\d *", bar), bar


def test_a_line_that_is_written_slowly_leaves_the_one_before_when_a_bar_has_gone():
    """The bars are drawn anew by a thread of rich's, also in the midst of a line on a busy machine."""
    code = (
        "import time\nfrom albert_cli import console, live\n"
        "text = live.Text.from_ansi\n"
        "class Slow:\n"
        "    def __init__(self, line):\n        self.line = line\n"
        "    def __rich_console__(self, console, options):\n"
        "        time.sleep(0.4)\n        yield text(self.line)\n"
        "with console.bars() as show:\n"
        "    show('training', done=1, total=9)\n"
        "    console.say('first')\n"
        "    show('evaluating', done=1, total=2)\n"
        "    live.Text.from_ansi = Slow\n"
        "    show('evaluating', done=2, total=2)\n"
        "    console.say('second')\n"
        "    time.sleep(0.3)\n"
    )
    terminal = Terminal(code=code, forked=True)
    assert terminal.end() == 0
    assert terminal.lines == ["first", "second"]


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_that_shows_text_only_is_given_text_only(variables):
    code = (
        "from albert_cli import console, live\nlive._EVERY = 0\n"
        "with console.attended(), console.progress_count('scoring') as tick:\n"
        "    tick(1, 4)\n    tick(2, 4)\n    console.warn('a notice')\n"
        "console.print_table([['a', '1']], ['name', 'n'], right=[1], styles=['red'])\n"
    )
    terminal = Terminal(columns=80, code=code, forked=True, **variables)
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.raw
    assert terminal.lines == [
        "scoring: 1/4 rows, 0:00:00 so far",
        "scoring: 3/4 rows, 0:00:00 so far",
        "albert: a notice",
        "name  n",
        "a     1",
    ]


def test_a_long_wait_has_a_spinner_that_leaves_nothing():
    code = (
        "import time\nfrom albert_cli import console\n"
        "with console.attended():\n"
        "    console.say('first')\n    time.sleep(2.5)\n    console.say('second')\n"
    )
    terminal = Terminal(code=code, forked=True)
    assert terminal.end() == 0
    assert terminal.ever("working")
    assert terminal.lines == ["first", "second"]


def test_a_pipe_is_given_lines_though_the_bar_is_on_a_terminal(tmp_path):
    code = (
        "import sys\nfrom albert_cli.runs import progress\n"
        "from albert_cli.runs.events import Evaluated, FineTuningPlan, StepDone\nsys.stdout = open('out.txt', 'w')\n"
        "with progress.shown(quiet=False) as report:\n"
        "    report(FineTuningPlan(train_rows=9, steps=7, warmup_steps=2))\n"
        "    report(StepDone(1, {'loss': 0.5}))\n"
        "    report(Evaluated(1, 0.5, {'loss': 0.25}, best=False))\n"
        "sys.stdout.close()\n"
    )
    terminal = Terminal(code=code, cwd=tmp_path)
    assert terminal.end() == 0
    assert terminal.lines == []
    assert (tmp_path / "out.txt").read_text() == ("9 rows, 7 steps, 2 of warm-up\nstep 1  epoch 0.50  loss 0.2500\n")


def test_commands_print_through_the_console_alone():
    """A line that passes by the bars would be half overwritten."""
    for path in (ROOT / "albert_cli/commands").glob("*.py"):
        assert not re.search(r"typer\.echo|\bprint\(|sys\.std(out|err)\.write", path.read_text(encoding="utf-8")), path
    assert commands_path


# --- Tables


@pytest.fixture
def screen(monkeypatch, albert):
    """Run a command as in a terminal of so many columns; its lines."""

    def run(columns, *arguments):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        code, out, err = albert(*arguments)
        assert code == 0, err
        return out.splitlines()

    return run


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_models_can_be_copied_at_any_width(screen, columns, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    lines = screen(columns, "models")
    for version in ("v1", "v2", "zh"):
        url = f"https://storage.googleapis.com/albert_models/albert_xxlarge_{version}.tar.gz"
        assert any(url in line for line in lines)


def test_cosines_have_fewer_decimals_before_a_figure_is_broken(screen, world):
    texts = [
        "a very long film with music and an actor",
        *(["good", "bad", "film", "plot", "story", "the", "a", "music"]),
    ]
    wide = screen(200, "similarity", *texts, "--model", world / "hf")
    assert wide[1].split()[1] == "1.000"
    assert wide[1].endswith(texts[0])
    shown = {}
    for columns in (80, 72, 62):
        lines = screen(columns, "similarity", *texts, "--model", world / "hf")
        assert max(map(len, lines)) <= columns
        assert len(lines) == len(texts) + 1
        figures = [re.findall(r"-?\d\.\d+", line) for line in lines[1:]]
        assert all(len(row) == len(texts) for row in figures)
        shown[columns] = len(figures[0][0].partition(".")[2])
    assert shown == {80: 3, 72: 2, 62: 1}
    narrow = " ".join(" ".join(screen(40, "similarity", *texts, "--model", world / "hf")).split())
    assert "9 columns of cosines need more than the 40 columns of this terminal; --top K lists" in narrow


@pytest.mark.parametrize("columns", [80, 120])
def test_no_table_breaks_a_figure_or_a_path(screen, world, tmp_path, columns):
    long = tmp_path / "a-directory-with-a-name-that-goes-on-and-on" / "and-another-one-in-it" / "m.npz"
    if not long.exists():
        lines = screen(columns, "convert", world / "hf", long)
        assert any(str(long) in line for line in lines)
    lines = screen(columns, "inspect", long, "--tensors")
    facts = json.loads("".join(screen(columns, "inspect", long, "--tensors", "--json")))
    for tensor in facts["tensors"]:
        assert any(tensor["name"] in line for line in lines)
        assert any(tensor["sha256"][:16] in line for line in lines)
    assert any(f"SHA-256 {facts['weights_sha256']}" in line for line in lines)
    for command in (
        ["score", "good film, bad plot", "--model", world / "hf"],
        ["fill-mask", "a very long story with music and an actor and a scene and a [MASK] film with a plot", "--model",
         world / "hf"],
        ["tokenize", "good film, bad plot", "--model", world / "hf"],
    ):  # fmt: skip
        assert max(map(len, screen(columns, *command))) <= columns + 10 * (command[0] == "fill-mask")


# --- Ctrl-C


def told(terminal):
    return re.sub(r"\s+", " ", " ".join(line for line in terminal.lines if line))


def resumed(terminal):
    """The command that an interrupted one names, on a line of its own."""
    [line] = [line for line in terminal.lines if line.startswith("albert ")]
    return shlex.split(line)[1:]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_what_is_kept_and_how_it_is_resumed(world, number, tmp_path):
    words = ["finetune", "csv", "--train", world / "reviews.csv", "--model", world / "hf", "--out", "run 1",
             "--steps", "4000", "--batch-size", "8", "--eval-every", "3", "--force"]  # fmt: skip
    terminal = Terminal(*words, columns=400, cwd=tmp_path, forked=True)
    terminal.until("step 6  ", 300)
    terminal.send(number)
    assert terminal.end() == 128 + number
    found = re.search(r"albert: interrupted; step (\d+) is saved in run 1; resume with:", told(terminal))
    assert found
    assert int(found[1]) >= 3
    assert "Traceback" not in told(terminal)
    command = resumed(terminal)
    assert command == [*map(str, words[:-1]), "--resume"]
    terminal = Terminal(*command, columns=400, cwd=tmp_path, forked=True)
    terminal.until("  epoch ", 300)
    first = int(re.search(r"step (\d+)  epoch", "\n".join(terminal.lines))[1])
    assert first > int(found[1])
    terminal.send()
    assert terminal.end() == 130


def test_what_is_kept_of_vectors(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["albert", "embed", "--in", "a b.txt", "--force"])
    target = tmp_path / "v.parquet"
    nothing = "no block of rows was finished yet, so it starts again from the first"
    assert interruption.of_vectors(target) == (nothing, "albert embed --in 'a b.txt' --force")
    (tmp_path / "v.parquet.parts").mkdir()
    for number in range(2):
        (tmp_path / f"v.parquet.parts/part-{number:08}.arrow").touch()
    kept, command = interruption.of_vectors(target)
    assert kept == f"2 blocks of rows are kept in {target}.parts; resume with"
    assert command == "albert embed --in 'a b.txt' --resume"


def test_what_is_kept_of_several_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["albert", "finetune", "rte", "--seeds", "1,2"])
    kept = "no step was saved yet, so it starts again from the first"
    tell = interruption.of_run(tmp_path, resume=False)
    assert tell() == (kept, "albert finetune rte --seeds 1,2")
    for seed in (1, 2):
        (tmp_path / f"seed-{seed}").mkdir()
    (tmp_path / "seed-1/summary.json").write_text("{}")
    header = json.dumps({"__metadata__": {"progress": json.dumps({"step": 7})}}).encode()
    (tmp_path / "seed-2/state.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    for seed in (1, 2):
        (tmp_path / f"seed-{seed}/run.toml").touch()
    kept, command = tell()
    assert kept == f"{tmp_path / 'seed-1'}: complete; step 7 is saved in {tmp_path / 'seed-2'}; resume with"
    assert command == "albert finetune rte --seeds 1,2 --resume"
    (tmp_path / "summary.json").write_text("{}")
    assert tell() == (f"the run in {tmp_path} is complete", None)


def test_ctrl_c_twice_gives_no_traceback(tmp_path):
    code = (
        "import os, sys, time\nfrom albert_cli import console, main\nfrom albert_cli.registry import catalogue\n"
        "def slow():\n"
        "    try:\n        console.say('begun')\n        time.sleep(60)\n"
        "    finally:\n        console.say('clearing')\n"
        f"        while not os.path.exists({str(tmp_path / 'told')!r}):\n            time.sleep(0.01)\n"
        "        console.say('cleared')\n"
        "catalogue.entries = slow\nsys.argv = ['albert', 'models']\nmain.main()\n"
    )
    terminal = Terminal(code=code, columns=120, forked=True)
    terminal.until("begun")
    terminal.send()
    terminal.until("clearing")
    terminal.send()
    terminal.until("stopping")
    (tmp_path / "told").touch()
    assert terminal.end() == 130
    assert terminal.lines == [
        "begun",
        "clearing",
        "albert: stopping; once more ends it without clearing away",
        "cleared",
        "albert: interrupted; nothing was left half-written, and there is nothing to resume",
    ]


def test_ctrl_c_while_the_program_is_still_imported_gives_no_traceback():
    code = (
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'albert_cli.main':\n"
        "            sys.stdout.write('started\\n')\n            sys.stdout.flush()\n            time.sleep(60)\n"
        "from albert_cli.__main__ import run\nsys.meta_path.insert(0, Slow())\nrun()\n"
    )
    terminal = Terminal(code=code, columns=120)
    terminal.until("started")
    terminal.send()
    assert terminal.end() == 130
    assert terminal.lines == [
        "started",
        "albert: interrupted; nothing was left half-written, and there is nothing to resume",
    ]


def test_the_console_has_no_bar_left():
    assert console._bars is None
