"""The curves of a pretraining run: losses, accuracies and the learning rate over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from albert_cli.pretraining.order_by_length import NAME as BY_LENGTH
from albert_cli.runs.curves import COLOURS, smooth
from albert_cli.runs.events import Evaluated, Trained, records_of
from converters.staging import atomic_write

_LOSSES = {"masked_lm_loss": "masked words", "sentence_order_loss": "sentence order", "teacher_loss": "teacher"}
_ACCURACIES = {"masked_lm_accuracy": "masked words", "sentence_order_accuracy": "sentence order"}


def curves(records: Sequence[dict[str, Any]], target: Path) -> None:
    """Training thin, held-out documents thick with marks; what segment lengths alone say of their order dotted."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    train = records_of(records, Trained)
    dev = records_of(records, Evaluated)
    for axes, names in ((loss, _LOSSES), (accuracy, _ACCURACIES)):
        for colour, (key, label) in zip(COLOURS, names.items(), strict=False):
            shown = [(record["step"], record[key]) for record in train if key in record]
            if shown:
                steps, values = zip(*shown, strict=True)
                axes.plot(steps, values, color=colour, alpha=0.2, linewidth=0.8)
                axes.plot(steps, smooth(list(values)), color=colour, linewidth=1, label=f"{label}, train")
            held = [(record["step"], record[key]) for record in dev if key in record]
            if held:
                axes.plot(*zip(*held, strict=True), color=colour, marker="o", markersize=3, label=f"{label}, held out")
                axes.annotate(
                    f"{held[-1][1]:.3f}", held[-1], textcoords="offset points", xytext=(-4, 6), ha="right", fontsize=8
                )
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    by_length = [record[BY_LENGTH] for record in dev if BY_LENGTH in record]
    if by_length:
        accuracy.axhline(
            by_length[-1], color="grey", linewidth=0.8, linestyle=":", label="sentence order, by length alone"
        )
    accuracy.set_ylim(0, 1)
    for axes, title in ((loss, "loss"), (accuracy, "accuracy"), (rate, "learning rate")):
        axes.set_title(title)
    loss.legend(fontsize=8)
    accuracy.legend(fontsize=8)
    rate.plot([record["step"] for record in train], [record["learning_rate"] for record in train], color=COLOURS[0])
    rate.set_xlabel("step")
    rate.grid(alpha=0.3)
    with atomic_write(target, force=True, ours=None) as beside:
        figure.savefig(beside, format="png", dpi=120)
