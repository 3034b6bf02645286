"""Ctrl-C wherever Python hears it while a file is written: no destructor complains, and the target is as it was."""

import dis
import functools
import gc
import itertools
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import making
import numpy as np
import pyarrow as pa
import pytest
from conftest import tree

from albert_cli import interruption
from albert_cli.embedding import kinds
from albert_cli.training import submission
from converters import convert
from converters.staging import atomic_write

ROOT = Path(__file__).parents[1]
# Where it is tried: in what opens, writes and closes files, ours and others'.
WATCHED = ("converters/formats/", "converters/julia/file.py", "converters/zip_members.py")
WATCHED += ("converters/staging.py", "converters/scratch.py")
WATCHED += ("albert_cli/embedding/", "albert_cli/training/submission.py", "zipfile", "contextlib.py")
WATCHED += ("torch/serialization.py", "pyarrow/parquet/core.py")
LIGHT = [name for name in convert.writable() if name not in making.BY_TENSORFLOW]
SMALL = making.dataclasses.replace(making.TINY, num_hidden_layers=1)


@functools.cache
def stops(code):
    """Python hears of a signal where a function begins, and after each call: the places of the latter."""
    steps = [(step.offset, step.opname) for step in dis.get_instructions(code)]
    return {after for (_, name), (after, _) in itertools.pairwise(steps) if name.startswith("CALL")}


@functools.cache
def watched(code):
    if code.co_name == "<genexpr>":  # left half-way, Python ends it in a destructor of its own
        return False
    return any(f"/{part}" in code.co_filename for part in WATCHED)


class Tracer:
    """Notes the places where a signal may fall, or calls `stop` the first time that `only` is come to."""

    def __init__(self, only=None, stop=None):
        self.only, self.stop, self.seen = only, stop, {}

    def __call__(self, frame, event, arg):
        code = frame.f_code
        if event == "call":
            if code is not self.only[0] if self.only else not watched(code):
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event != "opcode" or frame.f_lasti not in stops(code):
            return self
        place = (code, frame.f_lasti)
        self.seen.setdefault(place)
        if place == self.only:
            sys.settrace(None)
            self.stop()
        return self

    def follow(self, *works):
        sys.settrace(self)
        try:
            for work in works:
                work()
        finally:
            sys.settrace(None)


def interrupt():
    raise KeyboardInterrupt


def wait():
    """For what a destructor swallowed, and is raised again soon."""
    time.sleep(1)


def try_everywhere(write, folder, stop=interrupt, stopped=KeyboardInterrupt):
    """Interrupt a writing at every place in turn; what lies in the folder stays, or else the new is complete."""
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    before = tree(folder)
    all_of_it = Tracer()
    all_of_it.follow(write)
    done = tree(folder)
    assert done != before
    gc.collect()
    gc.freeze()  # so that what is collected below is what was interrupted, and soon
    for place in [*all_of_it.seen, None]:
        if tree(folder) != before:
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)
        if place is not None:
            with pytest.raises(stopped):
                Tracer(place, stop).follow(write, wait)
            gc.collect()
            assert tree(folder) in (before, done), place
    gc.unfreeze()


@pytest.fixture
def complaints(monkeypatch):
    """What destructors complained of."""
    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: said.append((one.object, one.exc_value)))
    monkeypatch.setattr(os, "fsync", lambda number: None)  # slow, and of no interest
    return said


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # as Python does by itself


@pytest.mark.parametrize(
    "form", [*LIGHT, *(pytest.param(form, marks=pytest.mark.slow) for form in making.BY_TENSORFLOW)]
)
def test_a_model(tmp_path, complaints, form):
    new, old = (making.model(SMALL, seed=seed, without=("qa", "classifier", "sop", "mlm")) for seed in (1, 2))
    writer = convert.formats()[form]

    def write(model=new):
        with atomic_write(tmp_path / "work" / "x", force=True, ours=writer.OURS) as beside:
            writer.write(model, beside)

    (tmp_path / "work").mkdir()
    write(old)
    try_everywhere(write, tmp_path / "work")
    assert not complaints


@pytest.fixture
def handled(monkeypatch):
    """Ctrl-C as the commands hear it; calling this sends it."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]

    def stop():
        interruption.handle()
        signal.raise_signal(signal.SIGINT)

    yield stop
    for number, handler in before:
        signal.signal(number, handler)


def test_embeddings(tmp_path, capfd, handled):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(12, dtype=np.float32)), 3)
    batch = pa.record_batch({"vector": vectors})
    target = tmp_path / "work" / "x.parquet"

    def write():
        with atomic_write(target, force=True, ours=None) as built:
            kinds.write(batch.schema, [batch], built, target, {"dtype": "float32", "dims": "3", "rows": "4"})

    target.parent.mkdir()
    try_everywhere(write, target.parent, handled, interruption.Interrupted)
    assert capfd.readouterr().err == ""


def test_a_submission(tmp_path, capfd, handled):
    files = {name: tmp_path / name for name in submission.ROWS}
    for file in files.values():
        file.write_text("index\tprediction\n0\t1\n")
    target = tmp_path / "work" / "x.zip"
    target.parent.mkdir()
    try_everywhere(lambda: submission.pack(files, target, force=True), target.parent, handled, interruption.Interrupted)
    assert capfd.readouterr().err == ""


def test_a_destructor_that_swallows_it(capfd, handled):
    class Holder:
        def __del__(self):
            handled()

    def work():
        Holder()
        wait()

    with pytest.raises(interruption.Interrupted):
        work()
    assert capfd.readouterr().err == ""
