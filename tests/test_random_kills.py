"""Commands killed or interrupted at random moments, resumed or run again: equal results, and nothing left over.

ALBERT_KILLS says how many kills in all (300; a quarter as many interruptions), ALBERT_KILLS_SEED another seed.
"""

import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import making
import psutil
import pytest
from conftest import tree
from programs import Program
from test_runs import finetune, pretrain, world  # noqa: F401

from albert_cli.runs.log import read_log
from converters import convert

with contextlib.suppress(pytest.skip.Exception):  # without Ray its tests are skipped, not these
    from test_embed_ray import address  # noqa: F401

KILLS = int(os.environ.get("ALBERT_KILLS", "300"))
SEED = int(os.environ.get("ALBERT_KILLS_SEED", "11"))
FORMATS = [*convert.writable(), "onnx"]
# Of all kills, how many hundredths fall on each; the formats share what is left.
SHARES = {"finetune": 20, "pretrain": 20, "embed": 16, "ray": 4}
# A run is resumed after each of at most so many kills, then left to end.
MOST_IN_ONE_RUN = 4
TRAINING = {"finetune": finetune, "pretrain": pretrain}
TRAINED = ("model.safetensors", "head.safetensors", "dev_predictions.csv", "spiece.model", "run.toml")


def share(name):
    left = (100 - sum(SHARES.values())) / len(FORMATS)
    return max(1, round(KILLS * SHARES.get(name, left) / 100))


