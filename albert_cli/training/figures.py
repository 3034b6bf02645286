"""Figures of a run: curves of loss, metric and learning rate, several runs overlaid; the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from albert_cli import console, pictures
from albert_cli.runs.curves import COLOURS, smooth
from albert_cli.runs.events import Evaluated, Trained, records_of
from albert_cli.runs.log import read_log

if TYPE_CHECKING:
    from albert_cli.training.finetune import Split
    from albert_cli.training.prediction import Predictions
    from albert_cli.training.run_directory import RunInfo


def curves(runs: Mapping[str, Path], target: Path, *, force: bool = True) -> None:
    """Loss, the metric that chooses the model, and the learning rate, over epochs; train thin, dev thick."""
    from albert_cli.tasks import named
    from albert_cli.training.finetune import of_kind
    from albert_cli.training.run_directory import read_info

    figure = Figure(figsize=(13, 4), layout="constrained")
    loss, metric, rate = figure.subplots(1, 3)
    names = []
    for number, (label, directory) in enumerate(runs.items()):
        colour, records = COLOURS[number % len(COLOURS)], read_log(directory)
        info = read_info(directory)
        best = of_kind(named(info.task), info.kind).selection_metric
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
    _save(figure, target, force=force)


def confusion(info: RunInfo, split: Split, predictions: Predictions, out: Path) -> None:
    """`confusion.png`: counts by true and predicted label; for a regression `predictions.png`, value against value."""
    assert split.rows.targets is not None
    if info.kind == "answers":
        return
    wanted, given = split.rows.targets.numpy(), np.asarray(predictions.values)
    if info.kind == "regression":
        _scatter(wanted, given, out / "predictions.png")
        return
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(wanted, given, labels=range(len(info.labels)))
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    size = min(14.0, 3.2 + 0.75 * len(info.labels))
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true label", shrink=0.8)
    axes.set_xticks(range(len(info.labels)), info.labels, rotation=30, ha="right")
    axes.set_yticks(range(len(info.labels)), info.labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"dev: {int(np.trace(counts))} of {int(counts.sum())} right")
    if len(info.labels) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center", color=colour)
    _save(figure, out / "confusion.png")


def _scatter(wanted: Any, given: Any, target: Path) -> None:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(wanted, given, s=8, alpha=0.4, color=COLOURS[0])
    ends = [float(min(wanted.min(), given.min())), float(max(wanted.max(), given.max()))]
    axes.plot(ends, ends, color="black", linewidth=0.8, linestyle="--", label="equal")
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    axes.set_title(f"dev: {len(wanted)} rows")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _save(figure, target)


def _save(figure: Figure, target: Path, *, force: bool = True) -> None:
    pictures.save(figure, target, force=force, dpi=130)
