"""Rows per second of `albert embed --engine ray` on this machine, with one actor and with two, one thread each.

    python -m bench.ray_actors --model MODEL --in texts.txt

The sides take turns; the time runs from the first block that is committed to the last, so that the start of the
cluster and the loading of the model, which a long run does not notice, are left out.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

import ray

from albert_cli.embedding import ray_engine
from albert_cli.embedding.embedder import Plan
from albert_cli.embedding.engine import Job
from albert_cli.embedding.output import Layout
from albert_cli.embedding.sources import Source
from albert_cli.models import resolve


def rate(job: Job, actors: int) -> float:
    """Rows per second between the first commit and the last."""
    commits: list[tuple[float, int]] = []
    ray_engine.run(job, ray_engine.Cluster(actors=actors), lambda rows, _: commits.append((time.monotonic(), rows)))
    done = [(moment, rows) for moment, rows in commits if rows]
    return sum(rows for _, rows in done[actors:]) / (done[-1][0] - done[actors - 1][0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--in", dest="source", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block-rows", type=int, default=16)
    arguments = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    plan = Plan.of(resolve(arguments.model), device="cpu", threads=1)
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for actors, found in rates.items():
                target = Path(folder) / f"{number}-{actors}.parquet"
                job = Job(Source(arguments.source), target, plan, Layout(), block_rows=arguments.block_rows)
                found.append(rate(job, actors))
    one = statistics.median(rates[1])
    print("actors  rows/s (median)  each round              times one actor")
    for actors, found in rates.items():
        each = " ".join(f"{value:6.1f}" for value in found)
        print(f"{actors:6}  {statistics.median(found):15.1f}  {each:22}  {statistics.median(found) / one:15.2f}")


if __name__ == "__main__":
    main()
