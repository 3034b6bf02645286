"""What people see: tables and progress. Plain when piped; progress on stderr and only where someone looks."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from albert_cli.arguments import STANDARD_OUTPUT


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(data, indent=2))


def print_report(report: Any) -> None:
    """A dataclass of what was done as JSON; what was written is called `out`, as by every command."""
    facts = dataclasses.asdict(report)
    print_json({"out" if name == "target" else name: value for name, value in facts.items()})


def print_lines(rows: Iterable[dict[str, Any]]) -> int:
    """JSON lines on stdout; how many there were."""
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 — it is returned
        typer.echo(json.dumps(row))
    return count


def print_table(
    rows: Sequence[Sequence[str]],
    headers: Sequence[str] = (),
    *,
    right: Sequence[int] = (),
    styles: Sequence[str] = (),
) -> None:
    """Rows in columns; `right` names the columns of figures. Piped, it is plain text, never cut to a width.

    `styles`: how rich is to show each row on a terminal, such as "red".
    """
    if not sys.stdout.isatty():
        typer.echo(format_table(rows, headers, right=right), nl=False)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=bool(headers), header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in range(len(headers or rows[0])):
        header = headers[column] if headers else ""
        table.add_column(header, justify="right" if column in right else "left", overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*(Text(cell) for cell in row), style=styles[number] if styles else None)
    Console(highlight=False).print(table)


def format_table(rows: Sequence[Sequence[str]], headers: Sequence[str] = (), *, right: Sequence[int] = ()) -> str:
    """The table as plain lines, never cut to a width."""
    lines = [headers, *rows] if headers else rows
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))] if lines else []
    text = []
    for line in lines:
        cells = (
            cell.rjust(w) if n in right else cell.ljust(w) for n, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        text.append("  ".join(cells).rstrip() + "\n")
    return "".join(text)


def tell_written(target: Path, rows: int, *, json: bool) -> None:
    """What became of the rows: they are in a file. Nothing, where they were printed (`-`)."""
    if target == STANDARD_OUTPUT:
        return
    if json:
        print_json({"out": str(target), "rows": rows})
    else:
        typer.echo(f"{target}: {rows:,} rows")


def warn(message: str) -> None:
    """One line on stderr about something that is done, but that the reader should know."""
    typer.echo(f"albert: {' '.join(message.split())}", err=True)


class Table(NamedTuple):
    """A table still to be laid out for a terminal, a pipe or a file."""

    rows: Sequence[Sequence[str]]
    headers: Sequence[str] = ()
    right: Sequence[int] = ()
    styles: Sequence[str] = ()


def write(blocks: Iterable[str | Table], out: Path | None = None, *, force: bool = False) -> None:
    """Text and tables, as they come, to stdout (None, `-`) or a file, which appears whole or not at all."""
    if out is None or out == STANDARD_OUTPUT:
        for block in blocks:
            if isinstance(block, Table):
                print_table(*block[:2], right=block.right, styles=block.styles)
            else:
                typer.echo(block, nl=False)
        return
    from converters.files import check_target, staged

    check_target(out, force=force, sources=(), ours=None)
    with staged(out, force=force, ours=None) as built, built.open("w", encoding="utf-8", newline="\n") as file:
        for block in blocks:
            file.write(format_table(*block[:2], right=block.right) if isinstance(block, Table) else block)


@contextlib.contextmanager
def progress_bytes() -> Iterator[Callable[[str, int, int], None]]:
    """A bar with rate and ETA on stderr; yields a function of (stage, bytes done, bytes of the stage).

    Silent when stderr is not a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _bar(TextColumn("{task.description:>7}"), *columns) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], advance=done)

        yield advance


