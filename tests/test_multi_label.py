"""Several labels for a text: read, learnt, measured as scikit-learn does, and the same numbers as transformers."""

import json

import kinds
import numpy as np
import pytest
import torch
import transformers
from sklearn import metrics as sklearn_metrics
from tuning import write_csv

from albert_cli.errors import DataError
from albert_cli.tasks.examples import Examples
from albert_cli.training import label_sets, metrics
from albert_cli.training.problems.multi_label import PROBLEM

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("several")
    kinds.write_model(root / "model")
    write_csv(root / "train.csv", [(text, "|".join(labels)) for text, labels in kinds.several(400, 1)])
    write_csv(root / "dev.csv", [(text, "|".join(labels)) for text, labels in kinds.several(60, 2)])
    return root


def words(world, *more, train="train.csv", dev="dev.csv"):
    data = ("--train", world / train, *(("--dev", world / dev) if dev else ()))
    settings = ("--lr", 5e-3, "--batch-size", 16, "--max-length", 32, "--multi-label")
    return ("csv", "--model", world / "model", *data, *settings, *more)


@pytest.fixture(scope="module")
def finished(world):
    from typer.testing import CliRunner

    from albert_cli.main import app

    out = ("--out", world / "run", "--epochs", 14, "--eval-every", 50)
    result = CliRunner().invoke(app, ["finetune", *map(str, (*words(world), *out))])
    assert result.exit_code == 0, result.output
    return world / "run"


