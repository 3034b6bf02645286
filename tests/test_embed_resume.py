"""Runs that are killed, changed, repeated or split into shards."""

import fcntl
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from albert_cli import locks
from albert_cli.embedding import engine, parquet, resume
from albert_cli.embedding.embedder import Plan
from albert_cli.embedding.engine import Job
from albert_cli.embedding.parquet import Layout
from albert_cli.embedding.settings import Settings
from albert_cli.errors import EmbeddingError
from albert_cli.main import app
from albert_cli.registry.resolve import resolve
from albert_cli.tables.columns import Columns
from albert_cli.tables.sources import Source
from converters.errors import AlbertError, TargetError

ROOT = Path(__file__).parents[1]
BLOCK = 25


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def texts(tmp_path):
    rng = random.Random(5)
    path = tmp_path / "texts.txt"
    path.write_text("".join("".join(rng.choices("abc xyz", k=rng.randrange(40))) + "\n" for _ in range(260)))
    return path


@pytest.fixture(scope="module")
def model(letter_model):
    return resolve(letter_model)


def job(texts, model, target=None, *, settings=None, columns=None, layout=None, **options):
    plan = Plan.of(model, settings, device="cpu", threads=1)
    target = target or texts.with_suffix(".parquet")
    return Job(Source(str(texts), columns), target, plan, layout or Layout(), block_rows=BLOCK, **options)


def stopped_after(rows):
    """A progress that ends the run once so many rows are done."""
    done = 0

    def progress(more, _):
        nonlocal done
        done += more
        if done >= rows:
            raise Killed

    return progress


@pytest.fixture
def interrupted(texts, model):
    """An unfinished run, and what a whole one gives."""
    whole = texts.with_name("whole.parquet")
    engine.run(job(texts, model, whole))
    with pytest.raises(Killed):
        engine.run(job(texts, model), stopped_after(130))
    return whole


def test_a_resumed_run_gives_the_very_same_file(texts, model, interrupted):
    target = texts.with_suffix(".parquet")
    assert not target.exists()
    held = len(list(resume.directory_of(target).glob("part-*")))
    assert 3 <= held < 11
    report = engine.run(job(texts, model, resume=True))
    assert (report.rows, report.rows_resumed) == (260, held * BLOCK)
    assert target.read_bytes() == interrupted.read_bytes()
    assert not resume.directory_of(target).exists()


def test_a_run_that_is_done_is_not_done_again(texts, model):
    engine.run(job(texts, model))
    before = texts.with_suffix(".parquet").stat().st_mtime_ns
    report = engine.run(job(texts, model, resume=True))
    assert (report.rows, report.rows_resumed) == (260, 260)
    assert texts.with_suffix(".parquet").stat().st_mtime_ns == before


def test_a_kill_between_the_file_and_the_removal_of_its_parts(texts, model, monkeypatch):
    def die(self, **_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(resume.Parts, "_remove", die)
        with pytest.raises(Killed):
            engine.run(job(texts, model))
    assert texts.with_suffix(".parquet").exists()
    assert resume.directory_of(texts.with_suffix(".parquet")).exists()
    assert engine.run(job(texts, model, resume=True)).rows_resumed == 260
    assert not resume.directory_of(texts.with_suffix(".parquet")).exists()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"settings": Settings(pooling="cls")}, "pooling is cls, was mean"),
        ({"settings": Settings(layers=(1,))}, "layers is [1], was [2]"),
        ({"settings": Settings(max_length=30)}, "max length is 30, was 64"),
        ({"settings": Settings(normalize=True, dims=8)}, "normalize is true, was false; dims is 8, was 16"),
        ({"settings": Settings(on_truncate="window")}, "on truncate is window, was cut"),
        ({"layout": Layout(dtype="float16")}, "dtype is float16, was float32"),
        ({"layout": Layout(keep_text=True)}, "keep text is true, was false"),
        ({"shard": (0, 2)}, "shard is 0/2, was 0/1"),
    ],
)
def test_a_changed_option_is_refused_with_the_difference(texts, model, interrupted, change, difference):
    directory = resume.directory_of(texts.with_suffix(".parquet"))
    with pytest.raises(EmbeddingError) as error:
        engine.run(job(texts, model, resume=True, **change))
    assert str(error.value) == (
        f"{directory}: the unfinished run was started with other settings ({difference}); repeat these settings, or "
        "restart with --force"
    )
    engine.run(job(texts, model, resume=True))
    with pytest.raises(EmbeddingError) as error:
        engine.run(job(texts, model, resume=True, **change))
    assert f"exists already and was made otherwise ({difference}); --force replaces it" in str(error.value)


