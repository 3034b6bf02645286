"""Two processes on processors train what one does, write once, speak once, and leave a run that goes on."""

import json
import shutil

import numpy as np
import pytest
from sharing import shared
from test_runs import finetune, pretrain, world  # noqa: F401
from tuning import reviews, write_csv, write_model, write_squad

from albert_cli.runs.log import read_log

pytestmark = pytest.mark.usefixtures("undrawn")


def command(world, kind, out):  # noqa: F811
    if kind == "pretrain":
        return pretrain(world, out)
    if kind == "questions":
        (world / "squad").mkdir(exist_ok=True)
        write_squad(world / "squad/train-v2.0.json", count=12)
        write_squad(world / "squad/dev-v2.0.json", count=6, seed=4)
        settings = ["--steps", 4, "--batch-size", 5, "--max-length", 40, "--eval-every", 2, "--lr", 1e-3]
        return ["finetune", "squad", "--data", world / "squad", "--model", world / "model", *settings, "--out", out]
    more = {"frozen": ["--freeze-encoder"], "parts": ["--grad-accum", 2], "odd": ["--batch-size", 3]}.get(kind, [])
    if kind == "regression":
        rows = [(text, {"pos": 1.0, "neg": 0.25}[label]) for text, label in reviews(32)]
        write_csv(world / "numbers.csv", rows)
        return ["finetune", "csv", "--regression", "--train", world / "numbers.csv", "--model", world / "model",
                "--steps", 4, "--batch-size", 8, "--max-length", 16, "--eval-every", 2, "--out", out]  # fmt: skip
    return finetune(world, out, *more)


KINDS = ["classes", "regression", "questions", "frozen", "pretrain", "parts", "odd"]


def figures(out):
    """Every number that was logged, but for times."""
    skipped = ("seconds", "last_weights_sha256")
    return [{key: value for key, value in record.items() if key not in skipped} for record in read_log(out)]


def check_equal(world, tmp_path, albert, kind, codes, first, second):  # noqa: F811
    """One process, run here, gives what two processes gave."""
    assert codes == [0, 0], (kind, first, second)
    assert second == "", kind
    assert first.count("\nstep 4 ") == 1, (kind, first)
    code, _, err = albert(*command(world, kind, tmp_path / f"one-{kind}"))
    assert code == 0, err
    one, two = figures(tmp_path / f"one-{kind}"), figures(tmp_path / f"two-{kind}")
    assert [record.keys() for record in one] == [record.keys() for record in two], kind
    for record, other in zip(one, two, strict=True):
        for key, value in record.items():
            if isinstance(value, float):
                assert other[key] == pytest.approx(value, abs=1e-6 if key.endswith("loss") else 1e-4), (kind, key)
    from safetensors.numpy import load_file

    weights, others = (load_file(tmp_path / f"{name}-{kind}/model.safetensors") for name in ("one", "two"))
    assert max(float(np.abs(weights[name] - others[name]).max()) for name in weights) < 1e-5, kind


@pytest.mark.slow
def test_two_processes_do_what_one_does(world, tmp_path, albert):  # noqa: F811
    found = shared([command(world, kind, tmp_path / f"two-{kind}") for kind in KINDS], tmp_path)
    for kind, (codes, said) in zip(KINDS, found, strict=True):
        check_equal(world, tmp_path, albert, kind, codes, *said)


@pytest.mark.slow
def test_what_cannot_be_shared_is_reported_once(world, tmp_path):  # noqa: F811
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "run.toml").write_text("")
    jobs = {
        "an mlp head has batch norm": finetune(world, tmp_path / "mlp", "--head", "mlp:4"),
        "holds a run already": finetune(world, taken),
        "no such file": finetune(world, tmp_path / "none", train=tmp_path / "none.csv"),
        "compares all sentences": pretrain(world, tmp_path / "taught", "--teacher", world / "model"),
    }
    for message, (codes, said) in zip(jobs, shared(jobs.values(), tmp_path), strict=True):
        lines = "".join(said).splitlines()
        assert codes == [1, 1], said
        assert len(lines) == 1, said
        assert lines[0].startswith("albert: "), said
        assert message in lines[0], said


def test_two_processes_share_a_run_and_other_commands_are_for_one(world, tmp_path, albert):  # noqa: F811
    (tmp_path / "t.txt").write_text("a film\n")
    jobs = [
        command(world, "classes", tmp_path / "two-classes"),
        ["convert", world / "model", tmp_path / "x.npz"],
        ["embed", "--in", tmp_path / "t.txt", "--model", world / "model"],
    ]
    (codes, said), *others = shared(jobs, tmp_path)
    check_equal(world, tmp_path, albert, "classes", codes, *said)
    for codes, (first, second) in others:
        assert codes == [2, 2]
        assert second == ""
        assert "only finetune and pretrain share their work" in " ".join(first.split()).replace("│ ", "")
    assert not (tmp_path / "x.npz").exists()


@pytest.fixture(scope="module")
def dropping(world):  # noqa: F811
    """A model with dropout, which each process draws for itself."""
    return write_model(world / "dropping", hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kind", ["finetune", "pretrain"])
def test_a_killed_process_ends_the_run_which_is_resumed(world, dropping, tmp_path, albert, kind, rank):  # noqa: F811
    def words(out):
        steps = ["--steps", 60, "--eval-every", 5]
        if kind == "finetune":
            return [*finetune(world, out, model=dropping), *steps]
        return [*pretrain(world, out, init=dropping), *steps]

    run, whole = tmp_path / "run", tmp_path / "whole"
    ((codes, said),) = shared([words(run)], tmp_path, killed=(rank, run / "state.safetensors"))
    assert codes[rank] == -9
    assert codes[1 - rank] == 1, said
    lines = "".join(said).splitlines()
    assert [line for line in lines if line.startswith("albert: ")] == [
        "albert: another process of this run has ended; --resume continues from what was saved last"
    ]
    shutil.copytree(run, tmp_path / "alone")
    for codes, said in shared([[*words(run), "--resume"], words(whole)], tmp_path):
        assert codes == [0, 0], said
    ends = [json.loads((out / "summary.json").read_text()) for out in (run, whole)]
    assert ends[0]["last_weights_sha256"] == ends[1]["last_weights_sha256"]
    code, _, err = albert(*words(tmp_path / "alone"), "--resume")
    assert code == 0, err
    assert "saved by a run of 2 processes, resumed by 1: rounding and dropout differ" in err
