"""The pictures of scored texts: a bar for each token, its log-probability or how likely it was replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from albert_cli import pictures
from albert_cli.errors import HeadError

if TYPE_CHECKING:
    from matplotlib.artist import Artist

    from albert_cli.scoring.pseudo_likelihood import TextScore
    from albert_cli.scoring.replaced_tokens import Replacements

    Scored = TypeVar("Scored", TextScore, Replacements)

# More would make no picture to look at.
_MOST_TEXTS, _MOST_TOKENS = 12, 200
_USUAL, _ODD, _CHOICE = "#56B4E9", "#D55E00", "#000000"


def check(target: Path, *, force: bool, sources: Sequence[Path] = ()) -> None:
    """Refuse a file that cannot be drawn, before any work is done (HeadError, TargetError)."""
    pictures.check(target, HeadError, force=force, sources=sources)


def draw(found: Sequence[TextScore], target: Path, *, odd: int = 1, force: bool = False) -> None:
    """Draw a row of bars for each text, and over each a tick where the model's own choice stands."""
    low = min((float(one.log_probabilities.min(initial=-1.0)) for one in found), default=-1.0)

    def row(one: TextScore, axes: Axes) -> None:
        places, marked = range(len(one)), one.odd(odd)
        axes.bar(places, one.log_probabilities, color=[_ODD if place in marked else _USUAL for place in places])
        axes.scatter(places, one.choice_log_probabilities, marker="_", s=150, color=_CHOICE, zorder=3)
        axes.set_ylim(low * 1.05, 0)
        axes.set_ylabel("log-probability")

    marks = [
        Patch(color=_USUAL, label="the token of the text"),
        *([Patch(color=_ODD, label="odd: the least likely")] if any(one.odd(odd) for one in found) else []),
        Line2D([], [], color=_CHOICE, marker="_", linestyle="", markersize=12, label="the model's first choice"),
    ]
    _draw(found, row, marks, target, force=force)


def draw_replaced(found: Sequence[Replacements], target: Path, *, force: bool = False) -> None:
    """Draw a row of bars for each text, how likely each token was replaced, in red where that is more than a half."""
    from albert_cli.scoring.replaced_tokens import THRESHOLD  # loads PyTorch

    def row(one: Replacements, axes: Axes) -> None:
        marked = set(one.replaced)
        axes.bar(range(len(one)), one.probabilities, color=[_ODD if n in marked else _USUAL for n in range(len(one))])
        axes.axhline(THRESHOLD, color=_CHOICE, linewidth=0.8, linestyle=":")
        axes.set_ylim(0, 1)
        axes.set_ylabel("P(replaced)")

    marks = [
        Patch(color=_USUAL, label="a token of the original"),
        *([Patch(color=_ODD, label="replaced")] if any(one.replaced for one in found) else []),
        Line2D([], [], color=_CHOICE, linewidth=0.8, linestyle=":", label=f"{THRESHOLD}"),
    ]
    _draw(found, row, marks, target, force=force)


def _draw(
    found: Sequence[Scored], row: Callable[[Scored, Axes], None], marks: list[Artist], target: Path, *, force: bool
) -> None:
    """A picture with a row for each text, drawn by `row`, its pieces below it and `marks` as the legend above all."""
    check(target, force=force)
    longest = max(map(len, found))
    if len(found) > _MOST_TEXTS or longest > _MOST_TOKENS:
        raise HeadError(
            f"{target}: {len(found)} texts of up to {longest} tokens are too many for one picture "
            f"({_MOST_TEXTS} texts, {_MOST_TOKENS} tokens)"
        )
    # The legend needs 7 inches, however short the texts are.
    figure = Figure(figsize=(max(7.0, 0.5 * longest + 1.5), 2.6 * len(found) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    for one, axes in zip(found, figure.subplots(len(found), 1, squeeze=False)[:, 0], strict=True):
        row(one, axes)
        axes.set_xticks(range(len(one)), [pictures.plain(piece) for piece in one.pieces], rotation=45, ha="right")
    figure.legend(handles=marks, loc="outside upper center", ncols=3, frameon=False)
    pictures.save(figure, target, force=force)
