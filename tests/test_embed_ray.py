"""The Ray engine on a real cluster on this machine: the rows, vectors and messages of a local run."""

import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from albert_cli.embedding import engine, parquet, resume
from albert_cli.embedding.embedder import Plan
from albert_cli.embedding.engine import Job
from albert_cli.embedding.parquet import Layout
from albert_cli.embedding.settings import Settings
from albert_cli.errors import EmbeddingError
from albert_cli.main import app
from albert_cli.registry.resolve import resolve
from albert_cli.tables.columns import Columns
from albert_cli.tables.sources import Source
from converters.errors import AlbertError

# Before Ray is imported, since it looks only then: nobody else on the network may use the cluster of the tests.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
# Ray leaves sockets and files open at its end.
pytestmark = pytest.mark.filterwarnings("ignore")

# A busy machine is slow, not broken.
PATIENT = {
    "RAY_gcs_server_port_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_failure_threshold": "100",
    "RAY_USAGE_STATS_ENABLED": "0",
}
PORTS = ["port", "dashboard-agent-grpc-port", "dashboard-agent-listen-port", "metrics-export-port"]
PORTS += ["runtime-env-agent-port", "ray-client-server-port"]


@pytest.fixture(scope="module")
def address():
    """A cluster of two processors, for all tests as its start takes longest, begun as the documentation says.

    The ports are given: Ray waits 15 s and no longer for those that its own processes choose.
    """
    sockets = [socket.create_server(("", 0)) for _ in PORTS]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    # Not in the folder of the test, whose path would be too long for a socket.
    folder = tempfile.mkdtemp(prefix="ray-")
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += ["--include-dashboard=false", "--object-store-memory=100000000", f"--temp-dir={folder}"]
    command += ["--min-worker-port=0", "--max-worker-port=0"]
    command += [f"--{name}={port}" for name, port in zip(PORTS, ports, strict=True)]
    environment = os.environ | PATIENT
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                break
        else:
            pytest.fail("".join(said))
        yield f"127.0.0.1:{ports[0]}"
        # Its own end takes half a minute, and nothing of it is needed any more.
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(address):
    from albert_cli.embedding.ray_engine import Cluster

    return Cluster(address, actors=2)


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


def same(a, b):
    """Whether two files hold the same rows, their vectors alike but for rounding."""
    a, b = pq.read_table(a), pq.read_table(b)
    x, y = (np.asarray(table["embedding"].combine_chunks().flatten()) for table in (a, b))
    return a.drop_columns("embedding").equals(b.drop_columns("embedding")) and np.abs(x - y).max() < 1e-5


