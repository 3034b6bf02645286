"""The card of a finished run: written at its end, beside the model."""

from __future__ import annotations

from pathlib import Path

from albert_cli.runs.events import Note, Report
from converters.pages import README, is_free, marked
from converters.staging import atomic_write


def write(directory: Path, text: str, report: Report) -> None:
    """Write README.md, unless there is one that is not ours, or that was changed."""
    if not is_free(directory):
        report(Note(f"{README} was there already and is kept; see that it is about this model"))
        return
    with atomic_write(directory / README, force=True, ours=None) as beside:
        beside.write_bytes(marked(text))
