"""What moves on a terminal: bars that count, and a spinner while nothing else is shown. On stderr, gone at the end.

Imported only where someone looks, for `rich` takes a while.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.spinner import Spinner
from rich.text import Text

# Libraries whose import takes seconds, as they are called.
_LIBRARIES = {"tensorflow": "TensorFlow", "torch": "PyTorch", "transformers": "transformers", "ray": "Ray"}
# From this width on there is room for the time that has passed, and for a longer bar.
_WIDE = 110
# Where nothing can be drawn over: a line so often, in seconds.
_EVERY = 10.0


class Bars:
    """Bars by name, each gone when it is full. What is said while one is shown stands above it.

    `aside`: entered while a bar is shown.
    """

    def __init__(self, aside: Callable[[], AbstractContextManager[None]]) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._aside, self._stack = aside, ExitStack()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    @property
    def shown(self) -> bool:
        """Whether there is a bar now."""
        return self._progress is not None

    def show(
        self,
        name: str,
        *,
        done: float | None = None,
        more: float | None = None,
        total: float | None = None,
        unit: str = "",
        text: str = "",
    ) -> None:
        """How far that bar is: `done` in all, or this many `more`; `text` stands next to its name."""
        progress = self._progress or self._start()
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = progress.add_task(name, total=total, unit=unit, text=text)
            if done:  # of a resumed run: what was done before does not count for the speed
                progress.reset(task, completed=int(done), total=total)
        fields = {"total": total, "completed": done, "advance": more, "text": text or None}
        progress.update(task, **{key: value for key, value in fields.items() if value is not None})  # type: ignore[arg-type]
        if next(one for one in progress.tasks if one.id == task).finished:
            progress.remove_task(self._tasks.pop(name))
            if not self._tasks:
                self._stop()

    def _start(self) -> Progress:
        self._stack.enter_context(self._aside())
        bar = BarColumn(bar_width=30 if self._console.width >= _WIDE else 10)
        parts = (_Part("name"), bar, _Part("count"), _Part("rate"), _Part("times"))
        self._progress = Progress(*parts, console=self._console, transient=True, redirect_stdout=False)
        self._progress.start()
        return self._progress

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._tasks.clear()
            self._stack.close()

    def say(self, text: str) -> None:
        """A line above the bars."""
        progress = self._progress
        # A refresh by rich's thread meanwhile clears the bars' rows as well: one too many where a bar has gone.
        with progress.live._lock if progress else nullcontext():
            self._console.print(Text.from_ansi(text), soft_wrap=True)


class Lines:
    """The same for a terminal that nothing can be drawn over: now and then a line on how far it is."""

    shown = False

    def __init__(self) -> None:
        self._done: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._last = time.monotonic()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, text: str) -> None:
        """A line; there is nothing to stand above."""
        typer.echo(text, err=True)

    def show(
        self,
        name: str,
        *,
        done: float | None = None,
        more: float | None = None,
        total: float | None = None,
        unit: str = "",
        text: str = "",
    ) -> None:
        """As of Bars."""
        now = time.monotonic()
        started = self._started.setdefault(name, now)
        self._done[name] = self._done.get(name, 0) + (more or 0) if done is None else done
        if now - self._last < _EVERY:
            return
        self._last = now
        count = counted(self._done[name], total, unit)
        after = f", {seconds(now - started)} so far"
        typer.echo(f"{name}: {count}{f', {text}' if text else ''}{after}", err=True)


class _Part(ProgressColumn):
    """A column of text that is cut last: what is done, how fast, how long still."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def render(self, task: Task) -> Text:
        """The text of a bar's column."""
        return Text(getattr(self, f"_{self._what}")(task), no_wrap=True)

    def _name(self, task: Task) -> str:
        return f"{task.description}  {task.fields['text']}" if task.fields["text"] else task.description

    def _count(self, task: Task) -> str:
        return counted(task.completed, task.total, task.fields["unit"])

    def _rate(self, task: Task) -> str:
        speed = task.finished_speed or task.speed
        if not speed or task.fields["unit"] in ("minutes", "%"):
            return ""
        return f"{quantity(speed, task.fields['unit'])}/s" if task.fields["unit"] == "bytes" else f"{speed:,.1f}/s"

    def _times(self, task: Task) -> str:
        left = "" if task.time_remaining is None else f"eta {seconds(task.time_remaining)}"
        if Console(stderr=True).width < _WIDE:
            return left
        return f"{seconds(task.elapsed or 0)}  {left}"


def counted(done: float, total: float | None, unit: str) -> str:
    """How much of how much, and of what."""
    if unit == "bytes":
        return quantity(done, unit) + (f"/{quantity(total, unit)}" if total else "")
    if unit == "minutes":
        return f"{done:.1f}/{total:.1f} min" if total else f"{done:.1f} min"
    if unit == "%":
        return f"{100 * done / total:.0f}%" if total else ""
    amount = f"{int(done):,}/{int(total):,}" if total else f"{int(done):,}"
    return f"{amount} {unit}".rstrip()


def quantity(size: float, unit: str) -> str:
    """An amount of that unit; bytes in kB, MB, GB."""
    if unit != "bytes":
        return f"{size:,.0f}"
    for name in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {name}" if name == "bytes" else f"{size:.1f} {name}"
        size /= 1000
    return f"{size:.1f} GB"


def seconds(time: float) -> str:
    """Hours, minutes and seconds."""
    whole = int(time)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class _Doing:
    """What the spinner says: the library that is being imported, if one is."""

    def __rich__(self) -> Text:
        modules: Mapping[str, Any] = sys.modules
        for module, name in _LIBRARIES.items():
            if getattr(getattr(modules.get(module), "__spec__", None), "_initializing", False):
                return Text(f"loading {name}")
        return Text("working")


def spinner() -> Live:
    """A spinner to be started and stopped."""
    turning = Spinner("dots", text=_Doing())
    console = Console(stderr=True)
    return Live(turning, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


__all__ = ["Bars", "Lines", "counted", "seconds", "spinner"]
