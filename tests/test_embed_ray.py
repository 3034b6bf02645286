"""The Ray engine on a real cluster on this machine: the rows, vectors and messages of a local run."""

import logging
import random
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest

from albert_cli.embedding import engine, output, parts
from albert_cli.embedding.embedder import Plan
from albert_cli.embedding.engine import Job
from albert_cli.embedding.output import Layout
from albert_cli.embedding.settings import Settings
from albert_cli.embedding.sources import Columns, Source
from albert_cli.errors import EmbeddingError
from albert_cli.models import resolve
from converters.errors import CheckpointError

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and files open at its end.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def cluster():
    """One cluster for all tests, as its start takes longest."""
    from albert_cli.embedding.ray_engine import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield Cluster(actors=2)
        ray.shutdown()


@pytest.fixture
def texts(tmp_path):
    rng = random.Random(5)
    lines = [f'{n},"{"".join(rng.choices("abc xyz", k=rng.randrange(40)))}"' for n in range(230)]
    (tmp_path / "texts.csv").write_text("\n".join(["key,text", *lines]) + "\n")
    return tmp_path / "texts.csv"


def job(texts, model, target, *, settings=None, **options):
    plan = Plan.of(resolve(model), settings, device="cpu", threads=1)
    source = Source(str(texts), Columns(id="key"))
    return Job(source, target, plan, Layout(keep_text=True), block_rows=20, **options)


def run(*arguments, **options):
    from albert_cli.embedding import ray_engine

    return ray_engine.run(*arguments, **options)


def test_rows_and_vectors_are_those_of_a_local_run(cluster, texts, letter_model, tmp_path):
    local, there = tmp_path / "local.parquet", tmp_path / "ray.parquet"
    engine.run(job(texts, letter_model, local))
    done = []
    report = run(job(texts, letter_model, there), cluster, lambda rows, _: done.append(rows))
    assert (report.rows, report.rows_resumed, sum(done)) == (230, 0, 230)
    a, b = pq.read_table(local), pq.read_table(there)
    assert a.drop_columns("embedding").equals(b.drop_columns("embedding"))
    x, y = (np.asarray(table["embedding"].combine_chunks().flatten()) for table in (a, b))
    assert np.abs(x - y).max() < 1e-5
    assert output.read_metadata(local) == output.read_metadata(there)
    assert not parts.directory_of(there).exists()


def test_it_goes_on_with_what_a_local_run_began(cluster, texts, letter_model, tmp_path):
    class Killed(Exception):
        pass

    def stop(rows, _, done=[0]):  # noqa: B006
        done[0] += rows
        if done[0] > 100:
            raise Killed

    target = tmp_path / "out.parquet"
    with pytest.raises(Killed):
        engine.run(job(texts, letter_model, target), stop)
    held = len(list(parts.directory_of(target).glob("part-*")))
    assert held > 1
    report = run(job(texts, letter_model, target, resume=True), cluster)
    assert (report.rows, report.rows_resumed) == (230, held * 20)
    engine.run(job(texts, letter_model, tmp_path / "local.parquet"))
    assert pq.read_table(target)["id"].equals(pq.read_table(tmp_path / "local.parquet")["id"])
    assert run(job(texts, letter_model, target, resume=True), cluster).rows_resumed == 230


def test_what_goes_wrong_on_the_cluster_is_said_as_here(cluster, texts, letter_model, tmp_path):
    target = tmp_path / "out.parquet"
    settings = Settings(max_length=20, on_truncate="error")
    with pytest.raises(
        EmbeddingError, match=r"texts\.csv: line \d+: the text is \d+ tokens longer than --max-length 20"
    ):
        run(job(texts, letter_model, target, settings=settings), cluster)
    texts.write_bytes(texts.read_bytes() + b"230,b\xe4d\n")
    with pytest.raises(CheckpointError, match=r"texts\.csv: line 232 is not UTF-8"):
        run(job(texts, letter_model, target, force=True), cluster)
    assert not target.exists()


def test_what_does_not_fit_the_cluster_is_said(cluster, texts, letter_model, tmp_path):
    from albert_cli.embedding.ray_engine import Cluster

    wanted = "3 actors of 1 CPUs do not fit a cluster of 2 CPUs and 0 GPUs; change --num-actors, --threads or "
    with pytest.raises(EmbeddingError, match=wanted):
        run(job(texts, letter_model, tmp_path / "out.parquet"), Cluster(actors=3))
    with pytest.raises(EmbeddingError, match="2 actors of 1 CPUs and 1 GPUs do not fit"):
        run(job(texts, letter_model, tmp_path / "out.parquet", force=True), Cluster(actors=2, gpus_per_actor=1))
    stdin = Job(Source("-"), tmp_path / "o.parquet", job(texts, letter_model, tmp_path / "o").plan, Layout())
    with pytest.raises(EmbeddingError, match="--engine ray reads the input on the cluster; name a file"):
        run(stdin, cluster)
