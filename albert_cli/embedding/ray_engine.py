"""The same run on a Ray cluster: one task reads, actors embed and commit the parts, this process writes the file.

Blocks of rows are those of a local run, so either engine can resume the other's run. Model, input and target
must be on storage that every node reaches by the same path. Only the public interface of Ray Data is used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from albert_cli.embedding import engine, parquet, resume
from albert_cli.embedding.embedder import Embedder, Plan
from albert_cli.embedding.engine import Block, Job, Progress, Report
from albert_cli.embedding.parquet import Layout
from albert_cli.errors import EmbeddingError
from albert_cli.tables.lines import STANDARD_INPUT
from converters.errors import AlbertError
from converters.libraries import require_library


@dataclass(frozen=True)
class Cluster:
    """`address` of a running cluster, None for one on this machine; `actors`: as many as fit by default."""

    address: str | None = None
    actors: int | None = None
    gpus_per_actor: float = 0


class Worker:
    """An actor: it loads the model once, then embeds one block at a time and commits it.

    Faults of the model or the texts travel as text, for Ray does not carry exceptions whole.
    """

    def __init__(self, here: Path, plan: Plan, layout: Layout, directory: Path, weights_sha256: str) -> None:
        os.chdir(here)  # where relative paths begin
        self._layout, self._directory, self._fault = layout, directory, ""
        if plan.weights_sha256 == weights_sha256:
            self._embedder = Embedder(plan)
        else:
            self._fault = (
                f"{plan.model.path} on {os.uname().nodename}: not the model that the run was started with (weights "
                f"SHA-256 {plan.weights_sha256[:12]}…, wanted {weights_sha256[:12]}…)"
            )

    def __call__(self, batch: pa.Table) -> pa.Table:
        (item,) = batch.to_pylist()
        if item["block"] is None or self._fault:
            return _message(**item | {"block": None, "fault": item["fault"] or self._fault})
        with pa.ipc.open_stream(item.pop("block")) as reader:
            block = Block(item["number"], reader.read_next_batch(), item["digest"])
        try:
            tokens = engine.tokenize(self._embedder, block.rows)
            made = engine.embed(self._embedder, self._layout, block, tokens)
            resume.commit(self._directory, block.number, made, block.digest)
        except AlbertError as error:
            item["fault"] = str(error)
        return _message(**item)


def run(job: Job, cluster: Cluster | None = None, progress: Progress | None = None) -> Report:
    """As `engine.run`, on a cluster. What goes wrong on it is raised here as EmbeddingError."""
    require_library("ray", "--engine ray")
    if STANDARD_INPUT in job.source.files:
        raise EmbeddingError("--engine ray reads the input on the cluster; name a file instead of standard input")
    started, cluster = time.monotonic(), cluster or Cluster()
    with engine.open_work(job) as work:
        if not work.complete:
            with _connected(cluster):
                _embed(job, work, cluster, progress)
        return engine.finished(job, work, started)


def _embed(job: Job, work: engine.Work, cluster: Cluster, progress: Progress | None) -> None:
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    # A row is a block of texts, and must not wait for others: each becomes a task of its own.
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    actors, cpus = _pool(cluster, job.plan)
    here = Path.cwd()  # Ray's processes have the directory in which their node was started

    def read(_: pa.Table) -> Iterator[pa.Table]:
        """The blocks that are to be done, and at the end a row with their total number."""
        os.chdir(here)
        try:
            for block in engine.blocks(job, work):
                yield _message(
                    number=block.number,
                    digest=block.digest,
                    rows=block.rows.num_rows,
                    end=block.end,
                    block=parquet.serialized(block.rows),
                )
        except AlbertError as error:
            yield _message(fault=str(error))
        else:
            yield _message(number=work.total, rows=work.resumed)

    # The reading task takes no processor of its own, so that actors may take all there are.
    blocks = ray.data.from_items([{"input": job.source.path}], override_num_blocks=1).map_batches(
        read, batch_size=1, batch_format="pyarrow", num_cpus=0
    )
    done = blocks.map_batches(
        Worker,
        fn_constructor_args=(here, job.plan, job.layout, work.directory, job.plan.weights_sha256),
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=actors),
        num_cpus=cpus,
        num_gpus=cluster.gpus_per_actor or None,
    )
    position = 0
    try:
        for batch in done.iter_batches(batch_size=1, batch_format="pyarrow"):
            (item,) = batch.to_pylist()
            if item["fault"]:
                raise EmbeddingError(item["fault"])
            if item["digest"] is None:
                work.total, work.resumed = item["number"], item["rows"]
            position = max(position, item["end"])  # blocks are done in any order
            if progress:
                progress(item["rows"], position)
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise EmbeddingError(f"the Ray cluster failed: {lines[-1] if lines else type(error).__name__}") from error


def _message(
    *,
    number: int = 0,
    rows: int = 0,
    digest: str | None = None,
    end: int = 0,
    block: bytes | None = None,
    fault: str = "",
) -> pa.Table:
    """What travels: a block; or that it is done; or what is wrong; or, without a digest, how many blocks there are in
    all and how many rows were done before."""
    return pa.table(
        {
            "number": pa.array([number], pa.int64()),
            "rows": pa.array([rows], pa.int64()),
            "digest": pa.array([digest], pa.string()),
            "end": pa.array([end], pa.int64()),
            "block": pa.array([block], pa.large_binary()),
            "fault": pa.array([fault], pa.string()),
        }
    )


def _pool(cluster: Cluster, plan: Plan) -> tuple[int, int]:
    """How many actors, and the processors of each."""
    import ray

    there = ray.cluster_resources()
    cpus = plan.threads or 1
    fitting = int(there.get("CPU", 0)) // cpus
    if cluster.gpus_per_actor:
        fitting = min(fitting, int(there.get("GPU", 0) / cluster.gpus_per_actor))
    wanted = cluster.actors or fitting
    if not fitting or wanted > fitting:
        gpus = f" and {cluster.gpus_per_actor:g} GPUs" if cluster.gpus_per_actor else ""
        raise EmbeddingError(
            f"{wanted or 1} actors of {cpus} CPUs{gpus} do not fit a cluster of {there.get('CPU', 0):g} CPUs and "
            f"{there.get('GPU', 0):g} GPUs; change --num-actors, --threads or --gpus-per-actor"
        )
    return wanted, cpus


@contextlib.contextmanager
def _connected(cluster: Cluster) -> Iterator[None]:
    """A connection to the cluster, one that is there already or one for this run."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    _start(ray, cluster)
    try:
        yield
    finally:
        ray.shutdown()


