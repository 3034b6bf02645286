"""Rows per second of `albert embed --engine ray` on this machine, with one actor and with two, one thread each.

    python -m bench.ray_actors --model MODEL --in texts.txt

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
from pathlib import Path

import psutil
import ray

from albert_cli.embedding import ray_engine
from albert_cli.embedding.embedder import Plan
from albert_cli.embedding.engine import Job
from albert_cli.embedding.parquet import Layout
from albert_cli.registry.resolve import resolve
from albert_cli.tables.sources import Source


def rates(job: Job, actors: int) -> tuple[float, float]:
    """Rows per second, and per second of the actors' processor time, between the first commits and the last."""
    commits: list[tuple[float, float, int]] = []

    def note(rows: int, _: int) -> None:
        if rows:
            commits.append((time.monotonic(), processor_time(), rows))

    ray_engine.run(job, ray_engine.Cluster(actors=actors), note)
    begun, used, _ = commits[actors - 1]
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
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--in", dest="source", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block-rows", type=int, default=16)
    arguments = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    plan = Plan.of(resolve(arguments.model), device="cpu", threads=1)
    sides: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
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
