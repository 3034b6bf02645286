"""Chunks of rows on several threads of the CPU, each computed by one thread from end to end.

Threads inside a matrix product wait for each other after every operation, and what stands between two products is
often done by one of them. Chunks share nothing but the weights.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


def in_order(compute: Callable[[Chunk], Result], chunks: Iterable[Chunk], threads: int) -> Iterator[Result]:
    """The result of each chunk, in order; as many are computed at once as there are threads.

    PyTorch computes on one thread inside `compute`, and on as many as before in the calling thread.
    """
    before = torch.get_num_threads()
    chunks = iter(chunks)
    with ThreadPoolExecutor(threads, "encoder", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            while True:
                # One more than there are threads, so that none waits while the caller looks at a result.
                for chunk in islice(chunks, threads + 1 - len(waiting)):
                    waiting.append(pool.submit(compute, chunk))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(before)  # also what PyTorch gives to threads that are new
