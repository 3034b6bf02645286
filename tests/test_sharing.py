"""Two processes on processors train what one does, write once, speak once, and leave a run that goes on."""

import json
import shutil

import numpy as np
import pytest
from sharing import shared
from test_runs import finetune, pretrain, world  # noqa: F401
from tuning import reviews, write_csv, write_squad

from albert_cli.training.finetune import read_log


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


KINDS = ["classes", "questions", "pretrain"]
MORE_KINDS = ["regression", "frozen", "parts", "odd"]


def figures(out):
    """Every number that was logged, but for times."""
    skipped = ("seconds", "last_weights_sha256")
    return [{key: value for key, value in record.items() if key not in skipped} for record in read_log(out)]


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [KINDS, pytest.param(MORE_KINDS, marks=pytest.mark.slow)], ids=["some", "more"])
def test_two_processes_do_what_one_does(world, tmp_path, albert, kinds):  # noqa: F811
    found = shared([command(world, kind, tmp_path / f"two-{kind}") for kind in kinds], tmp_path)
    for kind, (codes, (first, second)) in zip(kinds, found, strict=True):
        assert codes == [0, 0], (kind, first, second)
        assert second == "", kind
        assert first.count("step 2 " if kind != "classes" else "step 4 ") >= 1, kind
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
def test_what_cannot_be_shared_is_told_once(world, tmp_path):  # noqa: F811
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


def test_other_commands_are_for_one_process(world, tmp_path):  # noqa: F811
    (tmp_path / "t.txt").write_text("a film\n")
    jobs = [
        ["convert", world / "model", tmp_path / "x.npz"],
        ["embed", "--in", tmp_path / "t.txt", "--model", world / "model"],
    ]
    for codes, (first, second) in shared(jobs, tmp_path):
        assert codes == [2, 2]
        assert second == ""
        assert "only finetune and pretrain share their work" in " ".join(first.split()).replace("│ ", "")
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize("kind", ["classes", "pretrain"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_goes_on(world, tmp_path, kind, rank):  # noqa: F811
    words = [*command(world, kind, tmp_path / "run"), "--steps", 60, "--eval-every", 5]
    ((codes, said),) = shared([words], tmp_path, killed=(rank, tmp_path / "run/state.safetensors"))
    assert codes[rank] == -9
    assert codes[1 - rank] == 1, said
    lines = "".join(said).splitlines()
    assert [line for line in lines if line.startswith("albert: ")] == [
        "albert: another process of this run has ended; --resume goes on from what was saved last"
    ]
    shutil.rmtree(tmp_path / "whole", ignore_errors=True)
    again = [*words, "--resume"]
    whole = [*command(world, kind, tmp_path / "whole"), "--steps", 60, "--eval-every", 5]
    for codes, said in shared([again, whole], tmp_path):
        assert codes == [0, 0], said
    ends = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("run", "whole")]
    assert ends[0]["last_weights_sha256"] == ends[1]["last_weights_sha256"]