@dataclass
class Job:
    """A command that writes `out`, in a folder of its own beside the folder of temporary files."""

    folder: Path
    words: list
    again: list  # after a kill
    out: str
    result: object = tree
    preload: tuple = ()
    seconds: float = 0
    killed: int = 0
    old: Path | None = None
    env: dict = field(init=False)

    def __post_init__(self):
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.env = os.environ | {"TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        self.work = self.folder / "work"
        self.work.mkdir()

    @property
    def target(self):
        return self.work / self.out

    def start(self, words):
        return Program(*words, cwd=self.work, env=self.env, preload=self.preload)

    def undisturbed(self, words):
        """Run to the end; what that gave."""
        began = time.monotonic()
        with self.start(words) as program:
            assert program.wait(1200) == 0, program.said()
        assert sorted(path.name for path in self.work.iterdir()) == [self.out]
        assert [path.name for path in self.temporary.iterdir()] == []
        left = [path for path in self.work.rglob("*") if ".albert-" in path.name or path.name.startswith(".")]
        assert left == []
        self.seconds = time.monotonic() - began
        return self.result(self.target)

    def kill_once(self, moment):
        with self.start(self.again) as program:
            try:
                assert program.wait(moment) == 0, program.said()
            except subprocess.TimeoutExpired:
                program.send_signal(signal.SIGKILL)
                self.killed += program.wait() == -signal.SIGKILL

    def begin(self):
        """As it was before the command: nothing, or an old model in the place of the target."""
        shutil.rmtree(self.work)
        self.work.mkdir()
        if self.old:
            (shutil.copytree if self.old.is_dir() else shutil.copy)(self.old, self.target)


def assert_equal_after_kills(job, count, name, *, whole):
    """`whole`: the target is what it was or what it is to be, also after a kill."""
    job.begin()
    wanted = job.undisturbed(job.words)
    before = job.old and job.result(job.old)
    rng, rounds = random.Random(f"{SEED} {name}"), 0
    while job.killed < count:
        job.begin()
        for _ in range(rng.randint(1, MOST_IN_ONE_RUN)):
            job.kill_once(rng.uniform(0, job.seconds))
            if whole:
                assert (job.result(job.target) if job.target.exists() else None) in (before, wanted)
        assert job.undisturbed(job.again) == wanted
        rounds += 1
    assert rounds
    sys.stdout.write(f"{name}: {job.killed} kills, {rounds} runs ended with the same result\n")


def assert_one_line_at_interrupts(job, count, name):
    """One line and 130 or 143, unless it has ended; what is left is what a run again takes up."""
    job.begin()
    wanted = job.undisturbed(job.words)
    rng, codes = random.Random(f"{SEED} {name}"), Counter()
    while sum(codes.values()) < count:
        job.begin()
        number = rng.choice([signal.SIGINT, signal.SIGTERM])
        with job.start(job.words) as program:
            while program.poll() is None and not handles(program.pid, signal.SIGTERM):
                time.sleep(0.001)
            time.sleep(rng.uniform(0, job.seconds))
            program.send_signal(number)
            code = program.wait(600)
        said = program.said()
        assert code in (0, 128 + number, -number), said  # the last where it had finished and was ending
        assert "Traceback" not in said
        if code == 128 + number:
            assert said.splitlines()[-1].startswith("albert: interrupted; "), said
            assert [path for path in job.folder.rglob("*") if ".albert-" in path.name] == []
        codes[code] += 1
        assert job.undisturbed(job.again) == wanted
    sys.stdout.write(f"{name}: interrupted {sum(codes.values())} times, {dict(codes)}\n")


def handles(pid, number):
    """Whether a process has a handler of its own for a signal."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status.get("SigCgt", "0"), 16) >> (number - 1) & 1)


def trained(out):
    """What must not depend on kills: all but times."""
    summary = json.loads((out / "summary.json").read_text())
    figures = [
        {key: value for key, value in record.items() if key != "seconds"} for record in [summary, *read_log(out)]
    ]
    return figures, sorted(tree(out)), {name: (out / name).read_bytes() for name in TRAINED if (out / name).exists()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING)
def test_training(world, tmp_path, name):  # noqa: F811
    words = TRAINING[name](world, "run", "--steps", 12)
    job = Job(tmp_path, words, [*words, "--resume"], "run", trained)
    assert_equal_after_kills(job, share(name), name, whole=False)
    assert_one_line_at_interrupts(job, -(-share(name) // 4), name)


@pytest.fixture
def texts(tmp_path):
    rng = random.Random(5)
    path = tmp_path / "texts.csv"
    rows = (f'{n},"{"".join(rng.choices("abc xyz", k=rng.randrange(40)))}"' for n in range(6000))
    path.write_text("\n".join(["key,text", *rows]) + "\n")
    return path


def embedding(texts, model):
    return ["embed", "--in", texts, "--id-column", "key", "--keep-text", "--model", model, "--threads", "1"]


@pytest.mark.slow
def test_embed(texts, letter_model, tmp_path):
    words = [*embedding(texts, letter_model), "--out", "x.parquet"]
    job = Job(tmp_path / "job", words, [*words, "--resume"], "x.parquet", Path.read_bytes)
    assert_equal_after_kills(job, share("embed"), "embed", whole=True)
    assert_one_line_at_interrupts(job, -(-share("embed") // 4), "embed")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")
def test_workers_of_ray(texts, letter_model, tmp_path, address):
    """A worker that is killed is replaced, or the run ends with one line and is resumed."""
    words = [*embedding(texts, letter_model), "--out", "x.parquet", "--engine", "ray", "--address", address]
    words += ["--num-actors", "1"]
    job = Job(tmp_path / "job", words, [*words, "--resume"], "x.parquet", Path.read_bytes, preload=("ray.data",))
    wanted, rng, count, rounds = job.undisturbed(words), random.Random(f"{SEED} ray"), share("ray"), 0
    while job.killed < count:
        job.begin()
        with job.start(words) as program:
            end = time.monotonic() + rng.uniform(0.3, 1) * job.seconds
            while time.monotonic() < end or not workers():
                if program.poll() is not None:
                    break
                time.sleep(0.02)
            for worker in workers():
                worker.kill()
                job.killed += 1
            code = program.wait(600)
        if code:
            line = program.said().splitlines()[-1]
            assert line.startswith("albert: the Ray cluster failed: ")
            assert code == 1
            assert job.undisturbed(job.again) == wanted
        assert job.target.read_bytes() == wanted
        assert [path.name for path in job.work.iterdir()] == ["x.parquet"]
        rounds += 1
    sys.stdout.write(f"ray: {job.killed} workers killed, {rounds} runs ended with the same result\n")


def workers():
    """The processes of Ray that embed."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if line.startswith("ray::") and "Worker" in line:
            found.append(process)
    return found


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    config = making.dataclasses.replace(making.TINY, vocab_size=20_000, embedding_size=24)
    convert.save(making.model(config, seed=1), folder / "old")
    convert.save(making.model(config, seed=2), folder / "new")
    return folder


PRELOADED = {
    "tf": ("tensorflow",),
    "saved-model": ("tensorflow",),
    "onnx": ("torch.onnx", "onnx", "onnxscript", "onnxruntime"),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("old", [False, True], ids=["", "over an old one"])
def test_convert(sources, tmp_path, form, old):
    out = "x.npz" if form == "npz" else f"target-{form}"
    words = ["convert", sources / "new", out, "--to", form, *(["--force"] if old else [])]
    job = Job(tmp_path / "job", words, [*words, "--force"], out, contents, preload=PRELOADED.get(form, ()))
    if old:
        job.old = tmp_path / out
        with job.start(["convert", sources / "old", job.old, "--to", form]) as program:
            assert program.wait(1200) == 0, program.said()
    name = f"convert --to {form}{', an old one there' * old}"
    assert_equal_after_kills(job, -(-share(form) // 2), name, whole=True)
    assert_one_line_at_interrupts(job, -(-share(form) // 4), name)


def contents(path):
    return tree(path) if path.is_dir() else path.read_bytes()
