"""Where the time of a command goes: the seconds of its phases, which --verbose prints.

A bar's name is a phase as well: what came before each of its steps counts for it, whichever thread tells of it. Other
phases are those of the main thread; what others do at the same time takes no time of its own.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

STARTING, IMPORTING, REST = "starting", "importing", "the rest"
_BEGAN = time.perf_counter()


class _Watch:
    """Adds up the seconds of each phase; time within a phase that is within another counts for the inner one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {STARTING: time.perf_counter() - _BEGAN}
        self.open = [REST]
        self._lock = threading.Lock()
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        """Count the time since the last mark for that phase."""
        with self._lock:
            now = time.perf_counter()
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
            self._last = now


_watch: _Watch | None = None


def mark(name: str) -> None:
    """The time since the last mark went into that phase."""
    if _watch is not None:
        _watch.mark(name)


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """A phase: what is done within, but for the phases that are within it."""
    if _watch is None or not _counted():
        yield
        return
    watch = _watch
    watch.mark(watch.open[-1])
    watch.open.append(name)
    try:
        yield
    finally:
        watch.mark(watch.open.pop())


@contextlib.contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Take the time of all phases meanwhile, and of imports; the seconds by phase are complete at the end."""
    global _watch  # noqa: PLW0603 (a process does one command)
    watch = _watch = _Watch()
    plain = builtins.__import__

    def timed(name: str, *how: Any, **more: Any) -> Any:
        if name in sys.modules or watch.open[-1] == IMPORTING:
            return plain(name, *how, **more)
        with phase(IMPORTING):
            return plain(name, *how, **more)

    builtins.__import__ = timed
    try:
        yield watch.seconds
    finally:
        builtins.__import__ = plain
        watch.mark(REST)
        _watch = None


def _counted() -> bool:
    return threading.current_thread() is threading.main_thread()
