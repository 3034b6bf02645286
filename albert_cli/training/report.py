"""report.md: what was trained on what, how well it does, where it errs."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albert_cli.console import figure
from albert_cli.runs.curves import draws
from albert_cli.runs.events import EpochEnded, Record, records_of
from albert_cli.tables.delimited import csv_rows
from converters.messages import visible
from converters.staging import atomic_write

if TYPE_CHECKING:
    from albert_cli.training.splits import Prepared

_ERRORS = 10
# Characters of a cell of our own predictions: any that a C long holds everywhere.
_ANY = 2**31 - 1
# What Markdown gives a meaning within a line; no underscore within a word, as in the names of columns.
_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")
_NO_CODE = re.compile(r"[`|<>&]")


def write(out: Path, prepared: Prepared, summary: dict[str, Any], records: Sequence[Record]) -> None:
    """Write a run's report."""
    info = prepared.info
    settings = {key: value for key, value in info.settings.items() if value not in (None, False, "")}
    epochs = records_of(records, EpochEnded)
    parts = [
        f"# {_plain(prepared.task.name)}",
        f"Best model: step {summary['best_step']} of {summary['steps']}"
        + (f" (stopped early of {summary['planned_steps']})" if summary["stopped_early"] else "")
        + f", chosen by {prepared.task.selection_metric} on the development set.",
        _table(["metric", "dev"], [[name, figure(value)] for name, value in summary["dev"].items()]),
    ]
    pictures = ["curves.png", prepared.problem.picture] if draws() else []
    parts += [f"![{picture.partition('.')[0]}]({picture})" for picture in pictures if picture]
    parts += [
        "## Data",
        _table(
            ["split", "file", "rows"],
            [[name, _code(part.examples.where), str(len(part.examples))] for name, part in prepared.splits.items()],
        ),
        *[f"- {_plain(note)}" for note in prepared.notes],
        "## Settings",
        *([f"Those that were not given are the recipe of {whose}."] if (whose := prepared.task.recipe.model) else []),
        _table(["setting", "value"], [[key, _code(value)] for key, value in settings.items()]),
    ]
    if epochs:
        times = ", ".join(f"{record['seconds']:.1f}" for record in epochs[:12]) + (", …" if len(epochs) > 12 else "")
        parts.append(f"Seconds per epoch, evaluation not counted: {times}.")
    parts += ["## Errors", _errors(out / "dev_predictions.csv")]
    _write(out / "report.md", parts)


def write_seeds(out: Path, together: dict[str, Any]) -> None:
    """Write the report of several seeds."""
    rows = [[name, f"{figure(item['mean'])} ± {figure(item['spread'])}"] for name, item in together["metrics"].items()]
    names = list(together["metrics"])
    runs = [
        [f"[seed {seed}](seed-{seed}/report.md)", *(figure(item["dev"][name]) for name in names)]
        for seed, item in zip(together["seeds"], together["runs"], strict=True)
    ]
    parts = [
        f"# {together['task']}, {len(together['seeds'])} seeds",
        _table(["metric", "mean ± standard deviation"], rows),
        _table(["run", *names], runs),
        *(["![curves](curves.png)"] if draws() else []),
    ]
    _write(out / "report.md", parts)


def _errors(path: Path) -> str:
    """The worst rows of the predictions."""
    with open(path, encoding="utf-8", newline="") as file:
        cells = csv_rows(file, most=_ANY)
        header = next(cells)
        rows = (dict(zip(header, row, strict=True)) for row in cells)
        wrong = [row for row in rows if row.get("wrong", "1") == "1" and row.get("exact", "0") == "0"]
    if not wrong:
        return f"None; all rows are in [{path.name}]({path.name})."
    columns = [name for name in wrong[0] if name not in ("wrong", "index", "id")]
    shown = [[_plain(_short(row[name])) for name in columns] for row in wrong[:_ERRORS]]
    counted = f"The surest of {len(wrong)}" if "wrong" in wrong[0] else "The worst"
    table = _table([_plain(name) for name in columns], shown)
    return f"{counted}; all rows, errors first, are in [{path.name}]({path.name}).\n\n{table}"


def _plain(text: str) -> str:
    """Markdown that shows a text as it is, in one line: nothing in it is a mark, a link, a table's border or HTML."""
    return _MARKS.sub(r"\\\g<0>", html.escape(visible(" ".join(text.split())), quote=False))


def _code(value: object) -> str:
    """A name or value as code, or, where that would end the code or the table's cell, as plain text."""
    text = str(value)
    return _plain(text) if _NO_CODE.search(text) or visible(text, line=True) != text else f"`{text}`"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 160 else text[:159] + "…"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _write(path: Path, parts: Sequence[str]) -> None:
    text = "\n\n".join(parts).replace("\n\n- ", "\n- ")
    with atomic_write(path, force=True, ours=None) as beside:
        beside.write_text(text + "\n", encoding="utf-8")
