"""One of several choices: a softmax over the choices of a question, each a pair with a logit of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from albert_cli.errors import DataError, RunError
from albert_cli.model.task_heads import MultipleChoice as Head
from albert_cli.tables.write import SUFFIXES, Add, table_writer
from albert_cli.tasks.examples import Choosing, Choosings
from albert_cli.tasks.task import Sources, Task
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training.choice_rows import rows_of
from albert_cli.training.problems import TABLE_OPTIONS, BatchMetrics, Choices, Problem, Unlabelled, Usual
from albert_cli.training.rows import Predictions, Split, no_targets, softmax
from albert_cli.training.run_info import RunInfo
from albert_cli.training.weighing import PLAIN, Weighing
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig
from converters.families import family_of

Found = Predictions[list[NDArray[Any]]]
# The end of the metrics of a part of the data alone.
_OF_GROUP = "_accuracy"


class MultipleChoice(Usual):
    """A value is the logits of a question's choices."""

    name = "multiple_choice"
    former_names: tuple[str, ...] = ()
    command = "predict"
    advice = "chooses; use albert predict RUN TEXT QUESTION CHOICE CHOICE"
    outputs: Collection[str] = SUFFIXES
    file_options: Collection[str] = TABLE_OPTIONS
    most_texts = 1000
    not_measured = ""
    loss_over_tokens = False
    picture = ""

    def find_labels(self, train: Choosings, declared: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
        counts = Counter(item.answer for item in train.items)
        if len(counts) == 1 and len(train) > 1:
            place = next(iter(counts)) or 0
            return (), [f"{train.where}: choice {place} is right in every row, so nothing but its place can be learnt"]
        return (), []

    def usable(self, examples: Choosings, labels: Sequence[str], task: Task) -> Choosings:
        """All: the reader leaves out what is bad."""
        return examples

    def check(self, examples: Choosings, labels: Sequence[str], task: Task) -> None:
        """The reader has looked at every answer."""

    def strata(self, examples: Choosings) -> Sequence[str] | None:
        return None

    def fit(self, info: RunInfo, train: Choosings, task: Task, hint: str) -> tuple[RunInfo, list[str]]:
        """Any number of choices will do."""
        info.check_linear_head(task.name, "choice")
        return info, []

    def split(
        self, examples: Choosings, info: RunInfo, task: Task, tokenizer: Tokenizer, *, labelled: bool = True
    ) -> Split[Choosings]:
        answers = torch.tensor([item.answer for item in examples.items]) if labelled else no_targets()
        return Split(examples, rows_of(examples.items, tokenizer, info.max_length, answers))

    def head(self, config: EncoderConfig, info: RunInfo) -> Head:
        """As the family's class of transformers has it; its config names that, for the tensors alone do not."""
        family = family_of(config)
        name = next(name for name, kind in family.reads_classifier.items() if kind == "choice")
        named = replace(config, extra={**config.extra, "architectures": [name]})
        return Head(named, summary="summary" in family.classes[name])

    def config_keys(self, info: RunInfo) -> dict[str, Any]:
        return {}

    def stored(self, info: RunInfo) -> dict[str, Any]:
        return {}

    def foreign(self, checkpoint: Checkpoint, parts: Collection[str], max_length: int) -> RunInfo | None:
        """Asked as your own tables are."""
        return RunInfo("choice", self.name, (), max_length) if "choice" in parts else None

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None, weighing: Weighing = PLAIN) -> Tensor:
        """The cross-entropy."""
        return F.cross_entropy(logits.float(), targets, reduction="sum")

    def units(self, targets: Tensor, weighing: Weighing = PLAIN) -> float:
        return len(targets)

    def label_counts(self, split: Split[Choosings], info: RunInfo) -> list[int] | None:
        return None

    def batch_metrics(self, names: Sequence[str], info: RunInfo) -> BatchMetrics | None:
        """None: batches may have different numbers of choices."""
        return None

    def score(
        self, split: Split[Choosings], outputs: list[NDArray[Any]], info: RunInfo, metrics: Sequence[str]
    ) -> dict[str, float]:
        """Accuracy, of parts of the data apart where the task measures these and there are any."""
        logits, targets = self.decide(split, outputs, info), split.rows.targets
        pairs = zip(logits, targets, strict=True)
        loss = sum(float(self.loss(torch.from_numpy(row)[None], target[None])) for row, target in pairs) / len(logits)
        right = np.array([int(row.argmax()) for row in logits]) == targets.numpy()
        groups = np.array([item.group for item in split.examples.items])
        measured = {f"{name}{_OF_GROUP}": float(right[groups == name].mean()) for name in {*groups.tolist()} - {""}}
        measured["accuracy"] = float(right.mean())
        return {"loss": loss} | {name: measured[name] for name in metrics if name in measured}

    def settled(self, split: Split[Choosings], outputs: list[NDArray[Any]], info: RunInfo) -> RunInfo:
        return info

    def decide(self, split: Split[Choosings], outputs: list[NDArray[Any]], info: RunInfo) -> list[NDArray[Any]]:
        """The logits of the choices that there are."""
        return [row[: len(item.choices)] for row, item in zip(outputs, split.examples.items, strict=True)]

    def example(self, texts: Sequence[str]) -> Choosings:
        if len(texts) < 4:
            raise RunError(f"its model takes a text, a question and two choices or more, not {len(texts)} texts")
        text, question, *choices = texts
        if not all(choice.strip() for choice in choices):
            raise RunError(
                'its model takes a text, a question and two choices or more, and a choice is empty; "" can only stand '
                "in the second place, for no question"
            )
        return Choosings("the command line", [Choosing("0", text, question, tuple(choices), None, 1)], "")

    def read(self, path: Path, info: RunInfo, task: Task, choices: Choices) -> Generator[Unlabelled]:
        """The files that the task is trained on; answers in them are not looked at."""
        layout: Any = task.layout
        sources = Sources(
            text_column=choices.text_column or info.settings.get("text_column"),
            text_pair_column=choices.text_pair_column or info.settings.get("text_pair_column"),
            delimiter=choices.delimiter,
        )
        said = choices.kind
        given: Choosings = layout.questions(path, sources, labelled=False, kind=said, errors=choices.errors)
        items = given.items
        kept: dict[str, list[Any]] = {
            "id": [item.id for item in items],
            "text": [item.text for item in items],
            "question": [item.question for item in items],
            "choices": [list(item.choices) for item in items],
        }
        if clash := kept.keys() & items[0].cells.keys():
            raise DataError(f"{path}: has a further column {min(clash)!r}; rename it, for what is read is called that")
        kept |= {name: [item.cells[name] for item in items] for name in items[0].cells}
        yield Unlabelled(given, kept, [[item.question or item.text for item in items]], kept["id"], len(items))

    def answer(self, split: Split[Choosings], found: Found, info: RunInfo) -> dict[str, Any]:
        """The place of the choice, its text, and the probability of each."""
        (item,), shares = split.examples.items, _shares(found.values[0])
        best = int(np.argmax(shares))
        each = [{"choice": choice, "probability": share} for choice, share in zip(item.choices, shares, strict=True)]
        return {"prediction": best, "answer": item.choices[best], "probabilities": each}

    def shown(self, answer: dict[str, Any]) -> tuple[str, list[list[str]]]:
        return answer["answer"], [[item["choice"], f"{item['probability']:.4f}"] for item in answer["probabilities"]]

    def columns(self, found: Found, info: RunInfo, *, probabilities: bool) -> dict[str, list[Any]]:
        """The place of each choice, from 0."""
        columns: dict[str, list[Any]] = {"prediction": [int(logits.argmax()) for logits in found.values]}
        if probabilities:
            columns["probabilities"] = [_shares(logits) for logits in found.values]
        return columns

    def brief(self, columns: dict[str, list[Any]], added: Sequence[str], info: RunInfo) -> dict[str, list[str]]:
        """The choices themselves."""
        pairs = zip(columns["choices"], columns["prediction"], strict=True)
        shown = {"prediction": [choices[place] for choices, place in pairs]}
        if "probabilities" in columns:
            shown["probability"] = [f"{max(shares):.4f}" for shares in columns["probabilities"]]
        return shown

    def writer(self, out: Path, *, force: bool) -> AbstractContextManager[Add]:
        return table_writer(out, force=force)

    def described(self, split: Split[Choosings], info: RunInfo, task: Task) -> str:
        items = split.examples.items
        counts = sorted({len(item.choices) for item in items})
        groups = Counter(item.group for item in items if item.group)
        parts = "".join(f", {name} {count}" for name, count in sorted(groups.items()))
        return f"{len(items)} questions of {' to '.join(map(str, {counts[0]: 0, counts[-1]: 0}))} choices{parts}"

    def counts(self, split: Split[Choosings]) -> dict[str, int]:
        return {"choices": sum(len(item.choices) for item in split.examples.items)}

    def same_for_all(self, split: Split[Choosings], found: Found, info: RunInfo) -> str | None:
        taken = {int(logits.argmax()) for logits in found.values}
        if len(taken) > 1 or len(found.values) < 2 or len({item.answer for item in split.examples.items}) < 2:
            return None
        return f"the best model takes choice {min(taken)} in all {len(found.values)} rows; it distinguishes nothing"

    def errors_first(self, split: Split[Choosings], found: Found, info: RunInfo) -> list[dict[str, Any]]:
        """Wrong choices first, the surest on top; right ones after them, the surest last."""
        rows = []
        for item, logits in zip(split.examples.items, found.values, strict=True):
            shares, best = _shares(logits), int(logits.argmax())
            row = {
                "id": item.id,
                "text": item.text,
                "question": item.question,
                "label": item.choices[item.answer or 0],
                "prediction": item.choices[best],
                "probability": shares[best],
                "wrong": int(best != item.answer),
            }
            rows.append(row)
        return sorted(
            rows, key=lambda row: (not row["wrong"], -row["probability"] if row["wrong"] else row["probability"])
        )

    def draw(self, split: Split[Choosings], found: Found, info: RunInfo, target: Path) -> None:
        """Nothing: choices have no picture."""


def _shares(logits: NDArray[Any]) -> list[float]:
    """The probability of each choice."""
    return [round(float(share), 6) for share in softmax(logits)]


PROBLEM: Problem[Choosings, Split[Choosings], list[NDArray[Any]]] = MultipleChoice()
