"""Training: the same numbers as transformers, the same bits after a kill, and what a run directory holds."""

import dataclasses
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from programs import Program
from tuning import config, reviews, tokenizer_files, write_csv, write_glue, write_model
from typer.testing import CliRunner

from albert_cli import tasks
from albert_cli.batching import epoch_batches
from albert_cli.errors import DataError, RunError, TrainingError
from albert_cli.main import app
from albert_cli.model.loading import assign
from albert_cli.model.task_heads import Classifier, QuestionAnswering, TokenClassifier, without_dropout
from albert_cli.runs.events import Evaluated, Note, Trained, WorkDone
from albert_cli.runs.log import read_log
from albert_cli.tables.table import read_table
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import metrics, problems, session
from albert_cli.training.inference import infer
from albert_cli.training.loop import FinetuneJob, train
from albert_cli.training.prediction import measure
from albert_cli.training.rows import Split, TokenRows
from albert_cli.training.run_directory import load_run
from albert_cli.training.run_info import RunInfo
from albert_cli.training.settings import Plan, Settings, read_toml, resolve
from albert_cli.training.splits import prepare, score
from albert_cli.training.submission import ROWS, cells, pack, write_tsv
from converters import convert, spec
from converters.dialects import to_hf
from converters.errors import MissingLibraryError
from converters.initialize import initialize
from converters.tokenizers.files import TokenizerFiles

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model and labelled reviews, 128 to train on and 24 to develop with."""
    root = tmp_path_factory.mktemp("world")
    write_model(root / "model")
    write_csv(root / "train.csv", reviews(128))
    write_csv(root / "dev.csv", reviews(24, seed=9))
    return root


def options(world, **more):
    given = {
        "model": str(world / "model"),
        "train": str(world / "train.csv"),
        "dev": str(world / "dev.csv"),
        "epochs": 8,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "max_length": 32,
        "eval_every": 20,
    }
    return given | more


def run(out, given, task="csv", report=lambda record: None, **more):
    choices = {"config": None, "seeds": [], "compare": [], "resume": False, "force": False} | more
    return session.one(task, given, out, report=report, **choices)


def files(out):
    """What must not depend on interruptions: model, predictions, summary, log without times."""
    log = [{key: value for key, value in record.items() if key != "seconds"} for record in read_log(out)]
    names = ("model.safetensors", "head.safetensors", "dev_predictions.csv", "summary.json")
    return log, {name: (out / name).read_bytes() for name in names if (out / name).exists()}


@pytest.fixture(scope="module")
def finished(world):
    run(world / "run", options(world))
    return world / "run"


# The same numbers as transformers


def sample(kind, rows=80, seed=0):
    """Random token rows of many lengths, and targets."""
    random = np.random.default_rng(seed)
    lengths = random.integers(4, 30, rows)
    ids = random.integers(5, 40, lengths.sum()).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    kinds = np.concatenate([(np.arange(n) > n // 2).astype(np.uint8) for n in lengths])
    tokens = TokenBatch(ids, kinds, starts, np.zeros(rows, np.int32), pad_id=0)
    if kind == "classification":
        return TokenRows(tokens, torch.from_numpy(random.integers(0, 3, rows)))
    if kind == "regression":
        return TokenRows(tokens, torch.from_numpy(random.uniform(0, 5, rows).astype(np.float32)))
    if kind == "multi_label":
        return TokenRows(tokens, torch.from_numpy((random.random((rows, 3)) < 0.4).astype(np.float32)))
    if kind == "token_classification":
        targets = random.integers(0, 3, (rows, 32))
        targets[(random.random(targets.shape) < 0.3) | (np.arange(32) >= lengths[:, None])] = -100
        return TokenRows(tokens, torch.from_numpy(targets))
    spans = np.stack([random.integers(0, lengths // 2 + 1), random.integers(lengths // 2, lengths)], axis=1)
    return TokenRows(tokens, torch.from_numpy(spans))


@pytest.mark.parametrize(
    "kind", ["classification", "regression", "question_answering", "multi_label", "token_classification"]
)
def test_losses_and_gradients_are_those_of_transformers_for_20_steps(tmp_path, kind):
    from accelerate import Accelerator

    rows, labels = sample(kind), {"regression": 1, "question_answering": 0}.get(kind, 3)
    torch.manual_seed(0)
    settings = config()
    of_spans, of_tokens = kind == "question_answering", kind == "token_classification"
    head = TokenClassifier if of_tokens else Classifier
    ours = QuestionAnswering(settings) if of_spans else head(settings, labels)
    without_dropout(ours)
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout_prob": 0.0}
    oracle_config = transformers.AlbertConfig(
        **(to_hf(settings) | plain | {"pad_token_id": None, "num_labels": labels or 2})
    )
    oracle = transformers.AlbertForQuestionAnswering if of_spans else transformers.AlbertForSequenceClassification
    oracle = transformers.AlbertForTokenClassification if of_tokens else oracle
    oracle_config.problem_type = "multi_label_classification" if kind == "multi_label" else None
    theirs = oracle(oracle_config)
    names = spec.canonical_names(ours.config)
    theirs.load_state_dict({names[name]: item for name, item in ours.state_dict().items()}, strict=True)
    theirs.train()
    chosen = Settings(task="csv", model="", learning_rate=1e-3, batch_size=16, max_length=32, steps=20)
    plan = Plan(steps=20, warmup_steps=4, eval_every=100, steps_per_epoch=5)
    gradients, logged = [], []
    for name, parameter in ours.named_parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda item, name=names[name]: gradients.append((name, item.grad.clone()))
        )
    job = FinetuneJob(
        model=ours,
        problem=problems.named(kind),
        rows=rows,
        plan=plan,
        settings=chosen,
        directory=tmp_path,
        accelerator=Accelerator(),
        selection_metric="accuracy",
        evaluate=lambda model: {"accuracy": 0.0},
        save_best=lambda: None,
        report=lambda event: logged.append(event) if isinstance(event, Trained) else None,
    )
    train(job, resume=False)
    batches = [
        batch for epoch in range(4) for batch in epoch_batches(80, 16, seed=42, epoch=epoch, lengths=rows.lengths)
    ]
    decayed = [item for name, item in theirs.named_parameters() if not re.search(r"bias|LayerNorm|layer_norm", name)]
    others = [item for name, item in theirs.named_parameters() if re.search(r"bias|LayerNorm|layer_norm", name)]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-6)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 4, 20)
    count = len(dict(ours.named_parameters()))
    for step, batch in enumerate(batches):
        # transformers has the padding in the softmax over tokens, which is none where rows are alone.
        parts = [batch[place : place + 1] for place in range(len(batch))] if of_spans else [batch]
        losses = []
        for part in parts:
            length = None if of_spans else 32
            padded = {name: torch.from_numpy(array) for name, array in rows.tokens.padded(part, length=length).items()}
            targets = rows.targets[torch.from_numpy(part)]
            if of_spans:
                wanted = {"start_positions": targets[:, 0], "end_positions": targets[:, 1]}
            else:
                wanted = {"labels": targets}
            losses.append(theirs(**padded, **wanted).loss)
        loss = sum(losses) / len(losses)
        loss.backward()
        assert abs(loss.item() - logged[step].figures["loss"]) <= 1e-5
        found = dict(gradients[step * count : (step + 1) * count])
        for name, parameter in theirs.named_parameters():
            assert (found[name] - parameter.grad).abs().max() <= 1e-5, (step, name)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    assert len(logged) == 20


def test_the_learning_rate_is_that_of_transformers():
    plan = Plan(steps=50, warmup_steps=10, eval_every=1, steps_per_epoch=10)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=2.0)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 10, 50)
    for step in range(50):
        assert 2.0 * plan.rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_plans_are_googles_on_googles_data_and_keep_the_epochs_elsewhere():
    task = tasks.named("qnli")
    chosen = resolve(task, {"model": "m"})
    plan = Plan.of(chosen, task.recipe, 104743, 5463)
    assert (plan.steps, plan.warmup_steps, plan.eval_every) == (33112, 1986, 200)
    small = Plan.of(chosen, task.recipe, 3863, 800)
    assert (small.steps, small.warmup_steps) == (1221, 73)
    assert small.steps / small.steps_per_epoch == pytest.approx(task.recipe.epochs, rel=0.01)
    half = Plan.of(resolve(task, {"model": "m", "epochs": 2.5, "warmup": 0.1}), task.recipe, 3200, 800)
    assert (half.steps, half.warmup_steps) == (250, 25)
    fixed = Plan.of(resolve(task, {"model": "m", "steps": 7, "warmup": 3.0}), task.recipe, 3200, 800)
    assert (fixed.steps, fixed.warmup_steps) == (7, 3)


@pytest.mark.parametrize(
    ("name", "dev_rows"),
    [("qqp", 40430), ("mnli", 9815 + 9832), ("stsb", 1500), ("sst2", 872), ("qnli", 5463), ("squad", 10570)],
)
def test_no_more_rows_are_evaluated_than_trained_on(name, dev_rows):
    recipe = tasks.named(name).recipe
    for rows in (recipe.train_rows, 500):
        plan = Plan.of(resolve(tasks.named(name), {"model": "m"}), recipe, rows, dev_rows)
        assert plan.eval_every * recipe.batch_size >= dev_rows
        assert plan.eval_every >= recipe.eval_every or rows < recipe.eval_every * recipe.batch_size
    assert Plan.of(resolve(tasks.named(name), {"model": "m"}), recipe, recipe.train_rows, 1).steps == recipe.steps


def test_metrics_are_those_of_scikit_learn_and_scipy():
    from scipy import stats
    from sklearn import metrics as sklearn_metrics

    random = np.random.default_rng(3)
    wanted, given = random.integers(0, 2, 200), random.integers(0, 2, 200)
    found = metrics.compute(("accuracy", "f1", "macro_f1", "matthews"), wanted, given)
    assert found["accuracy"] == sklearn_metrics.accuracy_score(wanted, given) == (wanted == given).mean()
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(wanted, given), abs=1e-12)
    assert found["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(wanted, given, average="macro"), abs=1e-12)
    assert found["matthews"] == pytest.approx(sklearn_metrics.matthews_corrcoef(wanted, given), abs=1e-12)
    # By hand: Matthews' coefficient is the correlation of two binary variables.
    assert found["matthews"] == pytest.approx(np.corrcoef(wanted, given)[0, 1])
    x = random.uniform(0, 5, 200).astype(np.float32)
    y = (x + random.normal(0, 1, 200)).astype(np.float32)
    found = metrics.compute(("pearson", "spearman", "rmse"), x, y)
    assert found["pearson"] == pytest.approx(stats.pearsonr(x.astype(float), y.astype(float)).statistic, abs=1e-12)
    assert found["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found["rmse"] == pytest.approx(float(np.sqrt(np.mean((x - y) ** 2))), abs=1e-6)
    several, others = random.integers(0, 4, 200), random.integers(1, 6, 200)
    found = metrics.compute(("accuracy", "macro_f1", "matthews"), several, others)
    wanted = sklearn_metrics.f1_score(several, others, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(wanted, abs=1e-12)
    assert found["matthews"] == pytest.approx(sklearn_metrics.matthews_corrcoef(several, others), abs=1e-12)
    tied, with_ties = several.astype(np.float32), others.astype(np.float32)
    ranked = metrics.compute(("spearman",), tied, with_ties)["spearman"]
    assert ranked == pytest.approx(stats.spearmanr(tied, with_ties).statistic, abs=1e-12)
    nothing = np.zeros(4, np.int64)
    assert metrics.compute(("f1", "matthews"), nothing, nothing) == {"f1": 0.0, "matthews": 0.0}
    constant = np.ones(200, np.float32)
    assert metrics.compute(("pearson", "spearman"), x, constant) == {"pearson": 0.0, "spearman": 0.0}


def test_parts_of_a_batch_add_up_to_the_whole(world, tmp_path):
    shutil.copytree(world / "model", tmp_path / "still")
    settings = json.loads((tmp_path / "still" / "config.json").read_text())
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout_prob": 0.0}
    (tmp_path / "still" / "config.json").write_text(json.dumps(settings))
    given = options(world, model=str(tmp_path / "still"), steps=12, epochs=None)
    losses = {}
    for parts in (1, 3):
        run(tmp_path / str(parts), given | {"grad_accum": parts})
        losses[parts] = [record["loss"] for record in read_log(tmp_path / str(parts)) if record["event"] == "train"]
    assert np.abs(np.array(losses[1]) - np.array(losses[3])).max() < 1e-5


# The same bits


def test_the_same_seed_gives_the_same_bits_and_another_one_others(world, finished, tmp_path):
    run(tmp_path / "again", options(world))
    assert files(tmp_path / "again") == files(finished)
    run(tmp_path / "other", options(world, seed=7))
    assert files(tmp_path / "other")[1]["model.safetensors"] != files(finished)[1]["model.safetensors"]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    "more",
    [{}, {"precision": "bf16"}, {"freeze_encoder": True, "head": "mlp:6,4"}],
    ids=["whole", "bf16", "frozen mlp"],
)
@pytest.mark.parametrize("every", [12, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_cut_off_after_any_record_ends_with_the_same_bits(world, tmp_path, more, every):
    given = options(world, early_stop=4, epochs=3, eval_every=5, **more)
    run(tmp_path / "whole", given)
    wanted = files(tmp_path / "whole")
    for cut in range(1, len(wanted[0]), every):
        seen = []

        def report(record, cut=cut, seen=seen):
            seen.append(record)
            if len(seen) == cut:
                raise Killed

        out = tmp_path / str(cut)
        with pytest.raises(Killed):
            run(out, given, report=report)
        run(out, {} if (out / "run.toml").exists() else given, resume=True)  # settings come from run.toml
        assert files(out) == wanted
        assert not list(out.glob("features-*")) + list(out.glob("state.*")) + list(out.glob(".*"))


def command(out, given):
    names = {"learning_rate": "lr"}
    words = ["finetune", "csv", "--out", str(out)]
    for name, value in given.items():
        words.append("--" + names.get(name, name).replace("_", "-"))
        words += [] if value is True else [str(value)]
    return words


def killed_until_done(out, given, delays):
    """Start, kill -9 some evaluations later, resume, and so on; then let it finish."""
    for evaluations in delays:
        with Program(*command(out, given), "--resume") as process:
            log = out / "metrics.jsonl"
            begun = log.read_bytes().count(b'"dev"') if log.exists() else 0
            while process.poll() is None:
                if log.exists() and log.read_bytes().count(b'"dev"') >= begun + evaluations:
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.005)
            assert process.wait() == -signal.SIGKILL
    with Program(*command(out, given), "--resume") as process:
        assert process.wait() == 0, process.said()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(world, tmp_path):
    given = options(world, epochs=8, eval_every=9)
    run(tmp_path / "whole", given)
    killed_until_done(tmp_path / "killed", given, [2])
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"freeze_encoder": True}, {"head": "mlp:6,4", "early_stop": 5}])
def test_a_run_killed_again_and_again_resumes_to_the_same_bits(world, tmp_path, more):
    given = options(world, epochs=20, eval_every=7) | more
    run(tmp_path / "whole", given)
    killed_until_done(tmp_path / "killed", given, [1, 3, 2])
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_patience_survives_a_resume(world, tmp_path):
    given = options(world, epochs=30, learning_rate=1e-12, early_stop=3, eval_every=4)  # nothing is learnt
    summary = run(tmp_path / "whole", given)
    assert (summary["stopped_early"], summary["steps"], summary["best_step"]) == (True, 16, 4)
    evaluations, cuts = [], [14]

    def report(event):
        if isinstance(event, Evaluated):
            evaluations.append(event.step)
        elif isinstance(event, Trained) and event.step in cuts:
            cuts.clear()
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "cut", given, report=report)
    run(tmp_path / "cut", {}, report=report, resume=True)
    assert evaluations == [4, 8, 12, 16]
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_a_resume_refuses_what_has_changed_and_leaves_alone_what_is_finished(world, tmp_path):
    out = tmp_path / "run"
    local = tmp_path / "train.csv"
    shutil.copy(world / "train.csv", local)
    given = options(world, train=str(local))
    summary = run(out, given)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run(out, given, resume=True) == summary
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(RunError, match=r"cannot resume: batch_size was 8, now 4; restore it, or restart with --f"):
        run(out, given | {"batch_size": 4}, resume=True)
    write_csv(local, reviews(128, seed=3))
    with pytest.raises(RunError, match="cannot resume: the contents of train changed"):
        run(out, given, resume=True)
    with pytest.raises(RunError, match="holds a run already; --resume continues it, --force replaces it"):
        run(out, given)
    (out / "mine.txt").write_text("keep me")
    run(out, given | {"epochs": 1}, force=True)
    assert (out / "mine.txt").read_text() == "keep me"


# What a run directory holds


def test_transformers_loads_the_run_and_gives_the_same_logits(world, finished):
    theirs, report = transformers.AlbertForSequenceClassification.from_pretrained(finished, output_loading_info=True)
    assert not any(report.values())
    assert theirs.config.id2label == {0: "neg", 1: "pos"}
    assert theirs.config.problem_type == "single_label_classification"
    tokenizer = transformers.AutoTokenizer.from_pretrained(finished)
    loaded = load_run(finished)
    texts = [text for text, _ in reviews(20, seed=4)]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == loaded.tokenizer.encode_batch(texts).padded()["input_ids"].tolist()
    rows = TokenRows(loaded.tokenizer.encode_batch(texts))
    ours = infer(loaded.model, rows, device=torch.device("cpu"))
    with torch.no_grad():
        logits = theirs.eval()(**batch).logits.numpy()
    assert np.abs(np.stack([ours[row] for row in range(20)]) - logits).max() <= 1e-5


def test_it_learnt_what_the_words_mean(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["dev"]["accuracy"] >= 0.95
    predictions = (finished / "dev_predictions.csv").read_text().splitlines()
    wrong = [line.rsplit(",", 1)[1] for line in predictions[1:]]
    assert wrong == sorted(wrong, reverse=True)
    assert wrong.count("1") == 24 - round(24 * summary["dev"]["accuracy"])


def test_every_file_of_a_run_is_there_and_says_what_it_should(world, finished):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "confusion.png",
        "curves.png",
        "dev_predictions.csv",
        "metrics.jsonl",
        "model.safetensors",
        "report.md",
        "run.toml",
        "spiece.model",
        "summary.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for name in ("curves.png", "confusion.png"):
        assert (finished / name).read_bytes().startswith(b"\x89PNG")
    records = read_log(finished)
    assert [record["step"] for record in records if record["event"] == "train"] == list(range(1, 129))
    assert [record["step"] for record in records if record["event"] == "dev"] == [20, 40, 60, 80, 100, 120, 128]
    assert [record["epoch"] for record in records if record["event"] == "epoch"] == list(range(1, 9))
    assert records[-1]["event"] == "end"
    assert read_toml(finished / "run.toml")["batch_size"] == 8
    text = (finished / "report.md").read_text()
    assert "chosen by accuracy on the development set" in text
    assert f"| train | `{world / 'train.csv'}` | 128 |" in text


def test_a_runs_toml_trains_the_same_again(world, finished, tmp_path):
    run(tmp_path / "again", {}, config=finished / "run.toml")
    assert files(tmp_path / "again") == files(finished)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = 1", "lr: no such setting; the settings are task, model, data, train"),
        ("batch_size = 'many'", "batch_size is 'many', not a whole number"),
        ("epochs = true", "epochs is True, not a number"),
        ("precision = 'int8'", "precision is 'int8', not one of auto, fp32, bf16, fp16"),
        (
            "steps = '10'\nregression = 1\nhead = []",
            "steps is '10', not a whole number; regression is 1, not true or false; head is [], not a text in quotes",
        ),
        ("settings = 3", "settings is 3, not a table"),
        ("train = ['a']", "train is ['a'], not a text in quotes"),
        ("epochs =", "not TOML"),
    ],
)
def test_bad_settings_files(tmp_path, text, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=re.escape(message)):
        read_toml(path)


def test_a_run_becomes_googles_checkpoint_and_comes_back_unchanged(finished, tmp_path):
    from converters.tensorflow.bundle import read_bundle

    convert.convert(finished, tmp_path / "tf", target_as="tf")
    variables = read_bundle(tmp_path / "tf" / "model.ckpt-best")
    stored = load_run(finished).model.state_dict()
    assert (variables["output_weights"].read() == stored["classifier.weight"].numpy()).all()
    assert (variables["output_bias"].read() == stored["classifier.bias"].numpy()).all()
    convert.convert(tmp_path / "tf", tmp_path / "back")
    for name in ("model.safetensors", "config.json", "spiece.model", "tokenizer.json"):
        assert (tmp_path / "back" / name).read_bytes() == (finished / name).read_bytes()


def test_an_mlp_head_is_kept_beside_an_encoder_that_everything_loads(world, finished, tmp_path):
    out = tmp_path / "run"
    summary = run(out, options(world, model=str(finished), head="mlp:12,5"))
    assert summary["dev"]["accuracy"] >= 0.9
    loaded = load_run(out)
    assert loaded.model.mlp is not None
    assert loaded.model.mlp.hidden[0]["batch_norm"].num_batches_tracked > 0
    transformers.AlbertModel.from_pretrained(out)
    report = convert.convert(out, tmp_path / "tf", target_as="tf")
    assert report.dropped == {"head of another shape than linear (head.safetensors)": 1}
    (out / "head.safetensors").write_bytes(b"nonsense")
    with pytest.raises(Exception, match=r"not the head that run\.toml describes"):
        load_run(out)


def test_a_frozen_encoder_keeps_its_weights_and_trains_the_head(world, finished, tmp_path):
    out = tmp_path / "run"
    seen = []
    summary = run(out, options(world, model=str(finished), freeze_encoder=True, learning_rate=0.05), report=seen.append)
    assert {event.done for event in seen if isinstance(event, WorkDone) and event.what == "features"} >= {128, 24}
    before, after = convert.load(finished).tensors, convert.load(out).tensors
    for name in before:
        if name.startswith("albert."):
            assert (before[name].read() == after[name].read()).all()
    assert summary["dev"]["accuracy"] >= 0.95
    measured = json.loads(invoke("evaluate", out, "--json").stdout)[str(out)]["dev"]
    assert measured == pytest.approx(summary["dev"], abs=1e-6)  # features cached are those computed


@pytest.mark.drawn
def test_seeds_give_mean_and_spread(world, tmp_path):
    given = options(world, epochs=2)
    together = run(tmp_path / "runs", given, seeds=[1, 2, 3])
    values = [item["dev"]["loss"] for item in together["runs"]]
    assert together["metrics"]["loss"]["mean"] == pytest.approx(np.mean(values))
    assert together["metrics"]["loss"]["spread"] == pytest.approx(np.std(values, ddof=1))
    assert (tmp_path / "runs" / "curves.png").exists()
    assert "| loss | " in (tmp_path / "runs" / "report.md").read_text()
    run(tmp_path / "alone", given | {"seed": 2})
    assert files(tmp_path / "alone") == files(tmp_path / "runs" / "seed-2")


def test_rows_are_held_out_where_there_is_no_development_set(world, tmp_path):
    given = options(world, epochs=1)
    del given["dev"]
    seen = []
    run(tmp_path / "run", given, report=seen.append)
    notes = [event.text for event in seen if isinstance(event, Note)]
    assert notes == ["there is no development set: 13 of the training rows are held out as one"]
    assert str(invoke("evaluate", tmp_path / "run").exception) == (
        f"{tmp_path / 'run'}: its development rows were held out of {world / 'train.csv'}, and no file has them alone; "
        "name labelled data with --data (summary.json has what was measured on them)"
    )
    error = invoke("evaluate", tmp_path / "run", tmp_path / "run", "--data", tmp_path / "absent.csv").exception
    assert str(error) == f"{tmp_path / 'run'}: {tmp_path / 'absent.csv'}: no such file or directory"


def test_resume_says_whether_there_is_a_run(world, tmp_path):
    said = []
    for _ in range(2):
        run(tmp_path / "run", options(world, epochs=1), resume=True, report=said.append)
    assert [event.text for event in said if isinstance(event, Note)] == [
        f"no run in {tmp_path / 'run'} yet: this starts one",
        f"{tmp_path / 'run'}: finished already",
    ]


def test_a_model_without_pooler_gets_a_fresh_one_and_reports_it(world, tmp_path):
    checkpoint = convert.load(world / "model")
    kept = {name: tensor for name, tensor in checkpoint.tensors.items() if "pooler" not in name and "sop" not in name}
    convert.save(dataclasses.replace(checkpoint, tensors=kept), tmp_path / "bare")
    seen = []
    run(tmp_path / "run", options(world, model=str(tmp_path / "bare"), epochs=1), report=seen.append)
    notes = [event.text for event in seen if isinstance(event, Note)]
    assert notes == [f"{tmp_path / 'bare'} has no pooler: it starts from random weights"]


# What goes wrong


def test_a_loss_that_is_no_number_stops_and_keeps_the_best_model(world, tmp_path):
    out = tmp_path / "run"
    given = options(world, learning_rate=1e30, eval_every=1, warmup=1.0)
    message = (
        r"(the loss|the gradient's norm) became (nan|inf) at step \d+ .*; the best model so far, of step 1, stays in"
    )
    with pytest.raises(TrainingError, match=message):
        run(out, given)
    assert load_run(out).info.labels == ("neg", "pos")
    for tensor in load_run(out).model.state_dict().values():
        assert torch.isfinite(tensor).all()
    assert (out / "state.safetensors").exists()


def figures_of(monkeypatch, values):
    """Make the evaluations of a run give these figures, one after another."""
    given = iter(values)
    monkeypatch.setattr("albert_cli.training.finetune.score", lambda *_: next(given))


def test_an_evaluation_that_is_no_number_is_never_the_best(world, tmp_path, monkeypatch, albert):
    nan = float("nan")
    good = {"loss": 0.5, "accuracy": 0.5, "macro_f1": 0.5}
    broken = [good | {"loss": nan, "accuracy": 0.9}, good | {"accuracy": nan}, good | {"loss": float("inf")}]
    given = options(world, epochs=None, steps=4, eval_every=1)
    figures_of(monkeypatch, [broken[0], good, *broken[1:]])
    seen = []
    summary = run(tmp_path / "run", given, report=seen.append)
    assert [event.best for event in seen if isinstance(event, Evaluated)] == [False, True, False, False]
    assert summary["best_step"] == 2
    log = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "NaN" not in log
    assert "Infinity" not in log
    # Where none is a number there is no model, and that is an error, again after a resume.
    figures_of(monkeypatch, [broken[0]] * 4)
    message = (
        r"training ended at step 4, but every evaluation gave NaN or infinity; no model has been saved in .*; restart "
        r"with a lower --lr"
    )
    for more in ({}, {"resume": True}):
        with pytest.raises(TrainingError, match=message):
            run(tmp_path / "none", given, **more)
    assert not (tmp_path / "none" / "model.safetensors").exists()
    assert not (tmp_path / "none" / "summary.json").exists()
    figures_of(monkeypatch, [broken[0]] * 4)
    words = ["finetune", "csv", "--out", tmp_path / "told", "--train", world / "train.csv", "--dev", world / "dev.csv"]
    code, out, err = albert(*words, "--model", world / "model", "--steps", 2, "--eval-every", 1, "--max-length", 32)
    assert code == 1
    assert "loss nan  accuracy 0.9000" in out
    assert "(not numbers: not kept)\n" in out
    assert "best" not in out
    assert err.count("\n") == 1
    assert "every evaluation gave NaN or infinity" in err


def test_outputs_that_are_no_numbers_give_no_figures():
    split = Split(None, TokenRows(None, torch.tensor([0, 1])))
    outputs = [np.array([0.0, 1.0], np.float32), np.array([np.nan, 1.0], np.float32)]
    found = score(
        problems.named("classification"),
        split,
        outputs,
        RunInfo("csv", "classification", ("a", "b"), 8),
        tasks.named("csv").metrics,
    )
    assert set(found) == {"loss", "accuracy", "macro_f1"}
    assert all(map(np.isnan, found.values()))


def test_of_equal_evaluations_that_of_the_lower_loss_is_the_best(world, tmp_path, monkeypatch):
    losses = [0.5, 0.4, 0.4, 0.6]
    figures_of(monkeypatch, [{"loss": loss, "accuracy": 0.5, "macro_f1": 0.5} for loss in losses])
    seen = []
    run(tmp_path / "run", options(world, epochs=None, steps=4, eval_every=1), report=seen.append)
    assert [event.best for event in seen if isinstance(event, Evaluated)] == [True, True, False, False]


def test_faulty_settings_are_reported_at_once(world, tmp_path):
    given = options(world, batch_size=0, learning_rate=-1.0, head="mlp:", warmup=-1.0, precision="int8")
    with pytest.raises(TrainingError) as caught:
        run(tmp_path / "run", given)
    for fault in (
        "batch_size is 0, not from 1 to 2**63 - 1",
        "learning_rate is -1.0, not above 0",
        "warmup is -1.0, not at least 0",
        "precision is 'int8', not one of auto, fp32, bf16, fp16",
        "head is 'mlp:', not 'linear' or 'mlp:' and sizes, as mlp:128,30,8",
    ):
        assert fault in str(caught.value)
    with pytest.raises(TrainingError, match="--max-length is 100, but the model has 64 positions"):
        run(tmp_path / "run", options(world, max_length=100))
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="--precision fp16 needs a GPU"):
            run(tmp_path / "run", options(world, precision="fp16"))
    assert not (tmp_path / "run").exists()


def test_labels_unknown_to_the_training_set_are_reported_before_training(world, tmp_path):
    path = write_csv(tmp_path / "dev.csv", [("a good film", "pos"), ("a story", "positive")])
    message = r"dev\.csv: 1 unknown label: line 3 has 'positive'; known: neg, pos"
    with pytest.raises(DataError, match=message):
        run(tmp_path / "run", options(world, dev=str(path)))


def test_running_out_of_memory_says_what_to_lower(world, tmp_path):
    code = f"""
