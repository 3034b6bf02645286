"""A run as a terminal shows it: a bar on stderr, lines of its plan and of every evaluation on stdout, notes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from albert_cli import console
from albert_cli.runs.events import (
    Evaluated,
    Event,
    FineTuningPlan,
    Note,
    PretrainingPlan,
    Remark,
    Report,
    RunBegun,
    StepDone,
    WorkDone,
)

# What is shown of an update: how a loss is called there, and its figure.
_LOSSES: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "loss": ("loss", console.figure),
    "masked_lm_loss": ("masked words", "{:.3f}".format),
    "sentence_order_loss": ("order", "{:.3f}".format),
}


@contextlib.contextmanager
def shown(*, quiet: bool) -> Iterator[Report]:
    """Yields a listener that shows the events; without the lines on stdout if `quiet`."""
    with console.bars() as show:
        yield _Reporter(show, quiet=quiet).on_event


class _Reporter:
    """Shows events: `show` draws a bar (albert_cli.live.Bars.show)."""

    def __init__(self, show: Callable[..., None], *, quiet: bool) -> None:
        self._show, self._quiet = show, quiet
        self._steps: int | None = None
        self._minutes: float | None = None

    def on_event(self, event: Event) -> None:
        """Show an event, if it is one of those that are shown."""
        match event:
            case Note() | Remark():
                console.warn(f"note: {event.text}")
            case RunBegun():
                self._say(f"{event.what} {event.value}")
            case FineTuningPlan() | PretrainingPlan():
                self._steps, self._minutes = event.steps, getattr(event, "minutes", None)
                self._say(_plan(event))
            case WorkDone():
                self._show(event.what, done=event.done, total=event.total, unit=event.unit)
            case StepDone():
                self._show("training", text=_losses(event.losses), **self._place(event))
            case Evaluated():
                self._say(_evaluation(event))
                if event.early_stop:
                    self._say("stopped early: no better for as many evaluations as --early-stop allows")

    def _say(self, text: str) -> None:
        if not self._quiet:
            console.say(text)

    def _place(self, event: StepDone) -> dict[str, Any]:
        if self._minutes is not None and event.done is not None:
            return {"done": event.done * self._minutes, "total": self._minutes, "unit": "minutes"}
        return {"done": event.step, "total": self._steps, "unit": "steps"}


def _plan(plan: FineTuningPlan | PretrainingPlan) -> str:
    if isinstance(plan, PretrainingPlan):
        return (
            f"{plan.parameters:,} parameters; {plan.tokens:,} tokens; {plan.documents:,} documents, "
            f"{plan.held_out_documents:,} more held out"
        )
    text = f"{plan.train_rows} rows, {plan.steps} steps, {plan.warmup_steps} of warm-up"
    text += f", dropout {plan.dropout}" if plan.dropout else ""
    return "; ".join(filter(None, (text, plan.taken)))


def _losses(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {form(losses[key])}" for key, (name, form) in _LOSSES.items() if key in losses)


def _evaluation(event: Evaluated) -> str:
    figures = "  ".join(f"{key} {console.figure(value)}" for key, value in event.figures.items())
    if event.best is None:
        return f"step {event.step}  {figures}"
    mark = "  best" if event.best else ""
    if not all(map(math.isfinite, event.figures.values())):
        mark = "  (not numbers: not kept)"
    return f"step {event.step}  epoch {event.epoch:.2f}  {figures}{mark}"
