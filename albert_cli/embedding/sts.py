"""Semantic textual similarity: how well the cosines of pairs follow the scores that people gave them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from albert_cli.embedding.units import Tick, unit_vectors
from albert_cli.errors import ColumnError, EmbeddingError, Notice
from albert_cli.tables.input_files import Kind
from albert_cli.tables.lines import Errors
from albert_cli.tables.table import read_table
from albert_cli.tasks.examples import ExampleColumns, Examples
from albert_cli.training import labels, metrics

if TYPE_CHECKING:
    from albert_cli.embedding.embedder import Plan

FIRST, SECOND, SCORE = "sentence1", "sentence2", "score"
_FEWEST = 2


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts, each with its score; `where` names their file."""

    where: str
    firsts: list[str]
    seconds: list[str]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Pearson's and Spearman's correlation of the cosines with the scores, and what they were computed of."""

    data: str
    model: str
    pairs: int
    pearson: float
    spearman: float
    texts_truncated: int
    settings: dict[str, Any]
    settings_of_the_model: list[str]


def read_pairs(
    path: Path,
    *,
    first: str | None = None,
    second: str | None = None,
    score: str | None = None,
    kind: Kind | None = None,
    delimiter: str | None = None,
    errors: Errors = "strict",
    skip_bad: bool = False,
) -> Pairs:
    """The pairs of a table, by default STS-B's columns sentence1, sentence2 and score.

    With `skip_bad` rows without a number as score are left out, with a Notice. Raises DataError for them without, for
    columns that are missing, and for fewer than two pairs.
    """
    names = {"--text-column": first or FIRST, "--text-pair-column": second or SECOND, "--label-column": score or SCORE}
    texts, score = [names["--text-column"], names["--text-pair-column"]], names["--label-column"]
    columns = ExampleColumns(texts[0], texts[1], label=score, id=None)
    try:
        table = read_table(path, kind=kind, delimiter=delimiter, wanted=texts, errors=errors, skip_bad=skip_bad)
        examples = Examples.of(table, columns, labelled=True)
    except ColumnError as error:
        if not error.missing:
            raise
        options = [option for option, name in names.items() if name in error.missing]
        advice = f"{' and '.join(options)} {'names' if len(options) == 1 else 'name'} what holds them"
        raise ColumnError(error.where, error.detail, error.advice or advice, missing=error.missing) from None
    if skip_bad:
        examples = labels.usable(examples, lambda label: labels.number_of(label, None) is not None)
        if note := examples.left_out_note():
            warnings.warn(note, Notice, stacklevel=2)
    scores = labels.numeric_labels(examples, None)
    if len(scores) < _FEWEST:
        raise EmbeddingError(f"{examples.where}: {len(scores)} pairs, but a correlation needs two at least")
    if (scores == scores[0]).all():
        raise EmbeddingError(f"{examples.where}: every pair has the score {scores[0]:g}: no correlation is defined")
    return Pairs(examples.where, examples.texts, examples.pairs or [], scores)


def cosines_of(plan: Plan, pairs: Pairs, tick: Tick | None = None) -> tuple[Any, int]:
    """The cosine of each pair, float64 (pairs), and how many texts were cut; a text that comes often is embedded once.

    `tick` is called with the texts that are done now, and how many there are.
    """
    from albert_cli.embedding.embedder import Embedder

    texts = list(dict.fromkeys(text for side in (pairs.firsts, pairs.seconds) for text in side))
    places = {text: place for place, text in enumerate(texts)}
    vectors, truncated = unit_vectors(Embedder(plan), texts, tick)
    a, b = ([places[text] for text in side] for side in (pairs.firsts, pairs.seconds))
    return (vectors[a] * vectors[b]).sum(1), truncated


def agreement(plan: Plan, pairs: Pairs, cosines: NDArray[np.float64], truncated: int = 0) -> Agreement:
    """How well the cosines follow the scores; EmbeddingError where they are all the same but for rounding."""
    if metrics.alike(cosines):
        low, high = float(cosines.min()), float(cosines.max())
        raise EmbeddingError(
            f"{pairs.where}: all cosines are the same ({(low + high) / 2:.6f} ± {(high - low) / 2:.1g}): no "
            "correlation is defined"
        )
    found = metrics.compute(["pearson", "spearman"], pairs.scores, cosines)
    return Agreement(
        data=pairs.where,
        model=plan.model.name,
        pairs=len(cosines),
        pearson=found["pearson"],
        spearman=found["spearman"],
        texts_truncated=truncated,
        settings=plan.facts(),
        settings_of_the_model=list(plan.from_model),
    )


def draw(
    found: Agreement, scores: NDArray[np.float64], cosines: NDArray[np.float64], target: Path, *, force: bool
) -> None:
    """The cosine of each pair against its score; the ending of `target` says PNG, SVG or PDF."""
    from matplotlib.figure import Figure

    from albert_cli import pictures

    pictures.check(target, EmbeddingError, force=force)
    figure = Figure(figsize=(6, 5), layout="constrained")
    figures = f"Pearson {found.pearson:.4f}, Spearman {found.spearman:.4f}"
    scatter(figure, scores, cosines, f"{pictures.plain(Path(found.model).name)}: {found.pairs:,} pairs\n{figures}")
    pictures.save(figure, target, force=force)


def scatter(figure: Any, scores: NDArray[Any], cosines: NDArray[Any], title: str = "") -> None:
    """Draw the cosine of each pair over its score into a figure of matplotlib."""
    from albert_cli.runs.curves import COLOURS

    axes = figure.subplots()
    axes.scatter(scores, cosines, s=8, alpha=0.4, color=COLOURS[0])
    axes.set_xlabel("score")
    axes.set_ylabel("cosine")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
