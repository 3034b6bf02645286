"""Dropout in fine-tuning: the recipe's for GLUE and SQuAD, what was asked for, else the model's own."""

import json

import pytest
from torch import nn
from tuning import reviews, write_csv, write_glue, write_model

from albert_cli import tasks
from albert_cli.errors import TrainingError
from albert_cli.model.encoder import Layer
from albert_cli.runs.events import Evaluated, FineTuningPlan, silent
from albert_cli.training import finetune as flow
from albert_cli.training import session
from albert_cli.training.settings import read_toml

pytestmark = pytest.mark.usefixtures("undrawn")

KEYS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout_prob")


def run(task, out, given, report=silent, **more):
    choices = {"config": None, "seeds": [], "compare": [], "resume": False, "force": False} | more
    return session.one(task, given, out, report=report, **choices)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("dropout")
    write_model(root / "model", hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2, classifier_dropout_prob=0.4)
    write_glue(root / "glue", rows=8)
    write_csv(root / "train.csv", reviews(8))
    return root


def options(world, task="rte", **more):
    data = {"train": str(world / "train.csv")} if task == "csv" else {"data": str(world / "glue")}
    given = {"model": str(world / "model"), "steps": 2, "batch_size": 4, "max_length": 16, "eval_every": 2}
    return given | data | more


def written(out):
    config = json.loads((out / "config.json").read_text())
    return tuple(config[key] for key in KEYS)


# Tasks that are not in the paper.
OTHERS = ("choice", "csv", "imdb", "ner", "pairs", "pos", "sts", "swag")


@pytest.mark.parametrize("name", [name for name in tasks.names() if name not in OTHERS])
def test_the_recipes_have_the_dropout_of_table_14(name):
    wanted = 0.1 if name in ("qqp", "race", "rte", "wnli") else 0.0
    task = tasks.named(name)
    for recipe in filter(None, (task.recipe, task.no_answer_recipe)):
        assert (recipe.dropout, recipe.head_dropout) == (wanted, 0.1)


def test_your_own_data_keeps_the_models_dropout():
    for name in OTHERS:
        assert (tasks.named(name).recipe.dropout, tasks.named(name).recipe.head_dropout) == (None, None)


@pytest.mark.parametrize(
    ("task", "more", "wanted", "said"),
    [
        ("rte", {}, (0.1, 0.1, 0.1), "0.1"),
        ("mrpc", {}, (0.0, 0.0, 0.1), ""),
        ("mrpc", {"dropout": 0.25}, (0.25, 0.25, 0.1), "0.25"),
        ("csv", {}, (0.3, 0.2, 0.4), "0.3 (0.2 of attention)"),
        ("csv", {"dropout": 0.5}, (0.5, 0.5, 0.4), "0.5"),
        ("csv", {"dropout": 0.0}, (0.0, 0.0, 0.4), ""),
        ("rte", {"freeze_encoder": True}, (0.0, 0.0, 0.1), ""),
    ],
)
def test_a_run_trains_with_its_dropout_and_its_config_reports_it(
    world, tmp_path, monkeypatch, task, more, wanted, said
):
    seen, found = [], []
    train = flow.train

    def watched(job, *, resume):
        attention = {part.probs_dropout_prob for part in job.model.modules() if isinstance(part, Layer)}
        encoder = {part.p for part in job.model.encoder.modules() if isinstance(part, nn.Dropout)}
        found.extend([encoder, attention, {job.model.dropout.p}])
        train(job, resume=resume)

    monkeypatch.setattr(flow, "train", watched)
    run(task, tmp_path / "run", options(world, task, **more), report=seen.append)
    assert found == [{value} for value in wanted]
    assert written(tmp_path / "run") == wanted
    assert read_toml(tmp_path / "run" / "run.toml").get("dropout") == (
        None if task == "csv" and not more else wanted[0]
    )
    assert next(event for event in seen if isinstance(event, FineTuningPlan)).dropout == said


def test_a_classifiers_dropout_that_was_the_encoders_stays_when_that_changes(tmp_path):
    model = write_model(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"classifier_dropout_prob": None}))
    given = {"model": str(model), "train": str(write_csv(tmp_path / "t.csv", reviews(8))), "steps": 1}
    run("csv", tmp_path / "run", given | {"max_length": 16, "dropout": 0.0})
    assert written(tmp_path / "run") == (0.0, 0.0, 0.1)


def test_the_dropout_of_the_recipe_survives_a_resume_to_the_bit(world, tmp_path):
    given = options(world, steps=4)
    run("rte", tmp_path / "whole", given)

    def report(event):
        if isinstance(event, Evaluated):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("rte", tmp_path / "cut", given, report=report)
    run("rte", tmp_path / "cut", {}, resume=True)
    run("rte", tmp_path / "other", given | {"dropout": 0.0})
    weights = [(tmp_path / name / "summary.json").read_bytes() for name in ("whole", "cut", "other")]
    assert weights[0] == weights[1] != weights[2]
    again = tmp_path / "again"  # its run.toml makes the same run
    run("rte", again, {}, config=tmp_path / "whole" / "run.toml")
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_a_run_that_was_started_without_a_dropout_of_its_own_continues_so(world, tmp_path):
    out = tmp_path / "run"
    summary = run("rte", out, options(world))
    text = (out / "run.toml").read_text()
    (out / "run.toml").write_text(text.replace("dropout = 0.1\n", ""))
    assert run("rte", out, {}, resume=True) == summary


def test_a_dropout_that_cannot_be_is_refused(world, tmp_path, refused):
    for value in (1.0, -0.1, float("nan")):
        with pytest.raises(TrainingError, match=f"dropout is {value}, not from 0 to below 1"):
            run("rte", tmp_path / "run", options(world, dropout=value))
    words = ("finetune", "rte", "--data", world / "glue", "--model", world / "model", "--out", tmp_path / "run")
    message = refused(*words, "--dropout", "0.2", "--freeze-encoder")
    assert message == "dropout is 0.2, but a frozen encoder has none; set it to 0, or leave it out"
    assert not (tmp_path / "run").exists()


def test_the_plan_line_says_the_dropout(world, tmp_path, albert):
    words = ("--model", world / "model", "--steps", 1, "--max-length", 16)
    code, out, err = albert("finetune", "rte", "--data", world / "glue", *words, "--out", tmp_path / "rte")
    assert code == 0, err
    assert "8 rows, 1 steps, 0 of warm-up, dropout 0.1; labels: entailment 4, not_entailment 4; " in out
    code, out, err = albert("finetune", "mrpc", "--data", world / "glue", *words, "--out", tmp_path / "mrpc")
    assert "8 rows, 1 steps, 0 of warm-up; labels: 0 4, 1 4; " in out
