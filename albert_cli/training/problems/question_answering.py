"""The span of a text that answers a question: two logits per token, over the windows of each text."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from albert_cli.model.task_heads import QuestionAnswering as Head
from albert_cli.strict_json import strict_json
from albert_cli.tables.write import Add
from albert_cli.tasks.examples import Question, Questions
from albert_cli.tasks.layouts.squad import read_squad
from albert_cli.tasks.task import Task
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import no_answer, questions
from albert_cli.training.no_answer import by_kind
from albert_cli.training.problems import BatchMetrics, Choices, Problem, Unlabelled, Usual
from albert_cli.training.questions import Answer, Candidate, Windows
from albert_cli.training.rows import Predictions, Split, TokenRows, no_targets
from albert_cli.training.run_info import RunInfo
from albert_cli.training.weighing import PLAIN, Weighing
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig
from converters.staging import atomic_write

Found = Predictions[list[Answer]]


@dataclass(frozen=True)
class WindowSplit(Split[Questions]):
    """Questions, their rows (windows), and which window shows what of which text."""

    cut: Windows


class QuestionAnswering(Usual):
    """A value is an answer, one for each question."""

    name = "question_answering"
    former_names: tuple[str, ...] = ("answers",)
    command = "answer"
    advice = "answers questions; use albert answer RUN QUESTION CONTEXT"
    outputs: Collection[str] = (".json",)
    file_options: Collection[str] = ()
    most_texts = 2
    not_measured = ""
    loss_over_tokens = True
    picture = ""

    def find_labels(self, train: Questions, declared: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
        return (), []

    def usable(self, examples: Questions, labels: Sequence[str], task: Task) -> Questions:
        """All: the reader leaves out what is bad."""
        return examples

    def check(self, examples: Questions, labels: Sequence[str], task: Task) -> None:
        """The reader has looked at every answer."""

    def strata(self, examples: Questions) -> Sequence[str] | None:
        return None

    def fit(self, info: RunInfo, train: Questions, task: Task, hint: str) -> tuple[RunInfo, list[str]]:
        """Whether there may be no answer follows from the training questions."""
        info.check_linear_head(task.name, "token")
        return replace(info, no_answer=train.unanswerable > 0), []

    def split(
        self, examples: Questions, info: RunInfo, task: Task, tokenizer: Tokenizer, *, labelled: bool = True
    ) -> WindowSplit:
        cut = questions.windows(examples.items, tokenizer, info.max_length)
        return WindowSplit(
            examples, TokenRows(cut.tokens, torch.from_numpy(cut.spans) if labelled else no_targets()), cut
        )

    def head(self, config: EncoderConfig, info: RunInfo) -> Head:
        return Head(config)

    def config_keys(self, info: RunInfo) -> dict[str, Any]:
        return {}

    def stored(self, info: RunInfo) -> dict[str, Any]:
        threshold = info.no_answer_threshold
        return {} if threshold is None or not info.no_answer else {"no_answer_threshold": threshold}

    def foreign(self, checkpoint: Checkpoint, parts: Collection[str], max_length: int) -> RunInfo | None:
        if "qa" not in parts:
            return None
        return RunInfo("squad", self.name, (), max_length, no_answer=True, no_answer_threshold=0.0)

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None, weighing: Weighing = PLAIN) -> Tensor:
        """The mean cross-entropy of start and end, over the tokens of a window.

        Padding has no part in the softmax, so that the loss of a row does not depend on the rows beside it.
        """
        logits = logits.float()
        if mask is not None:
            logits = logits.masked_fill(mask[:, :, None] == 0, -torch.inf)
        ends = [F.cross_entropy(logits[:, :, side], targets[:, side], reduction="sum") for side in (0, 1)]
        return (ends[0] + ends[1]) / 2

    def units(self, targets: Tensor, weighing: Weighing = PLAIN) -> float:
        return len(targets)

    def label_counts(self, split: WindowSplit, info: RunInfo) -> list[int] | None:
        return None

    def batch_metrics(self, names: Sequence[str], info: RunInfo) -> BatchMetrics | None:
        """None: an answer is chosen over all windows of a text."""
        return None

    def score(
        self, split: WindowSplit, outputs: list[NDArray[Any]], info: RunInfo, metrics: Sequence[str]
    ) -> dict[str, float]:
        pairs = zip(outputs, split.rows.targets, strict=True)
        loss = sum(float(self.loss(torch.from_numpy(a)[None], b[None])) for a, b in pairs) / len(outputs)
        items, best = split.examples.items, questions.best_spans(split.examples.items, split.cut, outputs)
        answerable = [bool(item.answers) for item in items]
        further: dict[str, float] = {}
        if info.no_answer:
            searched = _searched(items, best, answerable)
            threshold = info.no_answer_threshold
            best = [answer.given(_kept(items, best) if threshold is None else threshold) for answer in best]
            for name, found in searched.items():
                further |= {f"best_{name}": found.score, f"best_{name}_thresh": found.threshold}
        exact, f1 = questions.scores(items, [answer.text for answer in best])
        if info.no_answer or not all(answerable):
            further = by_kind(exact, f1, answerable) | further
        measured = {"exact": statistics.fmean(exact), "f1": statistics.fmean(f1)}
        return {"loss": loss} | {name: measured[name] for name in metrics} | further

    def settled(self, split: WindowSplit, outputs: list[NDArray[Any]], info: RunInfo) -> RunInfo:
        """The threshold of "no answer" that gives the best F1."""
        if not info.no_answer:
            return info
        items = split.examples.items
        return replace(info, no_answer_threshold=_kept(items, questions.best_spans(items, split.cut, outputs)))

    def decide(self, split: WindowSplit, outputs: list[NDArray[Any]], info: RunInfo) -> list[Answer]:
        return questions.answers(
            split.examples.items,
            split.cut,
            outputs,
            no_answer=info.no_answer,
            threshold=info.no_answer_threshold or 0.0,
            top=info.top,
        )

    def example(self, texts: Sequence[str]) -> Questions:
        question, context = texts
        return Questions("the command line", [Question("0", question, context, [])], False, "")

    def read(self, path: Path, info: RunInfo, task: Task, choices: Choices) -> Generator[Unlabelled]:
        """SQuAD's JSON; answers in it are not looked at."""
        asked = read_squad(path, misplaced="keep")
        ids = [item.id for item in asked.items]
        yield Unlabelled(asked, {"id": ids}, [[item.question for item in asked.items]], ids, len(ids))

    def answer(self, split: WindowSplit, found: Found, info: RunInfo) -> dict[str, Any]:
        answer = found.values[0]
        scores: dict[str, Any] = {"score": answer.score, "no_answer_score": answer.null_score}
        if info.no_answer:
            scores["no_answer_threshold"] = info.no_answer_threshold or 0.0
        if info.top:
            scores["candidates"] = [_listed(item) for item in answer.candidates]
        return {"answer": answer.text, "start": answer.start, "end": answer.end} | scores

    def shown(self, answer: dict[str, Any]) -> tuple[str, list[list[str]]]:
        return answer["answer"] or "(no answer in the text)", []

    def columns(self, found: Found, info: RunInfo, *, probabilities: bool) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"answer": [answer.text for answer in found.values]}
        if info.top:
            columns["candidates"] = [[_listed(item) for item in answer.candidates] for answer in found.values]
        return columns

    def brief(self, columns: dict[str, list[Any]], added: Sequence[str], info: RunInfo) -> dict[str, list[str]]:
        return {name: [_cell(value) for value in columns[name]] for name in added}

    @contextlib.contextmanager
    def writer(self, out: Path, *, force: bool) -> Iterator[Add]:
        """SQuAD's JSON of answers by id; of candidates, where there are any, as in Google's nbest_predictions.json."""
        answers: dict[str, Any] = {}
        with atomic_write(out, force=force, ours=None) as beside:
            yield lambda columns: answers.update(
                zip(columns["id"], columns.get("candidates", columns["answer"]), strict=True)
            )
            beside.write_text(strict_json(answers, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def described(self, split: WindowSplit, info: RunInfo, task: Task) -> str:
        examples = split.examples
        return (
            f"{len(examples)} questions, {examples.unanswerable} of them without an answer, recipe of "
            f"{task.recipe.name}"
        )

    def counts(self, split: WindowSplit) -> dict[str, int]:
        return {"windows": len(split.rows)}

    def same_for_all(self, split: WindowSplit, found: Found, info: RunInfo) -> str | None:
        items = split.examples.items
        if any(answer.text for answer in found.values) or not any(item.answers for item in items):
            return None
        return f"the best model finds no answer to any of {len(items)} questions"

    def errors_first(self, split: WindowSplit, found: Found, info: RunInfo) -> list[dict[str, Any]]:
        """The lowest F1 on top."""
        items = split.examples.items
        exact, f1 = questions.scores(items, [answer.text for answer in found.values])
        rows = [
            {
                "id": item.id,
                "question": item.question,
                "answers": " | ".join(text for text, _ in item.answers),
                "prediction": answer.text,
                "exact": exact[number],
                "f1": round(f1[number], 4),
            }
            for number, (item, answer) in enumerate(zip(items, found.values, strict=True))
        ]
        return sorted(rows, key=lambda row: row["f1"])

    def draw(self, split: WindowSplit, found: Found, info: RunInfo, target: Path) -> None:
        """Nothing: answers have no picture."""


def _searched(
    items: Sequence[Question], best: Sequence[Answer], answerable: Sequence[bool]
) -> dict[str, no_answer.Best]:
    """The best thresholds by exact match and by F1, of the questions' best answers."""
    exact, f1 = questions.scores(items, [answer.text for answer in best])
    odds = [answer.odds for answer in best]
    return {name: no_answer.best_threshold(odds, scores, answerable) for name, scores in (("exact", exact), ("f1", f1))}


def _kept(items: Sequence[Question], best: Sequence[Answer]) -> float:
    """The threshold that gives the best F1, of the questions' best answers."""
    _, f1 = questions.scores(items, [answer.text for answer in best])
    _, empty = questions.scores(items, [""] * len(items))
    return no_answer.kept_threshold([answer.odds for answer in best], f1, empty)


def _listed(item: Candidate) -> dict[str, Any]:
    """A candidate under the names of Google's n-best list."""
    return {
        "text": item.text,
        "probability": item.probability,
        "start_logit": item.start_logit,
        "end_logit": item.end_logit,
        "start": item.start,
        "end": item.end,
    }


def _cell(value: Any) -> str:
    """An answer, or several candidates, for people."""
    if not isinstance(value, list):
        return str(value)
    return "; ".join(f"{item['text'] or '(no answer)'} {item['probability']:.4f}" for item in value)


PROBLEM: Problem[Questions, WindowSplit, list[Answer]] = QuestionAnswering()
