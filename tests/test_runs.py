"""What a run's directory goes through: nothing is lost by starting, one process writes, a new run replaces the old."""

import contextlib
import json
import multiprocessing
import os
import re
import resource
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import tree
from programs import Program
from tuning import reviews, write_csv, write_model

from albert_cli import locks, tensor_files
from albert_cli.runs import checkpointing, claim
from converters.errors import FileError, TargetError

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model without dropout, labelled reviews, and a text to pretrain on."""
    root = tmp_path_factory.mktemp("world")
    write_model(root / "model", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    path = root / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classifier_dropout_prob": 0.0}))
    write_csv(root / "train.csv", reviews(32))
    write_csv(root / "dev.csv", reviews(12, seed=9))
    lines = [f"{text} {number}." for number, (text, _) in enumerate(reviews(80, seed=4))]
    (root / "corpus.txt").write_text("\n".join(f"{line}\n" if n % 4 == 3 else line for n, line in enumerate(lines)))
    return root


def finetune(world, out, *more, model=None, train=None):
    files = ["--train", train or world / "train.csv", "--dev", world / "dev.csv", "--model", model or world / "model"]
    settings = ["--steps", 4, "--batch-size", 8, "--max-length", 16, "--eval-every", 2, "--lr", 1e-3]
    return ["finetune", "csv", *files, *settings, "--out", out, *more]


def pretrain(world, out, *more, corpus=None, init=None):
    settings = ["--steps", 4, "--tokens-per-update", 64, "--max-length", 16, "--eval-every", 2, "--hold-out", 4]
    return ["pretrain", "--corpus", corpus or world / "corpus.txt", "--init", init or world / "model", *settings,
            "--out", out, *more]  # fmt: skip


COMMANDS = {"finetune": finetune, "pretrain": pretrain}


@pytest.fixture(scope="module", params=COMMANDS)
def old(request, world, tmp_path_factory):
    """A finished run of each command, with a file of the user's in its directory."""
    from typer.testing import CliRunner

    from albert_cli.main import app

    out = tmp_path_factory.mktemp("old") / "run"
    words = COMMANDS[request.param](world, out)
    assert CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False).exit_code == 0
    (out / "mine.txt").write_text("mine")
    return request.param, out


@pytest.fixture
def run(old, tmp_path):
    name, out = old
    shutil.copytree(out, tmp_path / "run")
    return COMMANDS[name], tmp_path / "run"


def kept(out):
    """The files of a run, but for tokens, the place of a new run, and what a kill left of writing that."""
    others = (claim.REPLACEMENT, f".{claim.REPLACEMENT}.albert-", "tokens")
    return {name: what for name, what in tree(out).items() if not name.startswith(others)}


def test_a_forced_run_that_cannot_begin_leaves_the_old_one_whole(world, run, tmp_path, refused):
    command, out = run
    nothing, nowhere = tmp_path / "nothing", tmp_path / "nowhere.txt"
    faults = [command(world, out, "--force", **{"model" if command is finetune else "init": nothing})]
    faults.append(command(world, out, "--force", **{"train" if command is finetune else "corpus": nowhere}))
    faults.append(command(world, out, "--force", "--max-length", 5000))
    for words in faults:
        assert refused(*words)


def test_a_model_or_its_data_is_not_overwritten_by_the_run_made_from_it(world, run, tmp_path, refused):
    command, out = run
    option = "model" if command is finetune else "init"
    (tmp_path / "link").symlink_to(out)
    for model, target in (
        (out, out),
        (tmp_path / "link", out),
        (out, tmp_path / "link"),
        (f"{out}/.", f"{tmp_path}/nowhere/../run"),
        (out / "model.safetensors", out),
    ):
        message = refused(*command(world, target, "--force", **{option: model}))
        assert "the target is the source itself" in message or "lies inside the target" in message
    assert "lies inside the model it is made from" in refused(*command(world, out / "new", **{option: out}))
    assert "lies inside the target" in refused(*command(world, tmp_path, "--force", **{option: out}))
    hard = tmp_path / "hard"
    hard.hardlink_to(out / "metrics.jsonl")
    message = refused(*command(world, out, "--force", **{"train" if command is finetune else "corpus": hard}))
    assert message == f"{out}: the target is the source itself ({hard}); name another --out"