import resource, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
from albert_cli.errors import TrainingError
from albert_cli.runs.events import Trained
from albert_cli.training import session
from tuning import write_model
world = Path({str(world)!r})
write_model(Path({str(tmp_path)!r}) / "wide", hidden_size=64, intermediate_size=65536)
def report(event):
    if isinstance(event, Trained):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**25, resource.RLIM_INFINITY))
given = dict(model={str(tmp_path / "wide")!r}, train=str(world / "train.csv"), dev=str(world / "dev.csv"), epochs=1)
try:
    session.one("csv", given, Path({str(tmp_path / "run")!r}), config=None, seeds=[], compare=[], resume=False,
                force=False, report=report)
except TrainingError as error:
    print(error)
"""
    with Program(code=code) as process:
        process.wait()
    assert "out of memory at step 2, on a batch of 32 rows of up to" in process.said()
    said = process.said()
    assert "raise --grad-accum (the result stays the same), or lower --batch-size (32) or --max-length" in said


def test_tensorboard_hears_the_figures_or_says_how_to_install_it(world, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    given = options(world, epochs=1, tensorboard=True)
    run(tmp_path / "run", given)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    shown = {item.step: item.value for item in events.Scalars("train/loss")}
    logged = {record["step"]: record["loss"] for record in read_log(tmp_path / "run") if record["event"] == "train"}
    assert shown == pytest.approx(logged)
    assert "dev/accuracy" in events.Tags()["scalars"]
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tensorboard" else find_spec(name))
    with pytest.raises(MissingLibraryError, match=r"--tensorboard needs .*pip install 'tensorboard'"):
        run(tmp_path / "other", given)


def test_tensorboard_is_written_without_tensorflow(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom albert_cli.runs.events import Trained, silent\n"
        "from albert_cli.training.tensorboard import with_tensorboard\n"
        f"with_tensorboard(silent, Path({str(tmp_path)!r}))(Trained(1, 1.0, {{'loss': 0.5}}))\n"
        "print('tensorflow' in sys.modules)\n"
    )
    with Program(code=code) as process:
        assert process.wait() == 0, process.said()
    assert process.said() == "False\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_directories_that_hold_runs_are_not_trodden_on(world, finished, tmp_path):
    given = options(world, epochs=1)
    with pytest.raises(RunError, match="holds a run of one seed; name another directory"):
        run(finished, given, seeds=[1, 2])
    with pytest.raises(RunError, match="--resume and --force are mutually exclusive"):
        run(finished, given, resume=True, force=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(RunError, match=r"no run\.toml there, so no run to resume; restart with --force"):
        run(tmp_path / "model", given, resume=True)
    with pytest.raises(RunError, match="no such directory; name one that albert finetune wrote"):
        load_run(tmp_path / "none")
    with pytest.raises(RunError, match=r"no run\.toml and no fine-tuned head; make a run with albert finetune"):
        load_run(world / "model")


def test_a_model_fine_tuned_elsewhere_can_be_asked_too(finished, tmp_path):
    theirs = transformers.AlbertForSequenceClassification.from_pretrained(finished)
    theirs.save_pretrained(tmp_path / "theirs")
    shutil.copy(finished / "spiece.model", tmp_path / "theirs")
    done = invoke("predict", tmp_path / "theirs", "a great film", "--json")
    assert json.loads(done.stdout)["prediction"] == "pos"


def test_bf16_trains_on_the_cpu(world, tmp_path):
    given = options(world, epochs=1, precision="bf16")
    with Program(*command(tmp_path / "run", given)) as process:
        assert process.wait() == 0, process.said()
    assert all(np.isfinite(record["loss"]) for record in read_log(tmp_path / "run") if record["event"] == "train")
    assert load_run(tmp_path / "run").model.classifier.weight.dtype == torch.float32


# Commands, GLUE, the submission


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.drawn
def test_the_commands_from_training_to_prediction(world, tmp_path):
    out = tmp_path / "run"
    done = invoke(
        *("finetune", "csv", "--train", world / "train.csv", "--dev", world / "dev.csv", "--model", world / "model"),
        *("--out", out, "--epochs", 8, "--batch-size", 8, "--lr", 1e-2, "--max-length", 32, "--json"),
    )
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    done = invoke("evaluate", out, "--json")
    measured = json.loads(done.stdout)[str(out)]["dev"]
    assert measured == pytest.approx(summary["dev"], abs=1e-6)
    other = write_csv(tmp_path / "other.csv", reviews(10, seed=8))
    measured = json.loads(invoke("evaluate", out, "--data", other, "--json").stdout)[str(out)]
    assert measured["other.csv"]["accuracy"] >= 0.8
    done = invoke("evaluate", out, out, "--curves", tmp_path / "overlay.png")
    assert done.exit_code == 0
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")

    done = invoke("predict", out, "a very good film", "--json")
    answer = json.loads(done.stdout)
    assert answer["prediction"] == "pos"
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert json.loads(invoke("predict", out, "a very good film", "--json", "--probabilities").stdout) == answer
    assert str(invoke("predict", out, "a good film", "a bad one").exception) == (
        "the command line: the model was trained on single texts, not on pairs; give it single texts"
    )
    unlabelled = write_csv(tmp_path / "texts.csv", [(7, "a dull, poor plot"), (8, "great music")], ("id", "text"))
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        target = tmp_path / f"preds.{suffix}"
        done = invoke("predict", out, "--in", unlabelled, "--out", target, "--probabilities")
        assert (done.exit_code, done.stdout) == (0, f"{target}: 2 rows\n"), done.output
        table = read_table(target)
        assert table.header == ["id", "text", "prediction", "probability_neg", "probability_pos"]
        assert [row[:3] for row in table.rows] == [["7", "a dull, poor plot", "neg"], ["8", "great music", "pos"]]
    assert "exists already" in str(invoke("predict", out, "--in", unlabelled, "--out", target).exception)
    error = str(invoke("evaluate", out, "--data", unlabelled).exception)
    assert "no column 'label' for the label" in error
    assert "albert predict RUN --in" in error


def test_usage_errors(tmp_path):
    for words, message in (
        (("finetune", "csv", "--seed", 1, "--seeds", "1,2"), "--seed and --seeds do not go together"),
        (("finetune", "rte", "--seeds", "1,x"), "not whole numbers as 1,2,3"),
        (("finetune", "rte", "--submission", "out.zip"), "--submission needs all of GLUE"),
        (("predict", tmp_path), "give texts, or --in FILE"),
        (("predict", tmp_path, "a text", "--out", "x.csv"), "--out needs --in: the rows to predict"),
    ):
        done = invoke(*words)
        assert done.exit_code == 2
        assert message in " ".join(done.output.replace("│", " ").split())
    assert isinstance(invoke("predict", tmp_path / "none", "text").exception, RunError)


@pytest.mark.drawn
def test_a_regression_of_your_own(world, tmp_path):
    rows = [(text, str(1.0 if label == "pos" else -1.0)) for text, label in reviews(128)]
    write_csv(tmp_path / "train.csv", rows)
    given = options(world, train=str(tmp_path / "train.csv"), regression=True)
    given["dev"] = str(write_csv(tmp_path / "dev.csv", rows[:20]))
    summary = run(tmp_path / "run", given)
    assert summary["dev"]["pearson"] > 0.8
    assert set(summary["dev"]) == {"loss", "pearson", "spearman", "rmse"}
    assert (tmp_path / "run" / "predictions.png").exists()
    theirs = transformers.AlbertForSequenceClassification.from_pretrained(tmp_path / "run")
    assert (theirs.config.num_labels, theirs.config.problem_type) == (1, "regression")
    assert json.loads(invoke("predict", tmp_path / "run", "great film", "--json").stdout)["prediction"] > 0
    measured = json.loads(invoke("evaluate", tmp_path / "run", "--json").stdout)[str(tmp_path / "run")]["dev"]
    assert measured == pytest.approx(summary["dev"], abs=1e-6)


def test_all_of_glue_and_the_submission(world, tmp_path):
    glue = write_glue(tmp_path / "glue", rows=18, test_rows=4)
    done = invoke(
        *("finetune", "glue", "--data", glue, "--model", world / "model", "--out", tmp_path / "runs", "--json"),
        *("--submission", tmp_path / "out.zip", "--steps", 3, "--batch-size", 6, "--max-length", 32),
    )
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads(done.stdout)
    assert set(result["tasks"]) == set(session.GLUE)
    assert {"accuracy", "mismatched_accuracy"} <= set(result["tasks"]["mnli"]["dev"])
    assert "CoLA.tsv has 4 rows where the GLUE server wants 1063" in result["notes"]
    names = {
        "CoLA": {"0", "1"},
        "SST-2": {"0", "1"},
        "MRPC": {"0", "1"},
        "QQP": {"0", "1"},
        "WNLI": {"0", "1"},
        "QNLI": {"entailment", "not_entailment"},
        "RTE": {"entailment", "not_entailment"},
        "MNLI-m": {"contradiction", "entailment", "neutral"},
        "MNLI-mm": {"contradiction", "entailment", "neutral"},
        "AX": {"contradiction", "entailment", "neutral"},
    }
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert sorted(archive.namelist()) == sorted([*(f"{name}.tsv" for name in names), "STS-B.tsv"])
        for name in archive.namelist():
            lines = archive.read(name).decode().splitlines()
            assert lines[0] == "index\tprediction"
            cells_ = [line.split("\t") for line in lines[1:]]
            assert [number for number, _ in cells_] == ["0", "1", "2", "3"]
            if name == "STS-B.tsv":
                assert all(0 <= float(value) <= 5 for _, value in cells_)
            else:
                assert {value for _, value in cells_} <= names[name.removesuffix(".tsv")]
    (glue / "RTE" / "test.tsv").unlink()
    (glue / "AX" / "AX.tsv").unlink()
    done = invoke(*("finetune", "glue", "--data", glue, "--model", world / "model", "--submission", tmp_path / "2.zip"))
    assert str(done.exception) == "a submission needs every test file; missing: ax of MNLI, test of RTE"
    done = invoke(
        "predict", tmp_path / "runs" / "qnli", "--in", glue / "QNLI" / "test.tsv", "--out", tmp_path / "p.tsv"
    )
    assert done.exit_code == 0, done.exception
    assert (tmp_path / "p.tsv").read_text().splitlines()[0] == "index\tquestion\tsentence\tprediction"


def test_a_submission_of_the_official_size_has_no_notes(tmp_path):
    official = [1105, 1064, 9797, 9848, 1726, 5464, 390966, 3001, 1822, 1380, 147]  # lines with the header
    assert [count + 1 for count in ROWS.values()] == official
    paths = {}
    for name, count in ROWS.items():
        paths[name] = tmp_path / name
        values = np.linspace(-1, 6, count) if name == "STS-B.tsv" else np.arange(count) % 2
        write_tsv(paths[name], [str(n) for n in range(count)], cells(name, values, ("no", "yes")))
    assert pack(paths, tmp_path / "out.zip") == []
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert [archive.read(name).count(b"\n") for name in ROWS] == official
        scores = [float(line.split("\t")[1]) for line in archive.read("STS-B.tsv").decode().splitlines()[1:]]
    assert (min(scores), max(scores)) == (0.0, 5.0)


def save_with_googles_tokenizer(shape, shared_data, path):
    spiece = (shared_data / "tokenizer" / "spiece.model").read_bytes()
    convert.save(initialize(shape, TokenizerFiles.of("shared", spiece=spiece, origin="spiece.model"), seed=1), path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cola", "mrpc", "rte", "stsb", "sst2", "wnli", "qnli"])
def test_every_real_task_trains_and_evaluates(shared_data, tmp_path, name):
    shape = config(vocab_size=30000, max_position_embeddings=128)
    save_with_googles_tokenizer(shape, shared_data, tmp_path / "model")
    given = {"model": str(tmp_path / "model"), "data": str(shared_data / "glue"), "steps": 10, "max_length": 64}
    summary = run(tmp_path / "run", given, task=name)
    assert set(tasks.named(name).metrics) <= set(summary["dev"])


@pytest.mark.slow
def test_200_sentences_of_cola_are_learnt_by_heart(shared_data, tmp_path):
    shape = config(
        vocab_size=30000,
        embedding_size=64,
        hidden_size=128,
        num_attention_heads=4,
        intermediate_size=256,
        initializer_range=0.05,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    save_with_googles_tokenizer(shape, shared_data, tmp_path / "model")
    given = {
        "model": str(tmp_path / "model"),
        "data": str(shared_data / "glue"),
        "limit_train": 200,
        "epochs": 25,
        "learning_rate": 1e-3,
        "max_length": 64,
        "eval_every": 325,
    }
    run(tmp_path / "run", given, task="cola")
    loaded = load_run(tmp_path / "run")
    prepared = prepare(tasks.named("cola"), resolve(tasks.named("cola"), given), loaded.tokenizer)
    assert len(prepared.train.rows) == 200
    assert measure(loaded, prepared.train)["accuracy"] >= 0.99


@pytest.mark.slow
def test_two_processes_train_as_one_does(world, tmp_path):
    settings = json.loads((world / "model" / "config.json").read_text())
    shutil.copytree(world / "model", tmp_path / "still")
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout_prob": 0.0}
    (tmp_path / "still" / "config.json").write_text(json.dumps(settings))
    given = options(world, model=str(tmp_path / "still"), epochs=2)
    run(tmp_path / "one", given)
    words = ["-m", "albert_cli", *command(tmp_path / "two", given)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    one, two = (
        [record["loss"] for record in read_log(tmp_path / name) if record["event"] == "train"]
        for name in ("one", "two")
    )
    assert np.abs(np.array(one) - np.array(two)).max() < 1e-5


def test_the_pooled_base_is_assigned_exactly(world):
    checkpoint = convert.load(world / "model")
    model = Classifier(checkpoint.config, 2)
    assign(torch.nn.ModuleDict({"encoder": model.encoder}), checkpoint)
    names = spec.canonical_names(checkpoint.config)
    for name, tensor in model.encoder.state_dict().items():
        assert (tensor.numpy() == checkpoint.tensors[names[f"encoder.{name}"]].read()).all()
    assert len(Tokenizer.from_files(tokenizer_files()[0])) == checkpoint.config.vocab_size
