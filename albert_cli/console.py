"""What people see: tables, lines and progress. Plain when piped; progress on stderr and only where someone looks.

While a bar or the spinner is shown, whatever else is said goes above it, so all of a command's output passes here.
Texts of files are in it: what a terminal would obey is made visible here, once for all commands.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from albert_cli import phases
from albert_cli.arguments import STANDARD_OUTPUT
from albert_cli.strict_json import strict_json
from converters.messages import visible

if TYPE_CHECKING:
    from albert_cli.live import Bars, Lines

# After this many seconds without output a spinner shows that work is in progress.
_PATIENCE = 1.2
# A table may have millions of lines.
_LINES_AT_ONCE = 4096
_hushed = False


def plain(stream: Any) -> bool:
    """Whether nothing but text may be written there: no terminal, one that knows no escape codes, or NO_COLOR."""
    if os.environ.get("TERM") in ("dumb", "unknown") or os.environ.get("NO_COLOR"):
        return True
    return not (stream.isatty() or os.environ.get("FORCE_COLOR"))


def styled(text: str, **style: Any) -> str:
    """The text in a style such as bold=True or fg="cyan", for stdout, where that shows styles."""
    return text if plain(sys.stdout) or not sys.stdout.isatty() else typer.style(text, **style)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Nothing but errors on stderr meanwhile: --quiet."""
    global _hushed  # noqa: PLW0603 (a process does one command)
    _hushed = True
    try:
        yield
    finally:
        _hushed = False


def is_hushed() -> bool:
    """Whether --quiet was given."""
    return _hushed


def width() -> int:
    """The columns of the terminal."""
    return shutil.get_terminal_size().columns


# --- Text and tables


class Prose(str):
    """A block of text that a terminal shows wrapped between words, so that no figure in it is broken."""

    __slots__ = ()


def _fitted(text: str, stream: Any) -> str:
    """The text, its lines no longer than a terminal's, if whole words allow."""
    if not stream.isatty():
        return text
    import textwrap

    lines = (
        textwrap.wrap(line, width(), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) or [line]
        if len(line) > width()
        else [line]
        for line in text.split("\n")
    )
    return "\n".join(line for part in lines for line in part)


def say(text: str = "") -> None:
    """A line on stdout, on a terminal wrapped between words."""
    _put(_fitted(text, sys.stdout))


def _put(text: str, *, end: str = "\n", style: Mapping[str, Any] | None = None) -> None:
    """Text on stdout, in a style where that shows styles; above the bars where both are on one terminal."""
    text = visible(text)
    text = styled(text, **style) if style else text
    if _bars and _bars.shown and sys.stdout.isatty():
        _bars.say(text)
        return
    with _waiting.interrupted():
        typer.echo(text + end, nl=False)


def warn(message: str) -> None:
    """One line on stderr about something that is done, but that the reader should know; above the bars."""
    if not _hushed:
        fail(message)


def fail(message: str) -> None:
    """One line on stderr about an error, whatever --quiet says."""
    complain(_fitted(f"albert: {' '.join(message.split())}", sys.stderr))


def complain(line: str) -> None:
    """A line on stderr, above the bars."""
    line = visible(line)
    if _bars and _bars.shown:
        _bars.say(line)
        return
    with _waiting.interrupted():
        typer.echo(line, err=True)


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    _put(strict_json(data, indent=2))


def print_report(report: Any) -> None:
    """A dataclass of what was done as JSON; what was written is called `out`, as by every command."""
    print_json(_facts(report))


def _facts(report: Any) -> dict[str, Any]:
    facts = dataclasses.asdict(report)
    return {"out" if name == "target" else name: value for name, value in facts.items()}


def print_reports(reports: Mapping[str, Any]) -> None:
    """What was done, in one JSON document: the reports by name where there are several."""
    if len(reports) == 1:
        print_report(*reports.values())
    else:
        print_json({name: _facts(report) for name, report in reports.items()})


def print_lines(rows: Iterable[dict[str, Any]]) -> int:
    """JSON lines on stdout; how many there were."""
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 — it is returned
        _put(strict_json(row))
    return count


def print_line(data: Any) -> None:
    """One JSON document on one line of stdout."""
    _put(strict_json(data))


def print_array(items: Iterable[Any]) -> None:
    """What `print_json` prints of a list, item by item."""
    opening = "[\n  "
    for item in items:
        _put(opening + strict_json(item, indent=2).replace("\n", "\n  "), end="")
        opening = ",\n  "
    _put("[]" if opening == "[\n  " else "\n]")


def print_table(
    rows: Collection[Sequence[str]],
    headers: Sequence[str] = (),
    *,
    right: Sequence[int] = (),
    styles: Sequence[str] = (),
) -> None:
    """Rows in columns; `right` names the columns of figures. Piped, it is plain text, never cut to a width.

    On a terminal it is laid out within the width (albert_cli.layout). `styles`: of each row there, such as "bold red".
    """
    if not sys.stdout.isatty():
        plain_lines = _plain_lines(rows, headers, right=right)
        while text := "".join(islice(plain_lines, _LINES_AT_ONCE)):
            _put(text, end="")
        return
    from albert_cli.layout import lines

    rows, headers = [_cells(row) for row in rows], _cells(headers)
    found = lines(rows, headers, right=right, width=width())
    shown = ["bold", *styles] if headers else [*styles]
    for number, block in enumerate(found):
        style = shown[number].split() if number < len(shown) else []
        colour = next((word for word in style if word != "bold"), None)
        for line in block:
            _put(line, style={"fg": colour, "bold": True if "bold" in style else None} if style else None)


