"""Labels of any unit are learnt, reported and predicted in that unit, by us and by transformers."""

import json
import random

import numpy as np
import pytest
import torch
import transformers
from tuning import reviews, write_csv, write_glue, write_model

from albert_cli import tasks
from albert_cli.errors import DataError
from albert_cli.model.task_heads import Classifier
from albert_cli.runs.events import Evaluated, FineTuningPlan, Note, Trained, silent
from albert_cli.tables.table import read_table
from albert_cli.tasks.examples import ExampleColumns, Examples
from albert_cli.tasks.task import Sources
from albert_cli.training import problems, session
from albert_cli.training.prediction import run_on
from albert_cli.training.rows import Split, TokenRows
from albert_cli.training.run_directory import load_run
from albert_cli.training.run_info import RunInfo
from albert_cli.training.scale import Scale
from albert_cli.training.splits import score

pytestmark = pytest.mark.usefixtures("undrawn")


def run(out, given, task="csv", report=silent, **more):
    choices = {"config": None, "seeds": [], "compare": [], "resume": False, "force": False} | more
    return session.one(task, given, out, report=report, **choices)


def sizes(count, seed, low=60_000, step=10_000):
    """Texts whose number of words is the label, in a unit of `step` from `low`."""
    chance = random.Random(seed)
    lengths = [chance.randint(1, 12) for _ in range(count)]
    return [(" ".join(chance.choices(["good", "film", "story"], k=n)), str(low + step * (n - 1))) for n in lengths]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("regression")
    write_model(root / "model")
    return root


