"""A listener that writes the figures of a run for TensorBoard as well."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

from albert_cli.runs.events import Ended, Evaluated, Event, Report, Trained

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def with_tensorboard(report: Report, directory: Path) -> Report:
    """A listener that passes everything on to `report`."""
    # Figures need no TensorFlow: where this module is, tensorboard does not import it, for seconds and with much said.
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))
    from torch.utils.tensorboard import SummaryWriter

    writer: list[SummaryWriter] = []

    def on_event(event: Event) -> None:
        if isinstance(event, (Trained, Evaluated)):
            if not writer:  # made late, so that what a killed run wrote after this step is left out
                writer.append(SummaryWriter(str(directory), purge_step=event.step))
            for name, value in event.figures.items():
                writer[0].add_scalar(f"{event.NAME}/{name}", value, event.step)
        elif isinstance(event, Ended) and writer:
            writer[0].close()
        report(event)

    return on_event
