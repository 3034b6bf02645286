"""Named pipes as files to read: read once, or refused in one line; nothing waits for ever."""

import os
import signal
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest
from programs import Program

TEXTS = "a good film\na bad one\n"


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "texts.txt")
    return tmp_path / "texts.txt"


@pytest.fixture
def written(pipe):
    """A pipe that someone writes to."""
    thread = threading.Thread(target=lambda: pipe.write_text(TEXTS), daemon=True)
    thread.start()
    return pipe


READERS = {
    "tokenize": ["tokenize", "--in", "{}", "--format", "ids"],
    "similarity": ["similarity", "--in", "{}", "--json"],
    "search": ["search", "a film", "--in", "{}", "--json"],
    "score": ["score", "--in", "{}", "--json"],
    "embed": ["embed", "--in", "{}", "--threads", "1", "--out", "{}.parquet"],
    "embed with ids": [
        "embed", "--in", "{}", "--input-format", "csv", "--text-column", "a good film", "--id-column", "a good film",
        "--threads", "1", "--out", "{}.parquet",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_read_once(written, letter_model, albert, name):
    words = [word.format(written) for word in READERS[name]]
    code, out, err = albert(*words, "--model", letter_model)
    assert code == 0, err
    if name.startswith("embed"):
        assert pq.read_metadata(f"{written}.parquet").num_rows == (1 if "ids" in name else 2)
    else:
        assert out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain", "--corpus", "{}", "--steps", "1"], "a pipe or device, not a regular file"),
        (["finetune", "csv", "--train", "{}"], "a stream, but a run reads its data again"),
        (["inspect", "{}"], ""),
        (["similarity", "a text", "{}.parquet"], "a pipe or device, not a regular file"),
        (["tokenize", "--model", "{}", "a text"], ""),
    ],
)
def test_a_pipe_that_is_to_be_read_again_is_refused(pipe, albert, words, said):
    os.mkfifo(f"{pipe}.parquet")
    code, _, err = albert(*(word.format(pipe) for word in words))
    assert code in (1, 2)
    assert said in err
    assert "Traceback" not in err


def test_a_pipe_without_a_writer_is_left_at_a_signal(pipe):
    words = [sys.executable, "-m", "albert_cli", "embed", "--in", str(pipe), "--out", f"{pipe}.parquet"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not _waits(process.pid):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert process.returncode == 143


def test_a_silent_standard_input_is_left_at_a_signal_and_what_was_embedded_is_kept(tmp_path, letter_model):
    rows, out = "".join(f"text {n}\n" for n in range(3000)).encode(), tmp_path / "out.parquet"
    words = ["embed", "--in", "-", "--out", out, "--model", letter_model, "--threads", "1"]

    def start(*more):
        ours, theirs = os.pipe()
        with open(ours, "rb") as read_end:
            program = Program(*words, *more, stdin=read_end)
        os.write(theirs, rows)
        return program, theirs

    program, writing = start()
    with program:
        while not list(tmp_path.glob("out.parquet.parts/part-*")):
            assert program.poll() is None, program.said()
            time.sleep(0.05)
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 143, program.said()
    os.close(writing)
    assert f"albert: interrupted; 1 block of rows is kept in {out}.parts; resume with: " in program.said()
    program, writing = start("--resume")
    os.close(writing)
    with program:
        assert program.wait() == 0, program.said()
    assert pq.read_table(out)["id"].to_pylist() == list(range(3000))


def _waits(number):
    with open(f"/proc/{number}/wchan", encoding="utf-8") as file:
        return file.read() in ("wait_for_partner", "fifo_open")
