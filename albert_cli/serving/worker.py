"""What many requests ask for, computed together by one thread.

A batch is made of what waits when the one before it is done. Nothing is held back until a batch is full: one request
alone has no delay, and the more requests wait the larger batches become.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

# Seconds after which a client that was turned away may come again, at most.
_LONGEST_WAIT = 60
# How much the newest batch counts in the measured speed.
_NEWEST = 0.2


class Kind(Protocol):
    """What is done with items. Those of equal kinds are computed together."""

    def __call__(self, items: Sequence[Any], /) -> Sequence[Any]:
        """A result for each item."""


class QueueFullError(Exception):
    """As much waits as may. `seconds`: after which there is probably room."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(eq=False)
class _Job:
    """One request: its items, what each costs, and the results so far; items before `taken` are computed or will be."""

    kind: Kind
    items: Sequence[Any]
    costs: Sequence[int]
    future: Future[list[Any]] = field(default_factory=Future)
    results: list[Any] = field(default_factory=list)
    taken: int = 0

    @property
    def left(self) -> int:
        return len(self.items) - self.taken

    def take(self, budget: int) -> int:
        """Take items of at most this cost, but at least one; what they cost."""
        spent = 0
        while self.left and (not spent or spent + self.costs[self.taken] <= budget):
            spent += self.costs[self.taken]
            self.taken += 1
        return spent

    def finish(self, found: Sequence[Any] | Exception) -> None:
        """Add results; all of them, or an error, are handed over. A client that has left takes none."""
        with contextlib.suppress(InvalidStateError):
            if isinstance(found, Exception):
                self.future.set_exception(found)
                return
            self.results += found
            if len(self.results) == len(self.items):
                self.future.set_result(self.results)


class _Part(NamedTuple):
    """Items `first` to `last` (excluded) of a job."""

    job: _Job
    first: int
    last: int

    @property
    def items(self) -> Sequence[Any]:
        return self.job.items[self.first : self.last]


class Worker:
    """The thread. `budget`: what a batch costs at most, in tokens; `capacity`: items that may wait.

    Requests take turns: each gives a like share of a batch, so one of thousands of texts does not hold up one of a
    single text.
    """

    def __init__(self, *, budget: int, capacity: int) -> None:
        self._budget, self._capacity = budget, capacity
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._speed = 0.0  # cost per second; 0 while nothing has been computed
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        with self._changed:
            return sum(job.left for job in self._jobs)

    def check_room(self, items: int) -> None:
        """QueueFullError where so many more may not wait. Where nothing waits there is always room."""
        with self._changed:
            waiting = sum(job.left for job in self._jobs)
            if waiting and waiting + items > self._capacity:
                cost = sum(sum(job.costs[job.taken :]) for job in self._jobs)
                seconds = math.ceil(cost / self._speed) if self._speed else 1
                raise QueueFullError(min(max(seconds, 1), _LONGEST_WAIT))

    def submit(self, kind: Kind, items: Sequence[Any], costs: Sequence[int]) -> Future[list[Any]]:
        """The results of all items, in order, when they are computed; cancelling it gives up those that wait.

        An error of `kind` is that of the request alone whose items cause it. Raises QueueFullError.
        """
        job = _Job(kind, items, costs)
        with self._changed:  # reentrant
            self.check_room(len(items))
            self._jobs.append(job)
            self._changed.notify()
        job.future.add_done_callback(lambda _: self._drop(job))
        return job.future

    def close(self) -> None:
        """End the thread after the batch that it computes; what still waits is given up."""
        with self._changed:
            self._closing = True
            given_up = list(self._jobs)
            self._changed.notify()
        for job in given_up:
            job.future.cancel()
        self._thread.join()

    def _drop(self, job: _Job) -> None:
        with self._changed, contextlib.suppress(ValueError):
            self._jobs.remove(job)

    def _work(self) -> None:
        while parts := self._next():
            started = time.monotonic()
            self._compute(parts)
            seconds = max(time.monotonic() - started, 1e-6)
            speed = sum(sum(part.job.costs[part.first : part.last]) for part in parts) / seconds
            with self._changed:
                self._speed += (speed - self._speed) * (_NEWEST if self._speed else 1)

    def _next(self) -> list[_Part]:
        """The next batch, all of the kind that has waited longest; empty when the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closing)
            if self._closing:
                return []
            kind = self._jobs[0].kind
            turns = deque(job for job in self._jobs if job.kind == kind)
            share, left = max(1, self._budget // len(turns)), self._budget
            before = {job: job.taken for job in turns}
            while turns and left > 0:
                job = turns.popleft()
                left -= job.take(min(share, left))
                if job.left:
                    turns.append(job)
            parts = [_Part(job, first, job.taken) for job, first in before.items() if job.taken > first]
            for part in parts:  # those that are not done yet go to the end
                self._jobs.remove(part.job)
                if part.job.left:
                    self._jobs.append(part.job)
            return parts

    def _compute(self, parts: list[_Part]) -> None:
        found: Sequence[Any] | Exception
        try:
            found = parts[0].job.kind([item for part in parts for item in part.items])
        except Exception as error:
            if len(parts) > 1:
                for part in parts:
                    self._compute([part])
                return
            found = error
        if isinstance(found, Exception):
            parts[0].job.finish(found)
            return
        start = 0
        for part in parts:
            end = start + part.last - part.first
            part.job.finish(found[start:end])
            start = end
