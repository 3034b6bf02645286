"""Figures of a run: curves of loss, metric and learning rate, several runs overlaid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from albert_cli import console, pictures
from albert_cli.runs.curves import COLOURS, smooth
from albert_cli.runs.events import Evaluated, Trained, records_of

if TYPE_CHECKING:
    from albert_cli.training.run_directory import History


def curves(runs: Mapping[str, History], target: Path, *, force: bool = True) -> None:
    """Loss, the metric that chooses the model, and the learning rate, over epochs; train thin, dev thick."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    loss, metric, rate = figure.subplots(1, 3)
    names = []
    for number, (name, history) in enumerate(runs.items()):
        label = pictures.plain(name)
        colour, records, best = COLOURS[number % len(COLOURS)], history.records, history.selection_metric
        names.append(best)
        steps = records_of(records, Trained)
        evaluations = records_of(records, Evaluated)
        alone = len(runs) == 1
        epochs = [record["epoch"] for record in steps]
        values = [record["loss"] for record in steps]
        loss.plot(epochs, values, color=colour, alpha=0.25, linewidth=0.8)
        loss.plot(epochs, smooth(values), color=colour, linewidth=1, label="train" if alone else f"{label}, train")
        at = [record["epoch"] for record in evaluations]
        style: dict[str, Any] = {"color": colour if len(runs) > 1 else COLOURS[1], "marker": "o", "markersize": 3}
        loss.plot(at, [record["loss"] for record in evaluations], label="dev" if alone else f"{label}, dev", **style)
        trained = [(record["epoch"], record[f"train_{best}"]) for record in evaluations if f"train_{best}" in record]
        if trained:
            shown = "train (since the last evaluation)" if alone else f"{label}, train"
            metric.plot(*zip(*trained, strict=True), color=colour, linewidth=1, label=shown)
        metric.plot(at, [record[best] for record in evaluations], label="dev" if alone else f"{label}, dev", **style)
        chosen = [record for record in evaluations if record["best"]][-1]
        metric.plot(
            [chosen["epoch"]], [chosen[best]], marker="*", markersize=13, color=style["color"], markeredgecolor="white"
        )
        metric.annotate(
            console.figure(chosen[best]),
            (chosen["epoch"], chosen[best]),
            textcoords="offset points",
            xytext=(0, 9),
            ha="center",
            fontsize=8,
        )
        rate.plot(epochs, [record["learning_rate"] for record in steps], color=colour, label=label)
    for axes, title in ((loss, "loss"), (metric, " / ".join(dict.fromkeys(names))), (rate, "learning rate")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.margins(y=0.12)
        if axes is not rate or len(runs) > 1:
            axes.legend(fontsize=8)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    pictures.save(figure, target, force=force, dpi=130)
