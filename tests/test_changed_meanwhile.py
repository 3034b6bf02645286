"""What changes, or is refused by the system, while a command runs: one line, and nothing half-written."""

import os
import shutil
import subprocess
import sys
import threading

import pytest
from conftest import tree
from programs import Program
from test_runs import finetune, pretrain, world  # noqa: F401

from albert_cli.embedding import engine
from albert_cli.pretraining import corpus
from converters.errors import FileError
from converters.files import open_regular

AGAIN = "run again once nothing writes to it"
ROWS = "".join(f"text {n}\n" for n in range(4000))


def grown(path):
    with open(path, "a") as file:
        file.write("one more\n")


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def rewritten(path):
    path.write_text(path.read_text().replace("text", "word"))
    os.utime(path, ns=(0, 0))


@pytest.fixture
def failed(albert):
    """What a command says that must fail, in its last line."""

    def run(*arguments):
        code, _, err = albert(*arguments)
        assert code == 1, err
        assert "Traceback" not in err
        return err.splitlines()[-1].removeprefix("albert: ")

    return run


CHANGES = pytest.mark.parametrize("change", [grown, cut, rewritten])


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "texts.txt").write_text(ROWS)
    return tmp_path / "texts.txt"


def once(before, work):
    """The same work, after something else the first time."""
    done = []

    def both(*arguments, **options):
        if not done:
            done.append(before())
        return work(*arguments, **options)

    return both


@CHANGES
def test_an_input_that_changes_while_it_is_embedded_is_refused(
    texts, letter_model, tmp_path, monkeypatch, failed, change
):
    monkeypatch.setattr(engine, "tokenize", once(lambda: change(texts), engine.tokenize))
    size = texts.stat().st_size
    message = failed("embed", "--in", texts, "--model", letter_model, "--out", tmp_path / "x.parquet")
    sizes = f"{size} bytes at first, {texts.stat().st_size} now"
    assert message == f"{texts}: changed while it was read ({sizes}); {AGAIN}"
    assert not (tmp_path / "x.parquet").exists()


@CHANGES
def test_any_file_that_changes_while_it_is_read_is_refused(texts, change):
    def read():
        with open_regular(texts) as file:
            file.read(1)
            change(texts)

    with pytest.raises(FileError, match="changed while it was read"):
        read()


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(texts, tmp_path):
    with open_regular(texts) as file:
        file.read(1)
        (tmp_path / "other").write_text("other")
        (tmp_path / "other").rename(texts)
        assert len(file.read()) == len(ROWS) - 1


@CHANGES
def test_a_corpus_that_changes_after_its_fingerprint_is_refused(world, tmp_path, monkeypatch, failed, change):  # noqa: F811
    text = tmp_path / "corpus.txt"
    shutil.copy(world / "corpus.txt", text)
    monkeypatch.setattr(corpus, "_write", once(lambda: change(text), corpus._write))
    message = failed(*pretrain(world, tmp_path / "run", corpus=text))
    assert message == f"{text}: was changed or replaced since it was opened; {AGAIN}"
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_replaced_before_it_is_loaded_is_refused(texts, letter_model, tmp_path, monkeypatch, failed):
    model, other = tmp_path / "model", tmp_path / "other"
    for path in (model, other):
        shutil.copytree(letter_model, path)

    def replace():
        shutil.rmtree(model)
        other.rename(model)

    monkeypatch.setattr(engine, "Embedder", once(replace, engine.Embedder))
    message = failed("embed", "--in", texts, "--model", model, "--out", tmp_path / "x.parquet")
    assert message.endswith(f": was changed or replaced since it was opened; {AGAIN}")
    assert message.startswith(f"{model}/")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "texts.txt"]


def test_a_system_that_gives_no_thread_is_named(letter_model, tmp_path, monkeypatch, refused):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert refused("convert", letter_model, tmp_path / "x.npz") == (
        "no more threads may be started; raise the limit (ulimit -u, or that of the container)"
    )
    assert not list(tmp_path.iterdir())


UNPRIVILEGED = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
# Such a user is one whose processes nobody else counts; what it may read is as before.
UNPRIVILEGED += [f"--{kind}-caps=+dac_override,+dac_read_search" for kind in ("inh", "ambient")]


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv, for another user")
@pytest.mark.parametrize("words", [["fill-mask", "a [MASK]"], ["finetune", "csv", "--train", "t.csv", "--steps", "2"]])
@pytest.mark.parametrize("limit", [3, 4])
def test_a_user_who_may_start_no_more_threads_is_told(tmp_path, words, limit):
    """Native libraries end the process there, some with no word: threads are tried before they compute."""
    (tmp_path / "t.csv").write_text("text,label\na b,0\nc d,1\ne f,0\ng h,1\n")
    words = [*words, "--threads", "4", *(["--out", "run"] if words[0] == "finetune" else [])]
    run = [*UNPRIVILEGED, "prlimit", f"--nproc={limit}:{limit}", sys.executable, "-m", "albert_cli", *words]
    env = os.environ | {"HOME": str(tmp_path), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr.splitlines()[-1] == (
        "albert: no more threads may be started; raise the limit (ulimit -u, or that of the container)"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from albert_cli.__main__ import run
sys.argv = ["albert", *{!r}]
run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetune", "pretrain", "embed", "tokenize", "npz", "torch", "safetensors", "bson"])
def test_files_that_may_not_grow(world, texts, tmp_path, name):  # noqa: F811
    before = tree(tmp_path)
    words = {
        "finetune": finetune(world, tmp_path / "out"),
        "pretrain": pretrain(world, tmp_path / "out"),
        "embed": ["embed", "--in", texts, "--model", world / "model", "--out", tmp_path / "out.parquet"],
        "tokenize": ["tokenize", "--in", texts, "--model", world / "model", "--out", tmp_path / "out.jsonl"],
    }
    given = words.get(name, ["convert", world / "model", tmp_path / "out", "--to", name])
    with Program(code=LIMITED.format(list(map(str, given)))) as program:
        assert program.wait() == 1, program.said()
    (line,) = program.said().splitlines()
    assert line.startswith(f"albert: {tmp_path / 'out'}")
    assert line.endswith(": the file would exceed the size limit set for this process")
    assert tree(tmp_path) == before
