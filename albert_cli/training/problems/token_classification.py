"""A tag for each word: a softmax over the logits of the word's first token, in windows over long sentences."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from albert_cli.errors import DataError
from albert_cli.model.task_heads import TokenClassifier
from albert_cli.tables.table import Line
from albert_cli.tables.write import SUFFIXES, Add
from albert_cli.tasks.examples import Sentences
from albert_cli.tasks.task import Task
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import labels as columns_of_labels
from albert_cli.training import tag_files, tagging
from albert_cli.training.label_names import labels_of
from albert_cli.training.problems import BatchMetrics, Choices, Problem, Unlabelled, Usual, ids_among
from albert_cli.training.rows import Predictions, Split, TokenRows, no_targets, softmax
from albert_cli.training.run_info import RunInfo
from albert_cli.training.score_bars import Score
from albert_cli.training.weighing import NO_LABEL, PLAIN, Weighing
from albert_cli.training.word_windows import WordWindows, windows
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig
from converters.messages import brief, counted, listing

Found = Predictions[list[NDArray[Any]]]
_NO_SPAN = "marks no span"
_NUL = "holds a NUL character"


@dataclass(frozen=True)
class WordSplit(Split[Sentences]):
    """Sentences, their rows (windows), and which token of which row speaks for which word."""

    cut: WordWindows


class TokenClassification(Usual):
    """A value is the logits of a sentence's words, (words, tags)."""

    name = "token_classification"
    former_names: tuple[str, ...] = ()
    command = "predict"
    advice = "tags the words of texts; use albert predict RUN TEXT"
    outputs: Collection[str] = (*SUFFIXES, *tag_files.COLUMNS)
    not_measured = ""
    loss_over_tokens = False
    file_options: Collection[str] = ("input_format", "text_column", "delimiter", "errors", "probabilities")
    most_texts = 1
    picture = "entities.png"

    def find_labels(self, train: Sentences, declared: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
        tags = {tag for sentence in train.required_tags() for tag in sentence}
        labels = tagging.in_order(tags)
        if len(labels) > 1000:
            raise DataError(f"{train.where}: {len(labels)} different tags; is it the right --label-column?")
        unseen = [label for label in labels if label not in tags and label != tagging.OUTSIDE]
        notes = [f"{train.where}: no word has the tag {listing(unseen)}, which {_are(unseen)} kept for its kind"]
        alike = columns_of_labels.alike({(tagging.parted(tag) or ("", tag))[1] for tag in tags})
        same = [
            f"{train.where}: {' and '.join(map(repr, group))} differ only in case or white space" for group in alike
        ]
        return labels, (notes if unseen else []) + same

    def usable(self, examples: Sentences, labels: Sequence[str], task: Task) -> Sentences:
        """The sentences of which every tag can be used."""
        tags = examples.required_tags()
        rows = [row for row, sentence in enumerate(tags) if not any(_fault(tag, labels, task) for tag in sentence)]
        if not rows:
            raise DataError(f"{examples.where}: no sentence has tags that can be used")
        if len(rows) == len(examples):
            return examples
        kept = frozenset(rows)
        without = [lines[0] for row, lines in enumerate(examples.lines) if row not in kept]
        left_out = {**examples.left_out, "without usable tags": without}
        return replace(examples.take(rows), left_out=left_out)

    def check(self, examples: Sentences, labels: Sequence[str], task: Task) -> None:
        bad: dict[str, list[Line]] = {}
        for tags, lines in zip(examples.required_tags(), examples.lines, strict=True):
            for tag, line in zip(tags, lines, strict=True):
                if _fault(tag, labels, task):
                    bad.setdefault(tag, []).append(line)
        if bad:
            faults = [f"{brief(tag)} ({_on(lines)}{f': {_NUL}' * (chr(0) in tag)})" for tag, lines in bad.items()]
            unmarked = {_fault(tag, labels, task) for tag in bad} & {_NO_SPAN}
            sound = [label for label in labels if label not in bad]
            known = f"; known: {listing(sound)}" if sound and not unmarked else ""
            advice = (
                "; ner's tags mark spans (B-PER, I-PER, …, O): for tags that stand for themselves, as parts of speech, "
                "use albert finetune pos"
            )
            raise DataError(
                f"{examples.where}: {counted(faults, 'tag')} not usable: {listing(faults)}{known}"
                f"{f'{advice}; else' if unmarked else ';'} correct them, or leave such sentences out with --skip-bad"
            )

    def strata(self, examples: Sentences) -> Sequence[str] | None:
        return None

    def fit(self, info: RunInfo, train: Sentences, task: Task, hint: str) -> tuple[RunInfo, list[str]]:
        """More than one tag must be there."""
        info.check_linear_head(task.name, "token")
        used = {tag for sentence in train.required_tags() for tag in sentence}
        if len(used) < 2:
            raise DataError(f"{train.where}: every word has the tag {min(used)!r}; {hint or 'add others'}")
        absent = [tag for tag in info.labels if tag not in used and tag != tagging.OUTSIDE]
        if not hint or not absent:  # of a whole training set those that are absent have been told of
            return info, []
        return info, [f"{train.where}: no training word has the tag {listing(absent)}; {hint} to have them learnt"]

    def split(
        self, examples: Sentences, info: RunInfo, task: Task, tokenizer: Tokenizer, *, labelled: bool = True
    ) -> WordSplit:
        if labelled:
            self.check(examples, info.labels, task)
        cut = windows(examples.words, tokenizer, info.max_length)
        targets = self._targets(examples, cut, info.labels) if labelled else no_targets()
        return WordSplit(examples, TokenRows(cut.tokens, targets), cut)

    def _targets(self, examples: Sentences, cut: WordWindows, labels: Sequence[str]) -> Tensor:
        """The tag of each token that speaks for a word, (rows, tokens), int16."""
        numbers = self._numbers(examples, labels)
        targets = np.full((len(cut.tokens), int(cut.tokens.lengths.max(initial=0))), NO_LABEL, np.int16)
        for row, (sentence, words, places) in enumerate(zip(cut.sentence, cut.words, cut.places, strict=True)):
            targets[row, places] = numbers[sentence][words]
        return torch.from_numpy(targets)

    def _numbers(self, examples: Sentences, labels: Sequence[str]) -> list[NDArray[np.int64]]:
        """The tags of each sentence as places in `labels`."""
        places = {label: number for number, label in enumerate(labels)}
        return [np.array([places[tag] for tag in tags], np.int64) for tags in examples.required_tags()]

    def head(self, config: EncoderConfig, info: RunInfo) -> TokenClassifier:
        return TokenClassifier(config, len(info.labels))

    def config_keys(self, info: RunInfo) -> dict[str, Any]:
        return {
            "id2label": {str(number): name for number, name in enumerate(info.labels)},
            "label2id": {name: number for number, name in enumerate(info.labels)},
        }

    def stored(self, info: RunInfo) -> dict[str, Any]:
        return {}

    def foreign(self, checkpoint: Checkpoint, parts: Collection[str], max_length: int) -> RunInfo | None:
        """Tags that mark spans are measured as those of ner, others as those of pos."""
        if "tokens" not in parts:
            return None
        count = checkpoint.tensors["classifier.bias"].size
        labels = labels_of(checkpoint.config, count, checkpoint.where)
        return RunInfo("ner" if tagging.mark_spans(labels) else "pos", self.name, labels, max_length)

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None, weighing: Weighing = PLAIN) -> Tensor:
        """The cross-entropy, summed over the words."""
        width = min(logits.shape[1], targets.shape[1])  # what is beyond either is padding
        flat, wanted = logits[:, :width].float().flatten(0, 1), targets[:, :width].long().flatten()
        return weighing.cross_entropy(flat, wanted)

    def units(self, targets: Tensor, weighing: Weighing = PLAIN) -> float:
        """The words: the loss of a batch is their mean, as in transformers."""
        return weighing.units(targets)

    def label_counts(self, split: WordSplit, info: RunInfo) -> list[int] | None:
        numbers = np.concatenate(self._numbers(split.examples, info.labels))
        return [int(count) for count in np.bincount(numbers, minlength=len(info.labels))]

    def batch_metrics(self, names: Sequence[str], info: RunInfo) -> BatchMetrics | None:
        """None: what a span is shows in a whole sentence."""
        return None

    def score(
        self, split: WordSplit, outputs: list[NDArray[Any]], info: RunInfo, metrics: Sequence[str]
    ) -> dict[str, float]:
        logits = np.concatenate(self.decide(split, outputs, info))
        targets = np.concatenate(self._numbers(split.examples, info.labels))
        loss = float(F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(targets)))
        measured = {"accuracy": float((logits.argmax(1) == targets).mean())}
        if "macro_f1" in metrics:
            each = [
                score.f1 for score in self._scores(split, outputs, info, by_tag=True) if score.true or score.predicted
            ]
            measured["macro_f1"] = float(np.mean(each))
        if "f1" in metrics:
            each_kind = self._scores(split, outputs, info)
            whole = Score("", *(sum(getattr(one, key) for one in each_kind) for key in ("right", "predicted", "true")))
            measured |= {"f1": whole.f1, "precision": whole.precision, "recall": whole.recall}
        return {"loss": loss} | {name: measured[name] for name in metrics}

    def _scores(
        self, split: WordSplit, outputs: list[NDArray[Any]], info: RunInfo, *, by_tag: bool = False
    ) -> list[Score]:
        """What was found of each kind of span, or of each tag."""
        predicted = [_names(logits, info) for logits in self.decide(split, outputs, info)]
        return tagging.scores(split.examples.required_tags(), predicted, by_tag=by_tag)

    def settled(self, split: WordSplit, outputs: list[NDArray[Any]], info: RunInfo) -> RunInfo:
        return info

    def decide(self, split: WordSplit, outputs: list[NDArray[Any]], info: RunInfo) -> list[NDArray[Any]]:
        cut = split.cut
        found = [np.zeros((len(words), len(info.labels)), np.float32) for words in split.examples.words]
        for sentence, words, places, logits in zip(cut.sentence, cut.words, cut.places, outputs, strict=True):
            found[sentence][words] = logits[places]
        return found

    def example(self, texts: Sequence[str]) -> Sentences:
        return tag_files.of_texts("the command line", list(texts), [1] * len(texts), "")

    def read(self, path: Path, info: RunInfo, task: Task, choices: Choices) -> Generator[Unlabelled]:
        """Words in columns or lists, or texts that are cut into words here; tags in a file are not looked at."""
        given, kept = tag_files.read(path, info, choices)
        texts = given.texts or [" ".join(words) for words in given.words]
        yield Unlabelled(given, kept, [texts], ids_among(kept), len(texts))

    def answer(self, split: WordSplit, found: Found, info: RunInfo) -> dict[str, Any]:
        """The words of a text with their tags, where they stand in it, and the spans that the tags mark."""
        examples = split.examples
        assert examples.texts is not None
        assert examples.spans is not None
        (text,), (words,), (places,) = examples.texts, examples.words, examples.spans
        tags, sure = _names(found.values[0], info), _sure(found.values[0])
        each = [
            {"text": word, "start": start, "end": end, "tag": tag, "probability": share}
            for word, (start, end), tag, share in zip(words, places, tags, sure, strict=True)
        ]
        if not tagging.mark_spans(info.labels):
            return {"words": each}
        entities = []
        for span in tagging.spans(tags):
            start, end = places[span.start][0], places[span.end - 1][1]
            share = float(np.mean(sure[span.start : span.end]))
            entities.append(
                {"type": span.kind, "text": text[start:end], "start": start, "end": end, "probability": share}
            )
        return {"entities": entities, "words": each}

    def shown(self, answer: dict[str, Any]) -> tuple[str, list[list[str]]]:
        """A row for each span, or for each word."""
        if "entities" not in answer:
            rows = [[item["text"], item["tag"], f"{item['probability']:.4f}"] for item in answer["words"]]
            return "" if rows else "(no words)", rows
        rows = [
            [item["type"], item["text"], f"{item['start']}-{item['end']}", f"{item['probability']:.4f}"]
            for item in answer["entities"]
        ]
        return "" if rows else "(no entity)", rows

    def columns(self, found: Found, info: RunInfo, *, probabilities: bool) -> dict[str, list[Any]]:
        """The tags of each sentence, and of each its probability."""
        columns: dict[str, list[Any]] = {"tags": [_names(logits, info) for logits in found.values]}
        if probabilities:
            columns["probabilities"] = [_sure(logits) for logits in found.values]
        return columns

    def brief(self, columns: dict[str, list[Any]], added: Sequence[str], info: RunInfo) -> dict[str, list[str]]:
        """The spans of each sentence, or its tags."""
        pairs = zip(columns["tokens"], columns["tags"], strict=True)
        if tagging.mark_spans(info.labels):
            return {"entities": [_entities(words, tags) for words, tags in pairs]}
        return {"tags": [" ".join(tags) for _, tags in pairs]}

    def writer(self, out: Path, *, force: bool) -> AbstractContextManager[Add]:
        return tag_files.writer(out, force=force)

    def described(self, split: WordSplit, info: RunInfo, task: Task) -> str:
        tags = split.examples.required_tags()
        scores = tagging.scores(tags, tags, by_tag=not tagging.mark_spans(info.labels))
        counts = columns_of_labels.described([score.name for score in scores], [score.true for score in scores])
        words = sum(map(len, split.examples.words))
        long = f"; {split.cut.cut} in several windows of {info.max_length} tokens" if split.cut.cut else ""
        return f"{len(tags)} sentences of {words:,} words, {counts}{long}"

    def counts(self, split: WordSplit) -> dict[str, int]:
        return {"windows": len(split.rows), "words": sum(map(len, split.examples.words))}

    def same_for_all(self, split: WordSplit, found: Found, info: RunInfo) -> str | None:
        tags = {tag for logits in found.values for tag in _names(logits, info)}
        true = {tag for sentence in split.examples.required_tags() for tag in sentence}
        if len(tags) > 1 or len(true) < 2:
            return None
        return f"the best model gives every word the tag {min(tags)!r}; it distinguishes nothing"

    def errors_first(self, split: WordSplit, found: Found, info: RunInfo) -> list[dict[str, Any]]:
        """Sentences with a wrong tag, that of the surest on top; right ones after them."""
        ranked = []
        spans = tagging.mark_spans(info.labels)
        for number, (words, true, logits) in enumerate(
            zip(split.examples.words, split.examples.required_tags(), found.values, strict=True)
        ):
            tags, sure = _names(logits, info), _sure(logits)
            wrong = [share for tag, other, share in zip(tags, true, sure, strict=True) if tag != other]
            row = {
                "index": number,
                "text": " ".join(words),
                "label": _entities(words, true) if spans else " ".join(true),
                "prediction": _entities(words, tags) if spans else " ".join(tags),
                "wrong_words": len(wrong),
                "wrong": int(bool(wrong)),
            }
            ranked.append((-max(wrong, default=-min(sure, default=0.0)), row))
        return [row for _, row in sorted(ranked, key=lambda item: (not item[1]["wrong"], item[0]))]

    def draw(self, split: WordSplit, found: Found, info: RunInfo, target: Path) -> None:
        """Precision, recall and F1 of each kind of span, or of each tag."""
        from albert_cli.training import score_bars

        predicted = [_names(logits, info) for logits in found.values]
        true = split.examples.required_tags()
        right = sum(ours == theirs for ours, theirs in zip(predicted, true, strict=True))
        scores = tagging.scores(true, predicted, by_tag=not tagging.mark_spans(info.labels))
        score_bars.draw(scores, f"dev: {right} of {len(true)} sentences all right", target)