@pytest.mark.drawn
def test_a_forced_run_takes_the_old_ones_place_when_it_is_finished(world, run, tmp_path, albert):
    command, out = run
    (out / "curves.png").write_bytes(b"old")
    (out / "old.tsv").write_text("not of a run")
    (out / "OLD.tsv").write_text("of a submission")
    before = (out / "model.safetensors").read_bytes()
    code, _, err = albert(*command(world, out, "--force", "--lr", "5e-3"))
    assert code == 0, err
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "model.safetensors").read_bytes() != before
    assert (out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "learning_rate = 0.005" in (out / "run.toml").read_text()
    assert not (out / claim.REPLACEMENT).exists()
    assert not list(out.glob(".*"))
    assert (out / "OLD.tsv").exists() == (command is pretrain)


def wait_for(path, process):
    for _ in range(15_000):  # the machine may be busy
        if path.exists() or process.poll() is not None:
            break
        time.sleep(0.02)
    if not path.exists():
        process.kill()
        pytest.fail(f"{path} did not appear: {process.said()}")


@pytest.mark.parametrize("old", ["finetune", pytest.param("pretrain", marks=pytest.mark.slow)], indirect=True)
def test_a_forced_run_that_is_killed_leaves_the_old_one_and_is_resumed(world, run, tmp_path, albert):
    command, out = run
    before, steps = kept(out), ["--steps", "100000", "--eval-every", "2"]
    process = Program(*command(world, out, "--force", *steps))
    wait_for(out / claim.REPLACEMENT / "state.safetensors", process)
    code, _, err = albert(*command(world, out, "--resume", *steps))
    assert code == 1
    assert f"{out}: another run is writing it now (process {process.pid} on " in err
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert {key: value for key, value in kept(out).items() if key != locks.NAME} == before
    # The new one goes on, here to see that its settings are looked at; the old one is still whole.
    code, _, err = albert(*command(world, out, "--resume"))
    assert code == 1
    assert "steps was 100000, now" in err
    assert kept(out) == before
    # Begun once more, it is the last one that counts.
    assert albert(*command(world, out, "--force", "--lr", "2e-3"))[0] == 0
    assert "learning_rate = 0.002" in (out / "run.toml").read_text()
    assert not (out / claim.REPLACEMENT).exists()


def test_a_forced_run_is_resumed(world, run, albert, monkeypatch):
    command, out = run
    with monkeypatch.context() as patched:
        patched.setattr(claim.Claim, "finish", lambda self: (_ for _ in ()).throw(TargetError("killed")))
        assert albert(*command(world, out, "--force", "--lr", "3e-3"))[0] == 1
    assert "learning_rate = 0.001" in (out / "run.toml").read_text()
    assert albert(*command(world, out, "--resume", "--lr", "3e-3"))[0] == 0
    assert "learning_rate = 0.003" in (out / "run.toml").read_text()
    assert not (out / claim.REPLACEMENT).exists()


def interrupted(err):
    """What Ctrl-C says of a run, and the command that it names."""
    said, _, command = err.splitlines()[-1].removeprefix("albert: interrupted; ").rpartition(": ")
    return said, shlex.split(command)[1:]


def test_ctrl_c_reports_the_new_run_from_the_old_one_and_its_command_works(world, run, albert, monkeypatch):
    command, out = run
    before, begin, save = kept(out), claim.Claim.begin, checkpointing.save
    words = [str(word) for word in command(world, out, "--force", "--lr", "3e-3")]

    def stopped(function):
        def stop(*values, **more):
            function(*values, **more)
            signal.raise_signal(signal.SIGINT)

        return stop

    for place, name, function in ((claim.Claim, "begin", lambda self: None), (claim.Claim, "begin", begin)):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, stopped(function))
            code, _, err = albert(*words)
        assert (code, kept(out)) == (130, before)
        assert interrupted(err) == ("no step was saved yet, so it starts again from the first", words)
    with monkeypatch.context() as patched:
        patched.setattr(checkpointing, "save", stopped(save))
        code, _, err = albert(*words)
    assert (code, kept(out)) == (130, before)
    said, resume = interrupted(err)
    new = out / claim.REPLACEMENT
    assert re.fullmatch(
        rf"step \d is saved in {re.escape(str(new))}; {re.escape(str(out))} keeps the old run until this one is "
        "finished; resume with",
        said,
    )
    assert resume == [*(word for word in words if word != "--force"), "--resume"]
    # What an earlier interruption left is no part of a run that is begun anew.
    with monkeypatch.context() as patched:
        patched.setattr(claim.Claim, "begin", stopped(lambda self: None))
        assert interrupted(albert(*words)[2]) == ("no step was saved yet, so it starts again from the first", words)
    code, _, err = albert(*resume)
    assert code == 0, err
    assert "learning_rate = 0.003" in (out / "run.toml").read_text()
    assert not new.exists()
    with monkeypatch.context() as patched:
        patched.setattr(claim.Claim, "finish", stopped(lambda self: None))
        assert albert(*resume)[2].endswith(f"albert: interrupted; the run in {out} is complete\n")


