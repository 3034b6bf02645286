"""What gives each text a figure for each label: a model of entailment, or one that embeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from albert_cli import tasks
from albert_cli.embedding.embedder import Embedder, Plan
from albert_cli.embedding.settings import Settings
from albert_cli.errors import EmbeddingError
from albert_cli.machine import Machine
from albert_cli.registry.resolve import Model, resolve
from albert_cli.tasks.examples import Examples
from albert_cli.training import prediction
from albert_cli.training.rows import softmax
from albert_cli.training.run_directory import HEAD, LoadedRun, load_run, read_info, task_of
from albert_cli.training.run_info import RunInfo
from converters.families import family_of

TEMPLATE = "This text is about {}."
# Its pairs are a question and a sentence, not a text and what follows from it.
_OTHER_PAIRS = frozenset({"qnli"})
Tick = Callable[[int], None]


class Judge(Protocol):
    """`method` is how it judges, `figure` what it gives (`figures`: of a text), `template` what a label stands in."""

    method: str
    figure: str
    figures: str
    template: str

    def describe(self) -> str:
        """What it does, in one line."""

    def scores(self, texts: Sequence[str], tick: Tick = lambda done: None) -> NDArray[np.float64]:
        """(texts, labels): the larger, the likelier. `tick` is called with the texts done."""


class ByEntailment:
    """Of each label the probability that the template with it follows from the text, in comparison with the others.

    That is the softmax over the labels' logits of entailment (arXiv 1909.00161; transformers' zero-shot pipeline).
    """

    method, figure, figures = "entailment", "probability", "probabilities"

    def __init__(self, loaded: LoadedRun, labels: Sequence[str], template: str | None, machine: Machine) -> None:
        self.loaded, self.template, self.machine = loaded, template or TEMPLATE, machine
        self.hypotheses = [self.template.replace("{}", label) for label in labels]
        self.place = _entailment(loaded.info.labels)

    def describe(self) -> str:
        return f"zero-shot: {self.loaded.directory} judges whether a text entails {self.template!r}"

    def scores(self, texts: Sequence[str], tick: Tick = lambda done: None) -> NDArray[np.float64]:
        each, done = len(self.hypotheses), 0

        def advance(more: int) -> None:
            nonlocal done
            before, done = done // each, done + more
            tick(done // each - before)

        rows = len(texts) * each
        premises = [text for text in texts for _ in self.hypotheses]
        pairs = Examples("the texts", ["0"] * rows, premises, self.hypotheses * len(texts), None, [1] * rows, "")
        loaded = self.loaded
        split = loaded.problem.split(pairs, loaded.info, loaded.task, loaded.tokenizer, labelled=False)
        with self.machine.at_work():
            logits = np.stack(prediction.run_on(loaded, split, tick=advance).outputs)[:, self.place]
        return softmax(logits.reshape(len(texts), each))


class ByVectors:
    """Of each label the cosine of its vector with the text's."""

    method, figure, figures = "vectors", "cosine", "cosines"

    def __init__(self, embedder: Embedder, labels: Sequence[str], template: str | None) -> None:
        self.embedder, self.template = embedder, template or TEMPLATE
        self.vectors = embedder.embed([self.template.replace("{}", label) for label in labels])

    def describe(self) -> str:
        plan = self.embedder.plan
        return (
            f"zero-shot: {plan.model.shown} was not trained on entailment (MNLI), so a text's label is that whose "
            f"{self.template!r} has the nearest vector (pooling {plan.settings.pooling})"
        )

    def scores(self, texts: Sequence[str], tick: Tick = lambda done: None) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (self.embedder.embed(texts, progress=tick) @ self.vectors.T).astype(np.float64)
        return found


def judge_of(
    name: Path, labels: Sequence[str], template: str | None, machine: Machine, batch_tokens: int | None
) -> Judge:
    """What the model of that name (a path, published, or of the Hub) judges by: entailment if it was trained on that,
    else its vectors, as its Sentence-Transformers files say. Raises AlbertError's children."""
    model = resolve(name)
    with machine.at_work() as device:
        loaded = _entailment_run(model, device=device, batch_tokens=batch_tokens)
    if loaded is not None:
        return ByEntailment(loaded, labels, template, machine)
    if machine.precision == "fp16":
        raise EmbeddingError("--precision fp16 is for runs, and these labels go by vectors: choose fp32 or bf16")
    plan = Plan.of(
        model,
        Settings(normalize=True),
        device=device,
        precision=machine.precision,
        batch_tokens=batch_tokens,
        threads=machine.threads,
    )
    return ByVectors(Embedder(plan), labels, template)


def _entailment_run(model: Model, *, device: str, batch_tokens: int | None) -> LoadedRun | None:
    """The model with its head, where that was trained to judge entailment, by a run's task or its labels; else None."""
    directory = model.path
    if not directory.is_dir():
        return None
    checkpoint = model.load()
    if family_of(checkpoint.config).text_head not in checkpoint.components and not (directory / HEAD).is_file():
        return None
    return load_run(directory, device=device, batch_tokens=batch_tokens) if _judges(read_info(directory)) else None


def _judges(info: RunInfo) -> bool:
    """Whether a model tells of pairs of texts whether one entails the other, as the one label of several."""
    task, columns = task_of(info), task_of(info).layout.columns
    pairs = not info.settings or info.settings.get("text_pair_column") or (columns is not None and columns.second)
    classes = info.problem == tasks.named("mnli").problem and len(info.labels) > 1
    named = _entailment(info.labels) is not None and task.name.lower() not in _OTHER_PAIRS
    return bool(pairs) and classes and named


def _entailment(labels: Sequence[str]) -> int | None:
    """Which label says that the second text follows, as transformers finds it."""
    return next((place for place, label in enumerate(labels) if label.lower().startswith("entail")), None)