def test_it_is_learnt_and_all_its_files_say_so(finished, albert):
    summary = json.loads((finished / "summary.json").read_text())
    assert min(summary["dev"][name] for name in ("micro_f1", "macro_f1")) > 0.95
    assert (finished / "labels.png").exists()
    config = json.loads((finished / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"] == {"0": "alice", "1": "music", "2": "rome"}
    header, *rows = (finished / "dev_predictions.csv").read_text().splitlines()
    names = "probability_alice,probability_music,probability_rome"
    assert header == f"index,text,label,prediction,{names},wrong"
    wrong = [row.rpartition(",")[2] for row in rows]
    assert wrong == sorted(wrong, reverse=True)
    assert "| micro_f1 |" in (finished / "report.md").read_text()
    found = json.loads(albert("predict", finished, "alice saw rome", "--json")[1])
    assert found["prediction"] == ["alice", "rome"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_predict_writes_is_what_evaluate_reads(finished, world, albert, tmp_path, suffix):
    """The labels of a run's own predictions, read as the truth, are all right."""
    out = tmp_path / f"out{suffix}"
    write_csv(tmp_path / "in.csv", [(text,) for text, _ in kinds.several(30, 5)], header=("text",))
    assert albert("predict", finished, "--in", tmp_path / "in.csv", "--out", out)[0] == 0
    if suffix == ".csv":
        text = out.read_text().replace("text,prediction", "text,label")
        out.write_text(text)
    else:
        from pyarrow import parquet

        table = parquet.read_table(out)
        parquet.write_table(table.rename_columns(["text", "label"]), out)
    code, found, err = albert("evaluate", finished, "--data", out, "--json")
    assert (code, err) == (0, "")
    measured = json.loads(found)[str(finished)][out.name]
    assert {measured[name] for name in ("micro_f1", "macro_f1", "subset_accuracy")} == {1.0}


def test_metrics_are_scikit_learns():
    random = np.random.default_rng(3)
    targets, predictions = random.random((200, 5)) < 0.3, random.random((200, 5)) < 0.4
    found = metrics.compute(("micro_f1", "macro_f1", "subset_accuracy"), targets.astype(np.float32), predictions)
    assert found["micro_f1"] == pytest.approx(sklearn_metrics.f1_score(targets, predictions, average="micro"))
    assert found["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(targets, predictions, average="macro"))
    assert found["subset_accuracy"] == (targets == predictions).all(1).mean()
    right = (targets & predictions).sum()
    assert found["micro_f1"] == pytest.approx(2 * right / (targets.sum() + predictions.sum()))


def test_the_loss_is_transformers():
    logits, targets = torch.randn(7, 4), (torch.rand(7, 4) < 0.5).float()
    wanted = torch.nn.BCEWithLogitsLoss()(logits, targets)  # what problem_type gives there
    assert float(PROBLEM.loss(logits, targets)) / 7 == pytest.approx(float(wanted), abs=1e-6)


@pytest.mark.parametrize("family", kinds.MOSTLY_SLOW)
def test_probabilities_are_those_of_transformers(tmp_path, world, albert, family):
    kinds.write_model(tmp_path / "model", family)
    rows = kinds.several(24, 3)
    write_csv(tmp_path / "train.csv", [(text, "|".join(labels)) for text, labels in rows])
    options = ("--model", tmp_path / "model", "--max-length", 8, "--steps", 3, "--multi-label")
    assert albert("finetune", "csv", *options, "--train", tmp_path / "train.csv", "--out", tmp_path / "run")[0] == 0
    out = tmp_path / "out.jsonl"
    code = albert("predict", tmp_path / "run", "--in", tmp_path / "train.csv", "--out", out, "--probabilities")[0]
    assert code == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run")
    texts = [text for text, _ in rows]
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=8, return_tensors="pt")
    assert not inputs["attention_mask"].all()
    with torch.no_grad():
        wanted = model(**inputs).logits.sigmoid()
    for number, name in enumerate(("alice", "music", "rome")):
        shares = [row[f"probability_{name}"] for row in found]
        assert np.abs(np.array(shares) - wanted[:, number].numpy()).max() < 1e-5


@pytest.mark.slow
def test_a_run_resumes_to_the_same_bits(world, albert, tmp_path):
    assert albert("finetune", *words(world, "--steps", 12, "--eval-every", 4, "--out", tmp_path / "whole"))[0] == 0
    from albert_cli.training import loop

    class Killed(BaseException):
        pass

    evaluate, calls = loop._Loop.evaluate, []

    def killing(self):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        evaluate(self)

    part = words(world, "--steps", 12, "--eval-every", 4, "--out", tmp_path / "part")
    loop._Loop.evaluate = killing
    try:
        with pytest.raises(Killed):
            albert("finetune", *part)
    finally:
        loop._Loop.evaluate = evaluate
    assert albert("finetune", *part, "--resume")[0] == 0
    for name in ("model.safetensors", "dev_predictions.csv", "summary.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "part" / name).read_bytes()


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("", ()),
        ("[]", ()),
        ("a", ("a",)),
        ("a|b", ("a", "b")),
        (" b | a ", ("b", "a")),
        ("a|a", ("a",)),
        ('["a", "b c"]', ("a", "b c")),
        ("['a', 'b']", ("a", "b")),
        ("[1, 3]", ("1", "3")),
        ('["\\u00e9"]', ("é",)),
        ("a, b", ("a, b",)),
    ],
)
def test_cells_of_labels(cell, labels):
    assert label_sets.labels_in(cell) == labels


def test_what_holds_no_labels_is_refused_with_its_lines(world, refused, tmp_path):
    write_csv(tmp_path / "bad.csv", [("a film", "x|"), ("a film", "NaN"), ("a film", "x|y"), ("a film", "[[1]]")])
    message = refused("finetune", *words(world, train=tmp_path / "bad.csv", dev=None), "--out", tmp_path / "run")
    assert message == (
        f"{tmp_path}/bad.csv: 3 rows whose labels cannot be read: line 2 has an empty label in 'x|', line 3 has "
        "'NaN', line 5 has [1] in its list, which is no label; write them as a|b or as a list of texts (nothing where "
        "there is none), or leave the rows out with --skip-bad"
    )
    write_csv(tmp_path / "dev.csv", [("a film", "alice|else"), ("a film", ""), ("a film", "nobody")])
    message = refused("finetune", *words(world, dev=tmp_path / "dev.csv"), "--out", tmp_path / "run")
    assert message == (
        f"{tmp_path}/dev.csv: 2 unknown labels: line 2 has 'else', line 4 has 'nobody'; known: alice, music, rome; "
        "correct them, or leave such rows out with --skip-bad"
    )
    write_csv(tmp_path / "none.csv", [("a film", ""), ("a film", "")])
    message = refused("finetune", *words(world, train=tmp_path / "none.csv"), "--out", tmp_path / "run")
    assert message == f"{tmp_path}/none.csv: no row has a label; is it the right --label-column?"


def test_bad_rows_are_left_out_on_request(world, albert, tmp_path):
    rows = [(text, "|".join(labels)) for text, labels in kinds.several(40, 1)]
    write_csv(tmp_path / "train.csv", [*rows, ("a film", "x|")])
    more = ("--steps", 1, "--skip-bad", "--out", tmp_path / "run")
    code, _, err = albert("finetune", *words(world, *more, train=tmp_path / "train.csv"))
    assert code == 0
    assert "1 row left out: line 42 without a usable label" in err


def test_options_that_do_not_go_together(world, refused, tmp_path, albert):
    message = refused("finetune", *words(world, "--regression"), "--out", tmp_path / "run")
    assert message == "regression and multi_label are both given; choose one"
    code, _, err = albert("finetune", "rte", "--data", tmp_path, "--multi-label")
    assert code == 2
    assert "--multi-label has no effect on rte" in err


def test_notes_on_labels():
    def notes(*cells):
        texts = ["a"] * len(cells)
        examples = Examples("f.csv", ["x"] * len(cells), texts, None, list(cells), list(range(2, len(cells) + 2)), "")
        return label_sets.found_labels(examples)[1]

    assert notes("a", "b", "a") == ["f.csv: no row has more than one label"]
    assert notes("a, b", "b") == ["f.csv: 'a, b' is taken as one label; several are written as a|b"]
    assert notes("a|A", "b") == ["f.csv: 'A' and 'a' differ only in case or white space; they are 2 labels"]
    with pytest.raises(DataError, match=r"labels written in several ways: 1 and 1\.0 are one number"):
        notes("1|1.0", "2")


def test_a_held_out_part_leaves_each_label_a_row():
    cells = ["a|b", "b", "b|c", "c", ""]
    examples = Examples("f.csv", ["x"] * 5, ["x"] * 5, None, cells, list(range(5)), "")
    assert label_sets.rarest(examples) == ["a", "b", "c", "c", ""]


def test_a_run_of_before_the_option_is_resumed(world, albert, tmp_path):
    """Its run.toml does not have it."""
    rows = [(text, "yes" if labels else "no") for text, labels in kinds.several(24, 1)]
    write_csv(tmp_path / "train.csv", rows)
    options = ("--model", world / "model", "--steps", 1, "--max-length", 16, "--out", tmp_path / "run")
    assert albert("finetune", "csv", "--train", tmp_path / "train.csv", *options)[0] == 0
    told = tmp_path / "run/run.toml"
    lines = told.read_text().splitlines(keepends=True)
    told.write_text("".join(line for line in lines if not line.startswith("multi_label")))
    assert len(told.read_text().splitlines()) == len(lines) - 1
    code, _, err = albert("finetune", "csv", "--resume", "--out", tmp_path / "run")
    assert (code, err) == (0, f"albert: note: {tmp_path / 'run'}: finished already\n")