def test_error_and_warn_are_the_same_vectors(texts, model, interrupted):
    engine.run(job(texts, model, resume=True, settings=Settings(on_truncate="error")))
    assert texts.with_suffix(".parquet").read_bytes() == interrupted.read_bytes()


def test_another_model_is_refused(texts, model, interrupted, tmp_path):
    arguments = ["init", tmp_path / "other", "--model-config", model.path.parent / "config.json", "--seed", "9"]
    arguments += ["--tokenizer", model.path / "spiece.model"]
    assert CliRunner().invoke(app, [str(item) for item in arguments]).exit_code == 0
    with pytest.raises(EmbeddingError, match=r"weights sha256 is [0-9a-f]{12}…, was [0-9a-f]{12}…\)"):
        engine.run(job(texts, resolve(tmp_path / "other"), resume=True))
    # The same model elsewhere is the same model; the file names it as the run began.
    (tmp_path / "moved").symlink_to(model.path)
    engine.run(job(texts, resolve(tmp_path / "moved"), resume=True))
    assert texts.with_suffix(".parquet").read_bytes() == interrupted.read_bytes()


def test_changed_input_is_refused(texts, model, interrupted):
    lines = texts.read_text().splitlines(keepends=True)
    size = texts.stat().st_size
    texts.write_text("".join(lines[:-1]))
    with pytest.raises(EmbeddingError, match=rf'input is \[\["texts.txt", \d+\]\], was \[\["texts.txt", {size}\]\]'):
        engine.run(job(texts, model, resume=True))
    number = next(n for n in range(BLOCK, 2 * BLOCK) if len(lines[n]) > 1)
    lines[number] = "q" * (len(lines[number]) - 1) + "\n"
    texts.write_text("".join(lines))
    wanted = (
        f"{texts}: line 26 and the 24 rows after it: not the rows that {texts.with_suffix('.parquet')} was started with"
    )
    with pytest.raises(EmbeddingError) as error:
        engine.run(job(texts, model, resume=True))
    assert str(error.value) == f"{wanted}; --force restarts with these"


def test_what_is_there_is_kept_unless_forced(texts, model, interrupted):
    target = texts.with_suffix(".parquet")
    with pytest.raises(TargetError, match=r"contains an unfinished run \(\d parts\); --resume resumes it, --force"):
        engine.run(job(texts, model))
    engine.run(job(texts, model, force=True, layout=Layout(dtype="float16")))
    assert parquet.read_metadata(target)["dtype"] == "float16"
    with pytest.raises(TargetError, match=r"texts\.parquet: exists already; --force replaces it"):
        engine.run(job(texts, model))
    engine.run(job(texts, model, force=True))
    assert target.read_bytes() == interrupted.read_bytes()


def test_the_old_file_stays_until_the_new_one_is_whole(texts, model):
    engine.run(job(texts, model))
    before = texts.with_suffix(".parquet").read_bytes()
    with pytest.raises(Killed):
        engine.run(job(texts, model, force=True, layout=Layout(dtype="int8")), stopped_after(200))
    assert texts.with_suffix(".parquet").read_bytes() == before


def test_two_runs_do_not_write_one_file(texts, model, interrupted):
    directory = resume.directory_of(texts.with_suffix(".parquet"))
    with open(directory / locks.NAME, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TargetError, match=r"texts\.parquet: another run is writing it now; wait for it"):
            engine.run(job(texts, model, resume=True))


def test_files_of_others_beside_the_parts_stay(texts, model, interrupted):
    directory = resume.directory_of(texts.with_suffix(".parquet"))
    (directory / "mine.txt").write_text("mine")
    engine.run(job(texts, model, resume=True))
    assert [entry.name for entry in directory.iterdir()] == ["mine.txt"]