def test_the_command_gives_on_a_cluster_what_it_gives_here(address, texts, letter_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not the directory that Ray was started in
    command = ["embed", "--in", texts, "--model", letter_model, "--id-column", "key", "--threads", "1", "--json"]
    there = ["--engine", "ray", "--address", address, "--num-actors", "1"]
    reports = []
    for name, options in (("local", []), ("ray", there)):
        arguments = [*command, "--out", f"{name}.parquet", *options]
        done = CliRunner().invoke(app, [str(item) for item in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        reports.append(json.loads(done.stdout) | {"out": "", "seconds": 0})
    assert reports[0] == reports[1]
    assert reports[0]["rows"] == 230
    assert same(tmp_path / "local.parquet", tmp_path / "ray.parquet")
    assert parquet.read_metadata(tmp_path / "local.parquet") == parquet.read_metadata(tmp_path / "ray.parquet")


@pytest.mark.slow
def test_rows_and_vectors_are_those_of_a_local_run(cluster, texts, letter_model, tmp_path):
    local, there = tmp_path / "local.parquet", tmp_path / "ray.parquet"
    engine.run(job(texts, letter_model, local))
    done = []
    report = run(job(texts, letter_model, there), cluster, lambda rows, _: done.append(rows))
    assert (report.rows, report.rows_resumed, sum(done)) == (230, 0, 230)
    assert same(local, there)
    assert parquet.read_metadata(local) == parquet.read_metadata(there)
    assert not resume.directory_of(there).exists()


@pytest.mark.slow
def test_it_continues_with_what_a_local_run_began(cluster, texts, letter_model, tmp_path):
    class Killed(Exception):
        pass

    def stop(rows, _, done=[0]):  # noqa: B006
        done[0] += rows
        if done[0] > 100:
            raise Killed

    target = tmp_path / "out.parquet"
    with pytest.raises(Killed):
        engine.run(job(texts, letter_model, target), stop)
    held = len(list(resume.directory_of(target).glob("part-*")))
    assert held > 1
    report = run(job(texts, letter_model, target, resume=True), cluster)
    assert (report.rows, report.rows_resumed) == (230, held * 20)
    engine.run(job(texts, letter_model, tmp_path / "local.parquet"))
    assert pq.read_table(target)["id"].equals(pq.read_table(tmp_path / "local.parquet")["id"])
    assert run(job(texts, letter_model, target, resume=True), cluster).rows_resumed == 230


@pytest.mark.slow
def test_what_goes_wrong_on_the_cluster_is_reported_as_here(cluster, texts, letter_model, tmp_path):
    target = tmp_path / "out.parquet"
    settings = Settings(max_length=20, on_truncate="error")
    with pytest.raises(
        EmbeddingError, match=r"texts\.csv: line \d+: the text is \d+ tokens longer than --max-length 20"
    ):
        run(job(texts, letter_model, target, settings=settings), cluster)
    texts.write_bytes(texts.read_bytes() + b"230,b\xe4d\n")
    with pytest.raises(AlbertError, match=r"texts\.csv: line 232 is not UTF-8"):
        run(job(texts, letter_model, target, force=True), cluster)
    assert not target.exists()


@pytest.mark.slow
def test_what_does_not_fit_the_cluster_is_reported(cluster, texts, letter_model, tmp_path):
    from albert_cli.embedding.ray_engine import Cluster

    wanted = "3 actors of 1 CPUs do not fit a cluster of 2 CPUs and 0 GPUs; change --num-actors, --threads or "
    with pytest.raises(EmbeddingError, match=wanted):
        run(job(texts, letter_model, tmp_path / "out.parquet"), Cluster(cluster.address, actors=3))
    with pytest.raises(EmbeddingError, match="2 actors of 1 CPUs and 1 GPUs do not fit"):
        run(
            job(texts, letter_model, tmp_path / "out.parquet", force=True),
            Cluster(cluster.address, actors=2, gpus_per_actor=1),
        )
    stdin = Job(Source("-"), tmp_path / "o.parquet", job(texts, letter_model, tmp_path / "o").plan, Layout())
    with pytest.raises(EmbeddingError, match="--engine ray reads the input on the cluster; name a file"):
        run(stdin, cluster)


def test_a_cluster_that_is_not_there_is_reported_at_once(texts, letter_model, tmp_path):
    from albert_cli.embedding.ray_engine import Cluster

    for address, reason in (("127.0.0.1:1", "Connection refused"), ("[::1]:1", ""), ("no-such-host.invalid:1", "")):
        with pytest.raises(EmbeddingError) as error:
            run(job(texts, letter_model, tmp_path / "out.parquet"), Cluster(address))
        assert str(error.value).startswith(f"--address {address}: no Ray cluster answers there (")
        assert reason in str(error.value)
        assert str(error.value).endswith(
            "); start one with `ray start --head`, or leave --address out; one that wants a token needs "
            "RAY_AUTH_MODE=token here"
        )
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow
def test_without_an_address_a_cluster_is_started_for_the_run(texts, letter_model, tmp_path):
    from albert_cli.embedding.ray_engine import Cluster

    engine.run(job(texts, letter_model, tmp_path / "local.parquet"))
    assert run(job(texts, letter_model, tmp_path / "ray.parquet"), Cluster(actors=1)).rows == 230
    assert same(tmp_path / "local.parquet", tmp_path / "ray.parquet")
    assert not ray.is_initialized()
