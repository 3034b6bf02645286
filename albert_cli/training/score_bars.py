"""The picture of scores by name: precision, recall and F1 of each label, or of each kind of entity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# More would make no picture to look at.
_MOST = 40


@dataclass(frozen=True)
class Score:
    """What was found of one name: how many were right, predicted and true."""

    name: str
    right: int
    predicted: int
    true: int

    @property
    def precision(self) -> float:
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """0 where nothing was right."""
        return 2 * self.right / (self.predicted + self.true) if self.right else 0.0


def draw(scores: Sequence[Score], title: str, target: Path) -> None:
    """Three bars for each name, the most frequent on top; beyond forty names the rarest are left out."""
    from matplotlib.figure import Figure

    from albert_cli import pictures
    from albert_cli.runs.curves import COLOURS

    shown = sorted(scores, key=lambda score: (-score.true, score.name))[:_MOST]
    left = f", the {len(shown)} most frequent of {len(scores)}" if len(shown) < len(scores) else ""
    figure = Figure(figsize=(7.0, 1.6 + 0.42 * max(1, len(shown))), layout="constrained")
    axes = figure.subplots()
    for number, kind in enumerate(("precision", "recall", "f1")):
        places = [row + 0.27 * (number - 1) for row in range(len(shown))]
        values = [getattr(score, kind) for score in shown]
        axes.barh(places, values, height=0.25, color=COLOURS[number], label=kind.replace("f1", "F1"))
    for row, score in enumerate(shown):
        axes.text(1.01, row, f"{score.f1:.2f}", va="center", fontsize=8)
    axes.set_yticks(range(len(shown)), [f"{pictures.plain(score.name)} ({score.true})" for score in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(f"{title}{left}")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    pictures.save(figure, target, force=True, dpi=130)