def options(world, folder, rows=96, **more):
    low, step = more.pop("low", 60_000), more.pop("step", 10_000)
    write_csv(folder / "train.csv", sizes(rows, 0, low, step))
    write_csv(folder / "dev.csv", sizes(32, 1, low, step))
    given = {"model": str(world / "model"), "train": str(folder / "train.csv"), "dev": str(folder / "dev.csv")}
    given |= {"regression": True, "epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}
    return given | {"eval_every": 12} | more


@pytest.mark.parametrize(
    ("low", "step", "head"), [(60_000, 10_000, "linear"), (-3e-5, 1e-6, "linear"), (60_000, 10_000, "mlp:8")]
)
def test_labels_of_any_size_are_learnt_and_given_back_in_their_unit(world, tmp_path, low, step, head, albert):
    seen = []
    given = options(world, tmp_path, low=low, step=step, head=head)
    summary = run(tmp_path / "run", given, report=seen.append)
    wanted = np.array([float(label) for _, label in sizes(32, 1, low, step)])
    learnt = np.array([float(label) for _, label in sizes(96, 0, low, step)])
    of_the_mean = float(np.sqrt(np.mean((wanted - learnt.mean()) ** 2)))
    assert summary["dev"]["rmse"] < of_the_mean
    assert summary["dev"]["loss"] == pytest.approx(summary["dev"]["rmse"] ** 2, rel=1e-6)
    trained = [event.figures["loss"] for event in seen if isinstance(event, Trained)]
    assert trained[0] == pytest.approx(learnt.std() ** 2, rel=0.9)  # in the same unit
    # The model alone, without run.toml, says the same: for us and for transformers.
    loaded = load_run(tmp_path / "run")
    assert loaded.info.scale == Scale(learnt.mean(), learnt.std())
    batch = loaded.tokenizer.encode_batch([text for text, _ in sizes(32, 1, low, step)]).padded()
    inputs = {name: torch.from_numpy(array) for name, array in batch.items()}
    with torch.no_grad():
        values = loaded.model(**inputs)[:, 0].numpy()
    assert np.sqrt(np.mean((values - wanted) ** 2)) == pytest.approx(summary["dev"]["rmse"], rel=1e-4)
    if head == "linear":
        theirs = transformers.AlbertForSequenceClassification.from_pretrained(tmp_path / "run").eval()
        with torch.no_grad():
            assert np.abs(theirs(**inputs).logits[:, 0].numpy() - values).max() <= 1e-5 * np.abs(values).max()
    code, out, _ = albert("predict", tmp_path / "run", "good film good film", "--json")
    assert code == 0
    assert abs(json.loads(out)["prediction"] - learnt.mean()) < 4 * learnt.std()
    code, out, _ = albert("evaluate", tmp_path / "run", "--json")
    measured = json.loads(out)[str(tmp_path / "run")]["dev"]
    assert measured == pytest.approx(summary["dev"], rel=1e-4)
    plan = next(event for event in seen if isinstance(event, FineTuningPlan))
    assert plan.taken.startswith(f"labels: {learnt.min():g} to {learnt.max():g}, mean {learnt.mean():g}, standard ")


def test_the_model_is_chosen_by_a_measure_that_sees_the_scale(world, tmp_path):
    seen = []
    run(tmp_path / "run", options(world, tmp_path), report=seen.append)
    evaluations = [event for event in seen if isinstance(event, Evaluated)]
    best = [event for event in evaluations if event.best][-1]
    assert best.figures["rmse"] == min(event.figures["rmse"] for event in evaluations)
    assert "chosen by rmse on the development set" in (tmp_path / "run" / "report.md").read_text()


def test_a_resumed_regression_ends_with_the_same_bits(world, tmp_path):
    given = options(world, tmp_path)
    run(tmp_path / "whole", given)
    seen = []

    def report(event):
        seen.append(event)
        if len(seen) == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", given, report=report)
    run(tmp_path / "cut", {}, resume=True)
    for name in ("model.safetensors", "summary.json", "dev_predictions.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_one_label_for_every_row_is_reported_and_learnt(world, tmp_path):
    rows = [(text, "7.5") for text, _ in reviews(24)]
    given = options(world, tmp_path, epochs=2)
    given |= {"train": str(write_csv(tmp_path / "same.csv", rows)), "dev": str(write_csv(tmp_path / "d.csv", rows))}
    seen = []
    summary = run(tmp_path / "run", given, report=seen.append)
    notes = [event.text for event in seen if isinstance(event, Note)]
    assert notes == [f"{tmp_path / 'same.csv'}: every row has the label 7.5, so nothing but that number can be learnt"]
    assert summary["dev"]["rmse"] < 1


def test_the_last_layer_gets_its_very_bits_back_after_saving():
    from tuning import config

    model = Classifier(config(), 1)
    before = {name: item.clone() for name, item in model.state_dict().items()}
    with Scale(115_000.0, 35_000.0).folded(model.output):
        assert model.classifier.bias.item() == pytest.approx(115_000)
    assert all(torch.equal(item, before[name]) for name, item in model.state_dict().items())


def test_stsb_is_measured_on_what_the_model_says_and_cut_in_the_submission_alone(tmp_path):
    from albert_cli.training.submission import cells

    task = tasks.named("stsb")
    examples = task.read(Sources(data=write_glue(tmp_path, rows=6)), "dev")
    targets = torch.arange(6, dtype=torch.float64)
    outputs = [np.array([value], np.float32) for value in (-9, 1, 2, 3, 4, 30)]
    found = score(
        problems.named("regression"),
        Split(examples, TokenRows(None, targets)),
        outputs,
        RunInfo("stsb", "regression", (), 64),
        task.metrics,
    )
    raw = np.corrcoef(targets.numpy(), np.concatenate(outputs))[0, 1]
    assert found["pearson"] == pytest.approx(raw)
    assert raw < 0.9 < np.corrcoef(targets.numpy(), np.clip(np.concatenate(outputs), 0, 5))[0, 1]
    assert cells("STS-B.tsv", np.array([-9.0, 30.0]), ()) == ["0.000", "5.000"]


@pytest.mark.parametrize("label", ["1e31", "1_000", "inf", "-inf", "nan", "", "true", "12 000", "1,5"])
def test_labels_that_are_no_numbers_are_refused_with_their_lines(world, tmp_path, label):
    given = options(world, tmp_path)
    rows = [("good film", "1"), ("a story", label), ("the plot", "2"), ("a plot", label)]
    given["dev"] = str(write_csv(tmp_path / "bad.csv", rows))
    with pytest.raises(DataError, match=r"bad\.csv: 2 labels not a finite number: line 3 has .*, line 5 has"):
        run(tmp_path / "run", given)
    assert not (tmp_path / "run").exists()
    seen = []
    run(tmp_path / "run", given | {"skip_bad": True, "epochs": 1}, report=seen.append)
    notes = [event.text for event in seen if isinstance(event, Note)]
    assert f"{tmp_path / 'bad.csv'}: 2 rows left out: lines 3, 5 without a usable label" in notes


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e7, 1e20])
def test_values_are_written_with_the_digits_they_have(world, tmp_path, unit, albert):
    rows = [(text, f"{(number % 7 + 1.2345678) * unit!r}") for number, (text, _) in enumerate(reviews(14))]
    path = write_csv(tmp_path / "t.csv", rows)
    given = {"model": str(world / "model"), "train": str(path), "dev": str(path), "regression": True, "steps": 2}
    run(tmp_path / "run", given | {"batch_size": 7, "max_length": 16})
    loaded = load_run(tmp_path / "run")
    examples = Examples.of(read_table(path), ExampleColumns("text"), labelled=False)
    split = loaded.problem.split(examples, loaded.info, loaded.task, loaded.tokenizer, labelled=False)
    wanted = np.asarray(run_on(loaded, split).values, np.float32)
    for name in ("p.csv", "p.tsv", "p.jsonl", "p.parquet"):
        code, _, err = albert("predict", tmp_path / "run", "--in", path, "--out", tmp_path / name)
        assert code == 0, err
        found = read_table(tmp_path / name).column("prediction", "it")
        assert np.array_equal(np.array(found, np.float64).astype(np.float32), wanted), name
        assert max(len(text.partition("e")[0].strip("-0.").replace(".", "").rstrip("0")) for text in found) <= 9
    code, out, _ = albert("predict", tmp_path / "run", rows[0][0], "--json")
    assert np.isclose(json.loads(out)["prediction"], wanted[0], rtol=1e-5)
    code, out, _ = albert("predict", tmp_path / "run", rows[0][0])
    assert np.isclose(float(out), wanted[0], rtol=1e-5)
    code, out, _ = albert("predict", tmp_path / "run", "--in", path)
    shown = [float(line.split()[1]) for line in out.splitlines()[1:]]
    assert np.allclose(shown, wanted, rtol=1e-6)
    table = read_table(tmp_path / "run" / "dev_predictions.csv")
    label, value, error = (np.array(table.column(name, "it"), np.float64) for name in ("label", "prediction", "error"))
    assert sorted(label) == sorted(float(text) for _, text in rows)
    assert np.allclose(error, np.abs(value - label), rtol=1e-4, atol=0)
