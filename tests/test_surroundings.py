"""What a command finds around it: streams that are closed, names that are odd or long, a terminal of any width."""

import os
import re
import shutil

import pytest
from conftest import tree
from every_command import COMMANDS, REFUSED, WRITTEN, make_world
from programs import Program

pytestmark = pytest.mark.usefixtures("undrawn")
CLOSED = {">&-": (1,), "2>&-": (2,), "<&-": (0,), "<&- >&- 2>&-": (0, 1, 2)}
QUICK = ("models", "tokenize", "convert")
CAFE = os.fsdecode(b"caf\xe9")
# What has no place for a name that is not UTF-8, and says so.
NO_PLACE = r"caf\\udce9[\w./]*'?[:,] a name that is not UTF-8"
TARGETS = {
    "npz": (["convert", "model"], ".npz"),
    "tfbson": (["convert", "model"], ".tfbson"),
    "directory": (["convert", "model"], ""),
    "init": (["init", "--preset", "tiny"], ""),
    "vectors": (["embed", "--in", "t.txt", "--model", "model", "--out"], ".parquet"),
    "tokens": (["tokenize", "a film", "--model", "model", "--out"], ".html"),
    "scores": (["score", "a film", "--model", "model", "--out"], ".csv"),
    "predictions": (["predict", "run", "--in", "dev.csv", "--out"], ".jsonl"),
    "picture": (["similarity", "a", "b", "--model", "model", "--plot"], ".svg"),
    "run": (["finetune", *COMMANDS["finetune"][:-3], "--out"], ""),
    "pretraining": (["pretrain", *COMMANDS["pretrain"][:-3], "--out"], ""),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A copy of the world, to work in."""
    shutil.copytree(world, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_a_closed_stream_changes_nothing_but_what_is_seen(here, name, closed):
    with Program(name, *COMMANDS[name], cwd=here, closed=CLOSED[closed]) as program:
        code = program.wait()
    assert code == (1 if name in REFUSED else 0), program.said()
    assert "Traceback" not in program.said()
    if name in REFUSED:
        assert bool(program.said()) == (2 not in CLOSED[closed])
    elif 1 not in CLOSED[closed]:
        assert program.said()
    assert name not in WRITTEN or (here / WRITTEN[name]).exists()


@pytest.mark.parametrize("name", ["tokenize", "embed", "score", "fill-mask", "predict"])
def test_a_standard_input_that_is_closed_is_empty(here, name):
    words = {"embed": ["--model", "model", "--out", "o.parquet"], "predict": ["run"]}.get(name, ["--model", "model"])
    with Program(name, *words, "--in", "-", cwd=here, closed=(0,)) as program:
        code = program.wait()
    assert code in (0, 1)
    assert "Traceback" not in program.said()
    assert code == 0 or re.fullmatch(r"albert: [^\n]*\n", program.said())


@pytest.mark.parametrize("columns", ["0", "-1", "1", "junk", "", "99999999999999999999", "1.5", "٣"])
@pytest.mark.parametrize("words", [["models"], ["embed", "--help"], ["similarity", *COMMANDS["similarity"]]])
def test_a_terminal_of_any_width(here, albert, monkeypatch, columns, words):
    for name in ("COLUMNS", "LINES"):
        monkeypatch.setenv(name, columns)
    code, out, err = albert(*words)
    assert (code, err) == (0, "")
    assert out


@pytest.mark.parametrize("name", TARGETS)
def test_the_name_of_a_target_may_be_as_long_as_any(here, albert, name):
    words, ending = TARGETS[name]
    for size in (240, 255, 256):
        target = "n" * (size - len(ending)) + ending
        before = tree(here)
        code, _, err = albert(*words, target)
        if code == 0:
            assert os.path.lexists(target)
            assert {path.partition("/")[0] for path in tree(here).keys() - before.keys()} == {target}
        else:
            assert (code, err.count("albert: ")) == (1, 1), err
            assert "name too long" in err.lower(), err
            assert tree(here) == before
        room = 6 if name == "vectors" else 0  # for its finished blocks, in NAME.parts
        assert (code == 0) == (size + room < 256), (size, err)


@pytest.mark.parametrize("name", [*TARGETS, "parquet", "onnx", "saved-model"])
def test_names_of_targets_may_be_any_bytes(here, albert, name):
    more = {
        "parquet": (["score", "a film", "--model", "model", "--out"], ".parquet"),
        "onnx": (["convert", "model", "--to", "onnx"], ".onnx"),
        "saved-model": (["convert", "model", "--to", "saved-model"], ""),
    }
    words, ending = (TARGETS | more)[name]
    before = tree(here)
    code, _, err = albert(*words, f"{CAFE}{ending}")
    if code == 0:
        assert {path.partition("/")[0] for path in tree(here).keys() - before.keys()} == {f"{CAFE}{ending}"}
    else:
        assert name in ("onnx", "saved-model")
        assert re.search(NO_PLACE, err), err
        assert (code, tree(here)) == (1, before)


@pytest.mark.parametrize("name", ["finetune", "pretrain"])
def test_a_run_says_that_it_cannot_note_a_name_that_is_not_utf8(here, albert, name):
    words = [f"{CAFE}/{word}" if word in ("train.csv", "corpus.txt") else word for word in COMMANDS[name]]
    (here / CAFE).mkdir()
    for file in ("train.csv", "corpus.txt"):
        shutil.copy(file, CAFE)
    before = tree(here)
    code, _, err = albert(name, *words)
    assert (code, err.count("\n")) == (1, 1)
    assert re.search(NO_PLACE, err), err
    assert tree(here) == before


def test_files_that_are_read_may_have_any_name(here, albert):
    (here / CAFE).mkdir()
    for file in ("dev.csv", "t.txt"):
        shutil.copy(file, CAFE)
    shutil.copytree("run", f"{CAFE}/run")
    for words in (
        ["predict", f"{CAFE}/run", "--in", f"{CAFE}/dev.csv", "--out", f"{CAFE}/p.parquet"],
        ["evaluate", f"{CAFE}/run", "--data", f"{CAFE}/dev.csv"],
        ["embed", "--in", f"{CAFE}/t.txt", "--model", "model", "--out", f"{CAFE}/v.parquet", "--shard", "0/2"],
        ["embed", "--in", f"{CAFE}/t.txt", "--model", "model", "--out", f"{CAFE}/v.parquet", "--shard", "1/2"],
        ["embed", "--merge", "--in", f"{CAFE}/v-*.parquet", "--out", f"{CAFE}/all.parquet"],
        ["tokenize", "--in", f"{CAFE}/t.txt", "--model", "model"],
    ):
        code, _, err = albert(*words)
        assert code == 0, (words, err)