def _fault(tag: str, labels: Sequence[str], task: Task) -> str:
    """What is wrong with a tag; nothing where it can be used."""
    if "\0" in tag:
        return _NUL
    of_spans = task.selection_metric == "f1"
    if of_spans and tagging.parted(tag) is None:
        return _NO_SPAN
    sound = not of_spans or all(tagging.parted(label) is not None for label in labels)
    return "is not known" if labels and sound and tag not in labels else ""


def _on(lines: Sequence[Line]) -> str:
    """The first of the lines with a tag, and how many more have it."""
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"line {lines[0]}{more}"


def _names(logits: NDArray[Any], info: RunInfo) -> list[str]:
    """The likeliest tag of each word."""
    return [info.labels[int(number)] for number in logits.argmax(1)]


def _sure(logits: NDArray[Any]) -> list[float]:
    """How likely the likeliest tag of each word is."""
    return [round(float(share), 6) for share in softmax(logits).max(1, initial=0.0)]


def _entities(words: Sequence[str], tags: Sequence[str]) -> str:
    """The spans as a person reads them: PER John Smith; LOC Paris."""
    return "; ".join(f"{kind} {' '.join(words[start:end])}" for kind, start, end in tagging.spans(tags))


def _are(items: Sequence[str]) -> str:
    return "is" if len(items) == 1 else "are"


PROBLEM: Problem[Sentences, WordSplit, list[NDArray[Any]]] = TokenClassification()
