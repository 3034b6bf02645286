"""report.md: what was trained on what, how well it does, where it errs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albert_cli.console import figure
from albert_cli.markdown import code, plain, table
from albert_cli.runs.curves import draws
from albert_cli.runs.events import EpochEnded, Record, records_of
from albert_cli.tables.delimited import csv_rows
from converters.staging import atomic_write

if TYPE_CHECKING:
    from albert_cli.training.splits import Prepared

_ERRORS = 10
# Characters of a cell of our own predictions: any that a C long holds everywhere.
_ANY = 2**31 - 1


def write(out: Path, prepared: Prepared, summary: dict[str, Any], records: Sequence[Record]) -> None:
    """Write a run's report."""
    info = prepared.info
    settings = {key: value for key, value in info.settings.items() if value not in (None, False, "")}
    epochs = records_of(records, EpochEnded)
    parts = [
        f"# {plain(prepared.task.name)}",
        f"Best model: step {summary['best_step']} of {summary['steps']}"
        + (f" (stopped early of {summary['planned_steps']})" if summary["stopped_early"] else "")
        + f", chosen by {prepared.task.selection_metric} on the development set.",
        table(["metric", "dev"], [[name, figure(value)] for name, value in summary["dev"].items()]),
    ]
    pictures = ["curves.png", prepared.problem.picture] if draws() else []
    parts += [f"![{picture.partition('.')[0]}]({picture})" for picture in pictures if picture]
    parts += [
        "## Data",
        table(
            ["split", "file", "rows"],
            [[name, code(part.examples.where), str(len(part.examples))] for name, part in prepared.splits.items()],
        ),
        *[f"- {plain(note)}" for note in prepared.notes],
        "## Settings",
        *([f"Those that were not given are the recipe of {whose}."] if (whose := prepared.task.recipe.model) else []),
        table(["setting", "value"], [[key, code(value)] for key, value in settings.items()]),
    ]
    if epochs:
        times = ", ".join(f"{record['seconds']:.1f}" for record in epochs[:12]) + (", …" if len(epochs) > 12 else "")
        parts.append(f"Seconds per epoch, evaluation not counted: {times}.")
    parts += ["## Errors", _errors(out / "dev_predictions.csv")]
    _write(out / "report.md", parts)


def write_seeds(out: Path, together: dict[str, Any], directories: Sequence[str]) -> None:
    """Write the report of several seeds, each in one of the `directories`."""
    rows = [[name, spread(item)] for name, item in together["metrics"].items()]
    names = list(together["metrics"])
    runs = _runs(names, together["runs"], directories)
    parts = [
        f"# {together['task']}, {len(together['seeds'])} seeds",
        table(["metric", "mean ± standard deviation"], rows),
        table(["run", *names], runs),
        *(["![curves](curves.png)"] if draws() else []),
    ]
    _write(out / "report.md", parts)


def write_sweep(out: Path, together: dict[str, Any], directories: Sequence[str]) -> None:
    """Write the report of several learning rates, every run in one of the `directories`."""
    header, rows = sweep_table(together)
    runs = [run for one in together["sweep"] for run in one["runs"]]
    names = header[1:-1]
    parts = [
        f"# {together['task']}, {len(together['sweep'])} learning rates",
        f"The best of them has the best {together['selection_metric']} on the development set"
        + (", in the mean over the seeds." if len(together["seeds"]) > 1 else "."),
        table(header, rows),
        table(["run", *names], _runs(names, runs, directories)),
        *(["![curves](curves.png)"] if draws() else []),
    ]
    _write(out / "report.md", parts)


def sweep_table(together: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What came of each learning rate, the best marked: a header and rows."""
    sweep, alone = together["sweep"], len(together["seeds"]) == 1
    names = [name for name in sweep[0]["metrics"] if all(name in one["metrics"] for one in sweep)]
    rows = [
        [
            f"{one['learning_rate']:g}",
            *(figure(one["metrics"][name]["mean"]) if alone else spread(one["metrics"][name]) for name in names),
            "best" if one["learning_rate"] == together["best_learning_rate"] else "",
        ]
        for one in sweep
    ]
    return ["lr", *names, ""], rows


def spread(metric: Mapping[str, float]) -> str:
    """A mean with its standard deviation."""
    return f"{figure(metric['mean'])} ± {figure(metric['spread'])}"


def _runs(names: Sequence[str], runs: Sequence[dict[str, Any]], directories: Sequence[str]) -> list[list[str]]:
    """A row for each run, its name a link to its report."""
    return [
        [f"[{where.replace('-', ' ', 1)}]({where}/report.md)", *(figure(run["dev"][name]) for name in names)]
        for where, run in zip(directories, runs, strict=True)
    ]


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
    shown = [[plain(_short(row[name])) for name in columns] for row in wrong[:_ERRORS]]
    counted = f"The surest of {len(wrong)}" if "wrong" in wrong[0] else "The worst"
    listed = table([plain(name) for name in columns], shown)
    return f"{counted}; all rows, errors first, are in [{path.name}]({path.name}).\n\n{listed}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 160 else text[:159] + "…"


def _write(path: Path, parts: Sequence[str]) -> None:
    text = "\n\n".join(parts).replace("\n\n- ", "\n- ")
    with atomic_write(path, force=True, ours=None) as beside:
        beside.write_text(text + "\n", encoding="utf-8")