def _start(ray: Any, cluster: Cluster) -> None:
    """`ray.init`; EmbeddingError where there is no cluster, or where none can be started here."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if cluster.address is None:
        options |= {"address": "local", "include_dashboard": False}
    else:
        options["address"] = cluster.address
        _check_answers(cluster.address)
    for attempt in (1, 2):
        try:
            ray.init(**options)
        except Exception as error:  # a start that takes too long is raised as no more than that
            reason = " ".join(str(error).split()) or type(error).__name__
            if cluster.address is not None:
                raise _no_cluster(cluster.address, reason) from error
            # Ray gives a process of its own 15 s to start, too little while its libraries are first read from a slow
            # disk: https://github.com/ray-project/ray/issues/65983
            if attempt == 1 and "timed out" in reason:
                continue
            raise EmbeddingError(
                f"no Ray cluster could be started on this machine ({reason}); try again when it is less busy, use "
                "--engine local, or name a cluster with --address"
            ) from error
        return


def _check_answers(address: str) -> None:
    """EmbeddingError where nothing listens at HOST:PORT: Ray would retry for a quarter of an hour."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()) or "/" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=20).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from error


def _no_cluster(address: str, reason: str) -> EmbeddingError:
    return EmbeddingError(
        f"--address {address}: no Ray cluster answers there ({reason}); start one with `ray start --head`, or leave "
        "--address out; one that wants a token needs RAY_AUTH_MODE=token here"
    )
