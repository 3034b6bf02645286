"""The picture of a table of cosines, as in TensorFlow Hub's article on sentence similarity."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from albert_cli import pictures
from albert_cli.errors import EmbeddingError

# More cells than these have no room for a number each.
_NUMBERED = 16
_LABEL = 28


def draw(
    table: NDArray[np.float32], rows: Sequence[str], columns: Sequence[str], target: Path, *, force: bool = False
) -> None:
    """Draw the cosines with a label for each row and column; the ending of `target` says PNG, SVG or PDF."""
    pictures.check(target, EmbeddingError, force=force)
    height, width = table.shape
    side = 0.75 if max(table.shape) <= _NUMBERED else 0.3
    figure = Figure(figsize=(max(5.0, side * width + 3.2), max(3.8, side * height + 2.9)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # From the lowest cosine on: those of an untuned model lie close together.
    low = min(0.0, float(table.min())) if float(table.min()) < 0.5 else float(np.floor(table.min() * 20) / 20)
    image = axes.imshow(table, cmap="YlOrRd", vmin=low, vmax=1.0)
    axes.set_xticks(range(width), [_label(text) for text in columns], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(height), [_label(text) for text in rows])
    axes.set_title("Cosine similarity")
    if max(table.shape) <= _NUMBERED:
        middle = (low + 1) / 2
        for (row, column), value in np.ndenumerate(table):
            colour = "white" if value > middle + (1 - low) / 6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.8)
    pictures.save(figure, target, force=force)


def _label(text: str) -> str:
    return pictures.plain("\n".join(textwrap.wrap(text, _LABEL, max_lines=3, placeholder=" …")))