def _plain_lines(
    rows: Collection[Sequence[str]], headers: Sequence[str] = (), *, right: Sequence[int] = ()
) -> Iterator[str]:
    """The lines of the table, never cut to a width; the rows are gone through twice, and none is kept."""
    widths: list[int] = []
    for line in chain([headers] if headers else [], rows):
        sizes = list(map(len, _cells(line)))
        widths = list(map(max, widths, sizes)) if widths else sizes
    for line in chain([headers] if headers else [], rows):
        cells = (
            cell.rjust(w) if n in right else cell.ljust(w)
            for n, (cell, w) in enumerate(zip(_cells(line), widths, strict=True))
        )
        yield "  ".join(cells).rstrip() + "\n"


def _cells(row: Sequence[str]) -> list[str]:
    """The cells of a row, each on one line."""
    return [visible(cell, line=True) for cell in row]


def print_written(target: Path, rows: int, *, json: bool) -> None:
    """What became of the rows: they are in a file. Nothing, where they were printed (`-`)."""
    if target == STANDARD_OUTPUT:
        return
    if json:
        print_json({"out": str(target), "rows": rows})
    else:
        say(f"{target}: {rows:,} rows")


class Table(NamedTuple):
    """A table still to be laid out for a terminal, a pipe or a file."""

    rows: Collection[Sequence[str]]
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
                _put(_fitted(block, sys.stdout) if isinstance(block, Prose) else block, end="")
        return
    from converters.staging import atomic_write, check_target

    check_target(out, force=force, sources=(), ours=None)
    with atomic_write(out, force=force, ours=None) as built, built.open("w", encoding="utf-8", newline="\n") as file:
        for block in blocks:
            file.writelines(_plain_lines(*block[:2], right=block.right) if isinstance(block, Table) else [block])


# --- Progress


class _Waiting:
    """The spinner that shows when nothing else has been shown for a while; off unless a command asks for it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._over.set()
        self._busy = 0  # while others show something
        self._last = 0.0
        self._shown: Any = None

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Wait with a spinner from now on."""
        if _hushed or plain(sys.stderr):
            yield
            return
        self._last = time.monotonic()
        self._over.clear()
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            yield
        finally:
            self._over.set()
            self._hide()

    @contextlib.contextmanager
    def interrupted(self) -> Iterator[None]:
        """Nothing is shown meanwhile; then the wait begins again."""
        if self._over.is_set():
            yield
            return
        with self._lock:
            self._busy += 1
            self._hide()
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            if self._shown is None and not self._busy and time.monotonic() - self._last > _PATIENCE:
                self._show()

    def _show(self) -> None:
        from albert_cli.live import spinner

        with self._lock:
            if not self._busy and not self._over.is_set():
                self._shown = spinner()
                self._shown.start()

    def _hide(self) -> None:
        with self._lock:
            if self._shown is not None:
                self._shown.stop()
                self._shown = None


_waiting = _Waiting()
_bars: Bars | Lines | None = None

attended = _waiting.on
# While another program or library writes to the terminal itself.
aside = _waiting.interrupted


@contextlib.contextmanager
def bars() -> Iterator[Callable[..., None]]:
    """What shows bars on stderr (see live.Bars.show): nothing without a terminal, lines where none can be drawn."""
    global _bars  # noqa: PLW0603 (a process has one terminal)
    if _bars is not None:
        yield _visibly(_bars.show)
        return
    if _hushed or not (sys.stderr.isatty() or os.environ.get("FORCE_COLOR")):
        yield lambda name, **how: phases.mark(name)
        return
    from albert_cli import live

    with live.Lines() if plain(sys.stderr) else live.Bars(aside) as drawn:
        _bars = drawn
        try:
            yield _visibly(drawn.show)
        finally:
            _bars = None


def _visibly(show: Callable[..., None]) -> Callable[..., None]:
    """Labels of bars are names of files, too."""

    def shown(name: str, *, text: str = "", **how: Any) -> None:
        phases.mark(name)
        show(visible(name, line=True), text=visible(text, line=True), **how)

    return shown


@contextlib.contextmanager
def progress_bytes() -> Iterator[Callable[[str, int, int], None]]:
    """A bar with rate and ETA on stderr; yields a function of (stage, bytes done now, bytes of the stage)."""
    with bars() as show:
        yield lambda stage, done, total: show(stage, more=done, total=total, unit="bytes")


@contextlib.contextmanager
def progress_rows(total_bytes: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar over the bytes of the input, and its rows; yields a function of (rows done now, bytes so far)."""
    with bars() as show:
        rows, started = 0, time.monotonic()

        def advance(more: int, position: int) -> None:
            nonlocal rows
            rows += more
            if not total_bytes:
                show("embedding", done=rows, unit="rows")
                return
            text = f"{rows:,} rows, {rows / max(time.monotonic() - started, 1e-3):,.0f}/s"
            # The last bytes are read some time before their rows are done.
            done = min(position, total_bytes - 1) if position else None
            show("embedding", done=done, total=total_bytes, unit="%", text=text)

        yield advance


@contextlib.contextmanager
def progress_count(what: str, unit: str = "rows") -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr that counts; yields a function of (done now, of all)."""
    with bars() as show:
        yield lambda done, total: show(what, more=done, total=total, unit=unit)


def figure(value: float) -> str:
    """A number with four decimals, or four digits where these would show nothing or far too much; a count as it is."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"