def test_an_unfinished_new_run_is_not_passed_over_where_the_old_one_is_gone(world, run, albert, monkeypatch):
    command, out = run
    with monkeypatch.context() as patched:
        patched.setattr(claim.Claim, "finish", lambda self: (_ for _ in ()).throw(TargetError("killed")))
        assert albert(*command(world, out, "--force", "--lr", "3e-3"))[0] == 1
    for path in out.iterdir():
        if path.is_file():
            path.unlink()
    code, _, err = albert(*command(world, out))
    assert code == 1
    assert f"{out / claim.REPLACEMENT}: holds a run already; --resume continues it" in err
    assert albert(*command(world, out, "--force"))[0] == 0
    assert "learning_rate = 0.001" in (out / "run.toml").read_text()
    assert not (out / claim.REPLACEMENT).exists()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_kill_while_the_new_run_takes_its_place_loses_nothing(tmp_path, monkeypatch, moved):
    from albert_cli.training.run_directory import OURS

    out = tmp_path / "run"
    new = out / claim.REPLACEMENT
    (new / "seed-1").mkdir(parents=True)
    (out / "seed-1").mkdir()
    for name in ("summary.json", "head.safetensors", "mine.txt", "seed-1/run.toml", "seed-1/CoLA.tsv"):
        (out / name).write_text("old")
    for name in ("summary.json", "curves.png", "seed-1/run.toml"):
        (new / name).write_text("new")
    replace, left = os.replace, [moved]

    def stop(source, target):
        if Path(source).parent.name != claim.REPLACEMENT and Path(source).parent.parent.name != claim.REPLACEMENT:
            return replace(source, target)
        if not left[0] and ".albert-" not in str(source):
            raise KeyboardInterrupt
        left[0] -= ".albert-" not in str(source)
        return replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    arguments = {"ours": OURS, "inputs": claim.Inputs(), "members": ["seed-1"]}
    with pytest.raises(KeyboardInterrupt):
        claim.Claim(out, new, OURS, True).finish()
    monkeypatch.setattr(os, "replace", replace)
    with claim.claimed(out, resume=True, force=False, **arguments) as held:
        assert held.work == out
    found = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}
    wanted = {"summary.json": "new", "curves.png": "new", "seed-1/run.toml": "new", "mine.txt": "old"}
    assert found == wanted


@pytest.mark.slow
def test_seeds_are_replaced_together(world, tmp_path, albert):
    out = tmp_path / "seeds"
    assert albert(*finetune(world, out, "--seeds", "1,2"))[0] == 0
    before = kept(out)
    code, _, err = albert(*finetune(world, out, "--seeds", "1,2"))
    assert code == 1
    assert "holds a run already; --resume continues it, --force replaces it" in err
    assert albert(*finetune(world, out, "--seeds", "1,2", "--force", train=tmp_path / "none.csv"))[0] == 1
    assert kept(out) == before
    assert albert(*finetune(world, out, "--seeds", "1,2", "--force", "--lr", "4e-3"))[0] == 0
    for name in ("seed-1", "seed-2"):
        assert "learning_rate = 0.004" in (out / name / "run.toml").read_text()
    assert kept(out).keys() == before.keys()
    assert not (out / claim.REPLACEMENT).exists()


def test_a_run_where_we_are_with_another_one_inside(world, tmp_path, albert, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    (here / locks.NAME).write_text("")  # left by a run that was killed: no run is there
    monkeypatch.chdir(here)
    short = ["--steps", 1, "--eval-every", 1]
    code, _, err = albert(*finetune(world, ".", *short))
    assert code == 0, err
    assert not (here / locks.NAME).exists()
    for out in (".", "./", "../here/", here):
        code, _, err = albert(*finetune(world, out, *short))
        assert code == 1
        assert "holds a run already; --resume continues it, --force replaces it" in err
    code, _, err = albert(*finetune(world, "inner/", *short))
    assert code == 0, err
    inner = tree(here / "inner")
    code, _, err = albert(*finetune(world, "./", *short, "--force", "--lr", "2e-3"))
    assert code == 0, err
    assert "learning_rate = 0.002" in (here / "run.toml").read_text()
    assert tree(here / "inner") == inner
    assert not (here / claim.REPLACEMENT).exists()


# One writer at a time


def hold(directory, begun, over):
    with locks.locked(directory, directory):
        begun.set()
        over.wait(60)


@contextlib.contextmanager
def no_file_above(size):
    """As on a full disk, but by the system's own limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_of_tensors_that_may_not_grow_is_one_line(world, tmp_path, albert):
    """The library that writes it has one exception for everything."""
    out = tmp_path / "run"
    words = finetune(world, out, "--freeze-encoder")
    with no_file_above(1500):
        code, _, err = albert(*words)
    assert (code, err.count("albert: ")) == (1, 1), err
    assert re.fullmatch(
        rf"albert: {re.escape(str(out))}/features-\w+\.safetensors: the file would exceed the size limit set for this "
        "process",
        err.splitlines()[-1],
    )
    assert not [path for path in out.iterdir() if ".albert-" in path.name or path.suffix == ".safetensors"]
    assert albert(*words, "--resume")[0] == 0


def test_the_file_before_stays_where_the_new_one_may_not_grow(tmp_path):
    path = tmp_path / "state.safetensors"
    tensor_files.write_tensors(path, {"a": torch.zeros(10)})
    before = path.read_bytes()
    with no_file_above(1500), pytest.raises(FileError) as error:
        tensor_files.write_tensors(path, {"a": torch.zeros(1000)})
    assert str(error.value) == f"{path}: the file would exceed the size limit set for this process"
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])


def test_a_lock_names_its_holder_and_goes_with_it(tmp_path):
    out = tmp_path / "a" / "run"
    context = multiprocessing.get_context("fork")
    begun, over = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(out, begun, over))
    holder.start()
    assert begun.wait(60)
    with pytest.raises(TargetError) as caught, locks.locked(out, out):
        pass
    signed = json.loads((out / locks.NAME).read_text())
    assert str(caught.value) == (
        f"{out}: another run is writing it now (process {holder.pid} on {os.uname().nodename}, since "
        f"{signed['since']}); wait for it, or name another --out"
    )
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert (out / locks.NAME).exists()  # of the dead
    with locks.locked(out, out):
        (out / "x").write_text("")
    assert [path.name for path in out.iterdir()] == ["x"]


def test_a_lock_leaves_no_directory_that_it_made(tmp_path):
    with locks.locked(tmp_path / "a" / "b", tmp_path):
        pass
    assert not (tmp_path / "a").exists()
    (tmp_path / "mine").mkdir()
    with locks.locked(tmp_path / "mine", tmp_path):
        pass
    assert (tmp_path / "mine").is_dir()


def test_a_lock_that_was_removed_or_replaced_meanwhile_is_taken_again(tmp_path, monkeypatch):
    import fcntl

    flock, turns = fcntl.flock, []

    def late(file, how):
        turns.append(file.fileno())
        if len(turns) == 1:  # between opening the file and locking it, its last holder let go of it
            (tmp_path / locks.NAME).unlink()
        elif len(turns) == 2:
            (tmp_path / "new").write_text("")
            (tmp_path / "new").rename(tmp_path / locks.NAME)
        return flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locks.locked(tmp_path, tmp_path):
        assert len(turns) == 3
        with pytest.raises(TargetError, match="another run is writing it now"), locks.locked(tmp_path, tmp_path):
            pass


def test_a_file_system_without_locks_is_reported_of(tmp_path, monkeypatch):
    import errno
    import fcntl

    from albert_cli.errors import Notice

    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.warns(Notice, match="this file system has no locks"), locks.locked(tmp_path, tmp_path):
        assert (tmp_path / locks.NAME).exists()