def test_a_full_disk_loses_nothing(texts, model, interrupted):
    target = texts.with_suffix(".parquet")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    held = len(list(resume.directory_of(target).glob("part-*")))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(AlbertError, match="the file would exceed the size limit set for this process"):
            engine.run(job(texts, model, resume=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(list(resume.directory_of(target).glob("part-*"))) == held
    engine.run(job(texts, model, resume=True))
    assert target.read_bytes() == interrupted.read_bytes()


@pytest.mark.parametrize("count", [1, 3, 7])
def test_shards_make_the_whole(texts, model, tmp_path, count):
    columns = {"columns": None}
    engine.run(job(texts, model, tmp_path / "whole.parquet", layout=Layout(keep_text=True), **columns))
    whole = pq.read_table(tmp_path / "whole.parquet")
    files = []
    for index in range(count):
        files.append(tmp_path / f"s-{index}.parquet")
        engine.run(job(texts, model, files[-1], layout=Layout(keep_text=True), shard=(index, count), **columns))
        assert pq.read_table(files[-1])["id"].to_pylist() == list(range(index, 260, count))
    arguments = ["embed", "--merge", "--in", tmp_path / "s-*.parquet", "--out", tmp_path / "merged.parquet", "--json"]
    done = CliRunner().invoke(app, [str(item) for item in arguments], catch_exceptions=False)
    assert json.loads(done.stdout)["rows"] == 260
    merged = pq.read_table(tmp_path / "merged.parquet")
    assert merged.drop_columns("embedding").equals(whole.drop_columns("embedding"))
    a, b = (np.asarray(table["embedding"].combine_chunks().flatten()) for table in (merged, whole))
    assert np.abs(a - b).max() < 1e-5
    facts, there = parquet.read_metadata(tmp_path / "merged.parquet"), parquet.read_metadata(tmp_path / "whole.parquet")
    del there["input_sha256"]
    assert facts == there


def test_a_shard_without_rows_is_an_empty_file(tmp_path, model):
    (tmp_path / "t.txt").write_text("a\nb\n")
    for index in range(3):
        engine.run(job(tmp_path / "t.txt", model, tmp_path / f"s{index}.parquet", shard=(index, 3)))
    assert [pq.read_metadata(tmp_path / f"s{index}.parquet").num_rows for index in range(3)] == [1, 1, 0]
    from albert_cli.embedding.merge import merge

    merge([tmp_path / f"s{index}.parquet" for index in range(3)], tmp_path / "m.parquet")
    assert pq.read_table(tmp_path / "m.parquet")["id"].to_pylist() == [0, 1]


def test_merge_refuses_what_is_no_whole(texts, model, tmp_path):
    from albert_cli.embedding.merge import merge

    files = [tmp_path / f"s{index}.parquet" for index in range(3)]
    for index, file in enumerate(files):
        engine.run(job(texts, model, file, shard=(index, 3)))
    with pytest.raises(EmbeddingError, match=r"^shard 1/3 is missing; all 3 of them make the whole$"):
        merge([files[0], files[2]], tmp_path / "m.parquet")
    with pytest.raises(EmbeddingError, match=r"s0\.parquet: shard 0/3 is .*s0\.parquet already"):
        merge([*files, files[0]], tmp_path / "m.parquet")
    engine.run(job(texts, model, files[1], shard=(1, 3), settings=Settings(pooling="max"), force=True))
    with pytest.raises(
        EmbeddingError, match=r"s1\.parquet: was not made as .*s0\.parquet was: pooling is max, there mean"
    ):
        merge(files, tmp_path / "m.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(EmbeddingError, match=r"x\.parquet: not a file that `albert embed --shard` has written"):
        merge([tmp_path / "x.parquet"], tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()


def test_a_run_that_has_done_nothing_is_in_nobodys_way(texts, model, tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("key,body\n1,a\n")
    with pytest.raises(AlbertError, match="the header has no column 'text'"):
        engine.run(job(tmp_path / "t.csv", model))
    assert not resume.directory_of(tmp_path / "t.parquet").exists()
    # Killed before its first part, it leaves what the next run takes over, whatever its settings are.
    with monkeypatch.context() as patched:
        patched.setattr(resume.Parts, "_leave_nothing_empty", lambda self: None)
        with pytest.raises(AlbertError):
            engine.run(job(tmp_path / "t.csv", model))
    names = sorted(entry.name for entry in resume.directory_of(tmp_path / "t.parquet").iterdir())
    assert names == ["manifest.json"]
    other = {"columns": Columns("body"), "settings": Settings(pooling="cls")}
    assert engine.run(job(tmp_path / "t.csv", model, **other)).rows == 1


def test_ids_are_checked_before_any_work(tmp_path, model):
    (tmp_path / "t.csv").write_text("id,text\n1,a\n2,b\n1,c\n")
    with pytest.raises(AlbertError, match=r"t\.csv: line 4: the id '1' is that of .*t\.csv: line 2 already"):
        engine.run(job(tmp_path / "t.csv", model, columns=Columns(id="id")))
    assert not (tmp_path / "t.parquet").exists()


def test_rows_of_a_bad_file_are_there_once_it_is_mended(tmp_path, model):
    lines = [f"text {n:04}\n".encode() for n in range(1200)]
    (tmp_path / "t.txt").write_bytes(b"".join([*lines[:1100], b"t\xe4xt 1100\n", *lines[1101:]]))
    with pytest.raises(AlbertError, match="line 1101 is not UTF-8"):
        engine.run(job(tmp_path / "t.txt", model))
    assert len(list((tmp_path / "t.parquet.parts").glob("part-*"))) == 1024 // BLOCK
    (tmp_path / "t.txt").write_bytes(b"".join(lines))
    report = engine.run(job(tmp_path / "t.txt", model, resume=True))
    assert (report.rows, report.rows_resumed) == (1200, 1000)


# Says when it is ready, so that the kills fall into the work and not into the imports.
CHILD = """
import sys
from pathlib import Path
from albert_cli.embedding import engine
from albert_cli.embedding.embedder import Plan
from albert_cli.embedding.parquet import Layout
from albert_cli.tables.sources import Source
from albert_cli.registry.resolve import resolve
texts, target, model = sys.argv[1:]
plan = Plan.of(resolve(model), device="cpu", threads=1)
job = engine.Job(Source(texts), Path(target), plan, Layout(keep_text=True), resume=True, block_rows=20)
print("ready", flush=True)
engine.run(job)
"""


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(texts, model, tmp_path):
    texts.write_text(texts.read_text() * 12)

    def start(target):
        command = [sys.executable, "-c", CHILD, str(texts), str(target), str(model.path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})
        with process.stdout as out:
            assert out.readline() == b"ready\n"
        return process

    began = time.monotonic()
    process = start(tmp_path / "whole.parquet")
    began = time.monotonic()
    assert process.wait() == 0
    lasted = time.monotonic() - began
    expected = (tmp_path / "whole.parquet").read_bytes()
    rng, target, kills, finished = random.Random(11), tmp_path / "out.parquet", 0, 0
    while kills < 20 or finished < 1:
        process = start(target)
        try:
            # Mostly early in what is left, so that many kills fall into one run; some near its end.
            process.wait(rng.uniform(0, lasted * rng.choice([0.1, 0.4, 1.0])))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0
        if target.exists():
            assert target.read_bytes() == expected
            if process.returncode == 0:
                assert not resume.directory_of(target).exists()
                target.unlink()
                finished += 1
    assert start(target).wait() == 0
    assert target.read_bytes() == expected
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.parquet", "texts.txt", "whole.parquet"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_lines(letter_model, tmp_path):
    def peak(lines):
        path = tmp_path / f"{lines}.txt"
        path.write_text("".join(f"text number {n} of some\n" for n in range(lines)))
        command = ["embed", "--in", str(path), "--model", str(letter_model), "--threads", "1", "--keep-text"]
        code = (
            "import resource, sys; from typer.testing import CliRunner; from albert_cli.main import app\n"
            "assert CliRunner().invoke(app, sys.argv[1:], catch_exceptions=False).exit_code == 0\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, check=True, env=environment)
        return int(done.stdout)

    small, large = peak(1_000), peak(100_000)
    assert pq.read_metadata(tmp_path / "100000.parquet").num_rows == 100_000
    assert large - small < 300, (small, large)
