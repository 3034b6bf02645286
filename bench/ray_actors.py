"""Rows per second of `albert embed --engine ray` on this machine, with one actor and with two, one thread each.

    python -m bench.ray_actors --model MODEL --in texts.txt
    python -m bench.ray_actors --in texts.txt --no-encoder --actors 1 2 4 --block-rows 1024   # all but the encoder

Without the encoder vectors are random numbers of the model's width, so what is left is reading, the queue of blocks,
tokenizing, and writing Parquet: how many actors one cluster can feed.

The sides take turns; the time runs from the first block that is committed to the last, so that the start of the
cluster and the loading of the model, which a long run does not notice, are left out. Where others use the machine,
the rate per second of the actors' processor time tells what the clock cannot: whether a second actor costs the first.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from numpy.typing import NDArray

from albert_cli.embedding import ray_engine
from albert_cli.embedding.embedder import Plan, Tokens
from albert_cli.embedding.engine import Job
from albert_cli.embedding.parquet import Layout
from albert_cli.registry.builtin import built_in
from albert_cli.registry.resolve import resolve
from albert_cli.tables.sources import Source

WIDTH = 768  # numbers of a vector that is not computed


class NoEncoder(ray_engine.Worker):
    """An actor that does all but compute the vectors."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._embedder.vectors = _random  # type: ignore[method-assign]


def _random(tokens: Tokens, progress: Callable[[int], None] | None = None) -> list[NDArray[np.float32]]:
    return [np.random.default_rng().random((len(tokens.firsts) - 1, WIDTH), np.float32)]


def rates(job: Job, actors: int) -> tuple[float, float]:
    """Rows per second, and per second of the actors' processor time, between the first commits and the last."""
    commits: list[tuple[float, float, int]] = []

    def note(rows: int, _: int) -> None:
        if rows:
            commits.append((time.monotonic(), processor_time(), rows))

    ray_engine.run(job, ray_engine.Cluster(actors=actors), note)
    begun, used, _ = commits[actors - 1]  # each has its first block behind it
    rows = sum(rows for _, _, rows in commits[actors:])
    return rows / (commits[-1][0] - begun), rows / (commits[-1][1] - used)


def processor_time() -> float:
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "MapWorker" in " ".join(process.cmdline()):
                times = process.cpu_times()
                total += times.user + times.system
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(built_in()))
    parser.add_argument("--in", dest="source", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block-rows", type=int, default=16)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-encoder", action="store_true")
    arguments = parser.parse_args()
    if arguments.no_encoder:
        ray_engine.Worker = NoEncoder  # type: ignore[misc]
    ray.init(num_cpus=max(arguments.actors), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    plan = Plan.of(resolve(arguments.model), device="cpu", threads=1)
    sides: dict[int, list[tuple[float, float]]] = {actors: [] for actors in arguments.actors}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for actors, found in sides.items():
                target = Path(folder) / f"{number}-{actors}.parquet"
                job = Job(Source(arguments.source), target, plan, Layout(), block_rows=arguments.block_rows)
                found.append(rates(job, actors))
    print("actors  rows/s  per processor second  rows/s of each round")
    for actors, found in sides.items():
        by_clock, by_work = (statistics.median(values) for values in zip(*found, strict=True))
        each = " ".join(f"{value:.1f}" for value, _ in found)
        print(f"{actors:6}  {by_clock:6.1f}  {by_work:20.1f}  {each}")


if __name__ == "__main__":
    main()
