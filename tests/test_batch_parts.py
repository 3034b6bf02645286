"""A batch is its rows: how it is divided and how far it is padded changes nothing of what is learnt."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tuning import config

from albert_cli.errors import TrainingError
from albert_cli.model.task_heads import (
    Classifier,
    MultipleChoice,
    QuestionAnswering,
    TokenClassifier,
    without_dropout,
)
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.training import finetune, problems
from albert_cli.training.choice_rows import ChoiceRows
from albert_cli.training.inference import infer
from albert_cli.training.loop import FinetuneJob, train
from albert_cli.training.rows import FeatureRows, TokenRows
from albert_cli.training.settings import Plan, Settings

ROWS, BATCH = 24, 12


class Wide(TokenRows):
    """Rows that are padded further than they need to be, as beside a longer row."""

    def inputs(self, rows, device, length=None):
        padded = self.tokens.padded(rows, length=int(self.tokens.lengths.max()) + 5)
        return {name: torch.from_numpy(array).to(device) for name, array in padded.items()}


class WideChoices(ChoiceRows):
    """Choices that are padded further than they need to be, and beside a question of more choices."""

    def inputs(self, rows, device, length=None):
        most, width = int(self.counts.max()), int(self.tokens.lengths.max()) + 5
        counts = self.counts[rows]
        places = self.first[:-1][rows][:, None] + np.minimum(np.arange(most), counts[:, None] - 1)
        padded = self.tokens.padded(places.ravel(), length=width)
        found = {name: torch.from_numpy(array).view(len(rows), most, -1) for name, array in padded.items()}
        return found | {"choice_mask": torch.from_numpy(np.arange(most) < counts[:, None])}


def wide_of(rows):
    if isinstance(rows, ChoiceRows):
        return WideChoices(rows.tokens, rows.targets, rows.first)
    return Wide(rows.tokens, rows.targets)


def rows_of(kind, seed):
    random = np.random.default_rng(seed)
    lengths = random.integers(4, 40, ROWS)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(5, 40, lengths.sum()).astype(np.int32)
    tokens = TokenBatch(ids, np.zeros(lengths.sum(), np.uint8), starts, np.zeros(ROWS, np.int32), pad_id=0)
    if kind == "question_answering":
        first = random.integers(0, lengths)
        return TokenRows(tokens, torch.from_numpy(np.stack([first, random.integers(first, lengths)], axis=1)))
    if kind == "regression":
        return TokenRows(tokens, torch.from_numpy(random.normal(0, 1, ROWS).astype(np.float32)))
    if kind == "multi_label":
        return TokenRows(tokens, torch.from_numpy((random.random((ROWS, 3)) < 0.4).astype(np.float32)))
    if kind == "token_classification":
        targets = random.integers(0, 3, (ROWS, lengths.max()))
        targets[(random.random(targets.shape) < 0.3) | (np.arange(lengths.max()) >= lengths[:, None])] = -100
        return TokenRows(tokens, torch.from_numpy(targets.astype(np.int16)))
    if kind == "multiple_choice":
        first = np.array([0, 2, 5, 7, 11, 13, 16, 18, 21, ROWS])
        return ChoiceRows(tokens, torch.from_numpy(random.integers(0, np.diff(first))), first)
    return TokenRows(tokens, torch.from_numpy(random.integers(0, 3, ROWS)))


def model_of(kind, head):
    torch.manual_seed(3)
    shape = config()
    makers = {
        "question_answering": lambda: QuestionAnswering(shape),
        "token_classification": lambda: TokenClassifier(shape, 3),
        "multiple_choice": lambda: MultipleChoice(shape),
        "regression": lambda: Classifier(shape, 1),
    }
    model = makers.get(kind, lambda: Classifier(shape, 3, (6, 4) if head == "mlp" else ()))()
    without_dropout(model)
    return model


def weights(tmp_path, model, kind, rows, parts):
    """All weights after four updates of a model that begins with the weights of `model`."""
    before, model = model.state_dict(), model_of(kind, "mlp" if getattr(model, "mlp", None) else "linear")
    model.load_state_dict(before)
    frozen = isinstance(rows, FeatureRows)
    if frozen:
        model.encoder.requires_grad_(False)
    job = FinetuneJob(
        model=model,
        problem=problems.named(kind),
        rows=rows,
        plan=Plan(steps=4, warmup_steps=0, eval_every=4, steps_per_epoch=2),
        settings=Settings(
            task="csv", model="", learning_rate=1e-3, batch_size=BATCH, max_length=64, steps=4, grad_accum=parts
        ),
        directory=tmp_path,
        accelerator=Accelerator(cpu=True),
        selection_metric="accuracy",
        evaluate=lambda trained: {"accuracy": 0.0, "loss": 0.0},
        save_best=lambda: None,
    )
    train(job, resume=False)
    return {name: item.detach().clone() for name, item in model.state_dict().items()}


@pytest.mark.parametrize(("seed", "parts"), [(0, 2), (1, 5), (2, 12)])
@pytest.mark.parametrize(
    ("kind", "head", "frozen"),
    [
        ("classification", "linear", False),
        ("classification", "linear", True),
        ("classification", "mlp", False),
        ("classification", "mlp", True),
        ("regression", "linear", False),
        ("question_answering", "linear", False),
        ("multi_label", "linear", False),
        ("token_classification", "linear", False),
        ("multiple_choice", "linear", False),
    ],
)
def test_parts_and_padding_give_the_same_weights(tmp_path, kind, head, frozen, seed, parts):
    model, rows = model_of(kind, head), rows_of(kind, seed)
    wide = wide_of(rows)
    if frozen:  # the features, computed in batches with and without more padding
        for name, item in (("rows", rows), ("wide", wide)):
            found = infer(model, item, device=torch.device("cpu"), forward=model.features)
            features = torch.from_numpy(np.stack([found[row] for row in range(ROWS)]))
            if name == "rows":
                rows = FeatureRows(features, item.targets)
            else:
                wide = FeatureRows(features, item.targets)
    whole = weights(tmp_path, model, kind, rows, 1)
    others = [weights(tmp_path, model, kind, wide, 1)]
    if head == "linear":  # batch norm sees its rows together: parts are refused
        others += [weights(tmp_path, model, kind, item, parts) for item in (rows, wide)]
    for other in others:
        for name, item in whole.items():
            assert (item.double() - other[name].double()).abs().max() <= 1e-6, name


def test_an_mlp_head_is_not_computed_in_parts():
    with pytest.raises(TrainingError, match="grad_accum is 2, but an mlp head has batch norm"):
        Settings(task="csv", model="m", learning_rate=1e-3, batch_size=8, max_length=8, head="mlp:4", grad_accum=2)


def test_an_mlp_head_is_not_trained_by_several_processes(monkeypatch, tmp_path):
    monkeypatch.setattr(finetune, "accelerator_for", lambda precision, device: SimpleNamespace(num_processes=2))
    settings = Settings(task="rte", model="m", learning_rate=1e-3, batch_size=8, max_length=8, head="mlp:4")
    with pytest.raises(TrainingError, match="2 processes would train another model than one; start one process"):
        finetune.finetune(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_refuses_parts_of_a_batch_for_an_mlp_head_as_wrong_usage(albert, tmp_path):
    code, _, err = albert("finetune", "rte", "--head", "mlp:8", "--grad-accum", 2, "--out", tmp_path / "run")
    assert code == 2
    assert "--head mlp and --grad-accum do not go together" in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()