@contextlib.contextmanager
def progress_rows(total_bytes: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar over the bytes of the input, with rows and their rate; yields a function of (rows done now, bytes so far).

    On stderr, silent when stderr is not a terminal.
    """
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    rows = TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s")
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with _bar(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), rows, *times) as bar:
        task = bar.add_task("embedding", total=total_bytes or None, rows=0, rate=0.0)

        def advance(rows: int, position: int) -> None:
            current = bar.tasks[0]
            done = current.fields["rows"] + rows
            bar.update(task, rows=done, rate=done / max(current.elapsed or 0, 1e-3))
            if position:
                bar.update(task, completed=position)

        yield advance


@contextlib.contextmanager
def progress_count(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr that counts rows; yields a function of (rows done, rows of all). Silent without a terminal."""
    with _bar(*_counted()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, advance=done, total=total)


@contextlib.contextmanager
def training_progress(*, quiet: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar of steps on stderr, and (unless `quiet`) a line on stdout for every evaluation; yields a listener."""
    with _bar(*_counted()) as bar:
        told = _Told(bar, quiet)

        def hear(record: dict[str, Any]) -> None:
            event = record["event"]
            if event == "plan":
                told.start("training", record["steps"])
                steps = f"{record['steps']} steps, {record['warmup_steps']} of warm-up"
                told.say("; ".join(filter(None, (f"{record['train_rows']} rows, {steps}", record.get("taken")))))
            elif event == "train":
                told.show("training", record["step"], text=f"loss {figure(record['loss'])}")
            elif event == "features":
                told.show("features", record["done"], total=record["rows"])
            elif event == "dev":
                shown = {key: value for key, value in record.items() if isinstance(value, float) and key != "epoch"}
                mark = "  best" if record["best"] else ""
                if not all(map(math.isfinite, shown.values())):
                    mark = "  (not numbers: not kept)"
                told.say(f"step {record['step']}  epoch {record['epoch']:.2f}  {_figures(shown)}{mark}")
                if record.get("early_stop"):
                    told.say("stopped early: no better for as many evaluations as --early-stop allows")
            elif event in ("note", "remark"):
                warn(f"note: {record['text']}")
            elif event in ("seed", "task"):
                told.say(f"{event} {record[event]}")

        yield hear


@contextlib.contextmanager
def pretraining_progress(*, quiet: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar of the run on stderr, and (unless `quiet`) a line on stdout for every evaluation; yields a listener."""
    with _bar(*_counted()) as bar:
        told = _Told(bar, quiet)

        def hear(record: dict[str, Any]) -> None:
            event = record["event"]
            if event == "plan":
                told.start("pretraining", 1000)
                told.say(
                    f"{record['parameters']:,} parameters; {record['tokens']:,} tokens; {record['documents']:,} "
                    f"documents, {record['held_out_documents']:,} more held out"
                )
            elif event == "progress":
                told.show(record["what"], record["done"], total=record["total"])
            elif event == "train":
                text = f"masked words {record['masked_lm_loss']:.3f}"
                if "sentence_order_loss" in record:
                    text += f", order {record['sentence_order_loss']:.3f}"
                told.show("pretraining", int(1000 * record["done"]), text=text)
            elif event == "dev":
                shown = {key: value for key, value in record.items() if key.startswith(("masked_lm", "sentence_order"))}
                told.say(f"step {record['step']}  {_figures(shown)}")
            elif event == "note":
                warn(f"note: {record['text']}")

        yield hear


class _Told:
    """What training tells: bars by their names, and lines on stdout unless `quiet`."""

    def __init__(self, bar: Any, quiet: bool) -> None:
        self._bar, self._quiet = bar, quiet
        self._tasks: dict[str, Any] = {}

    def say(self, text: str) -> None:
        if not self._quiet:
            typer.echo(text)

    def start(self, what: str, total: int) -> None:
        """A bar of that name, in place of an earlier one that is full."""
        self._tasks[what] = self._bar.add_task(what, total=total)

    def show(self, what: str, done: int, *, total: int | None = None, text: str | None = None) -> None:
        """How far it is; a bar that is not there yet is started."""
        if what not in self._tasks:
            self.start(what, total or 0)
        more = {"total": total} if total is not None else {}
        self._bar.update(self._tasks[what], completed=done, description=text or what, **more)


def _figures(shown: dict[str, float]) -> str:
    return "  ".join(f"{key} {figure(value)}" for key, value in shown.items())


def figure(value: float) -> str:
    """A number with four decimals, or four digits where these would show nothing or far too much."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


def _counted() -> Sequence[Any]:
    """The columns of a bar that counts."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


@contextlib.contextmanager
def _bar(*columns: Any) -> Iterator[Any]:
    """A bar of these columns on stderr, silent where stderr is no terminal, and gone at the end."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar
