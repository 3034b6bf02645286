"""The nearest of a million vectors: `albert search` beside numpy and faiss, on one core in fp32.

    python bench/search.py [--rows 1000000] [--dims 384] [--queries 1,16,256] [--top 10] [--rounds 5]

Seconds of the processor, medians over the rounds, in which the sides take turns. In memory: all vectors are there, as
float32, and a side gives the `top` rows with the largest cosine. numpy is one product of all scaled vectors and a
partition of each row of it; faiss-cpu, if it is installed, its exact index (IndexFlatIP) over scaled vectors. Ours
takes them as they come and scales on the way, for a file is read once. From a file: the Parquet that `albert embed`
writes (bytes of a float apart, zstd), read, compared and the texts of the rows found looked up; beside it pyarrow
reading the vectors alone.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from albert_cli.embedding import parquet
from albert_cli.embedding.nearest import Nearest, unit
from albert_cli.embedding.search import search
from albert_cli.embedding.similarity import VectorFile, Vectors

_CHUNK = 8192
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--queries", default="1,16,256")
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not os.environ.items() >= _ONE_THREAD.items():  # libraries look once, where they are loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | _ONE_THREAD)
    pa.set_cpu_count(1)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((options.rows, options.dims), dtype=np.float32)
    scaled = unit(vectors)
    counts = [int(count) for count in options.queries.split(",")]
    asked = [vectors[:count] + 0.5 * rng.standard_normal((count, options.dims), dtype=np.float32) for count in counts]
    print(f"{options.rows:,} vectors of {options.dims}, the {options.top} nearest, {options.rounds} rounds\n")
    print("| side | " + " | ".join(f"{count} queries, s" for count in counts) + " |")
    print("|---|" + "---:|" * len(counts))
    report(in_memory(vectors, scaled, options.top), asked, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.parquet"
        write(path, vectors)
        print(f"\nFrom a file of {path.stat().st_size / 2**20:,.0f} MiB:\n")
        print("| side | " + " | ".join(f"{count} queries, s" for count in counts) + " |")
        print("|---|" + "---:|" * len(counts))
        del vectors, scaled
        report(from_file(path, options.top), asked, options.rounds)


Side = Callable[[Any], list[list[int]] | None]


def report(sides: dict[str, Side], asked: list[Any], rounds: int) -> None:
    """A line for each side; the rows that sides find must be the same."""
    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds):
        names = list(sides)
        for place, queries in enumerate(asked):
            found = {}
            for name in names[number % len(names) :] + names[: number % len(names)]:
                start = time.process_time()
                found[name] = sides[name](queries)
                seconds.setdefault((name, place), []).append(time.process_time() - start)
            answers = [rows for rows in found.values() if rows is not None]
            different = sum(one != two for rows in answers[1:] for one, two in zip(answers[0], rows, strict=True))
            # Cosines that are equal but for rounding change places.
            assert different <= len(queries) // 50, f"{different} of {len(queries)} answers differ"
    for name in sides:
        cells = [f"{statistics.median(seconds[name, place]):.2f}" for place in range(len(asked))]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def in_memory(vectors: Any, scaled: Any, top: int) -> dict[str, Side]:
    def ours(queries: Any) -> list[list[int]]:
        best = Nearest(queries, top)
        for start in range(0, len(vectors), _CHUNK):
            block = vectors[start : start + _CHUNK]
            best.add(np.arange(start, start + len(block)), block)
        return [rows.tolist() for rows in best.rows]

    def with_numpy(queries: Any) -> list[list[int]]:
        table = unit(queries) @ scaled.T
        found = np.argpartition(-table, top, axis=1)[:, :top]
        order = np.argsort(-np.take_along_axis(table, found, 1), axis=1)
        return np.take_along_axis(found, order, 1).tolist()  # type: ignore[no-any-return]

    sides: dict[str, Side] = {"albert": ours, "numpy, one product of scaled vectors": with_numpy}
    try:
        import faiss
    except ImportError:
        print("(faiss-cpu is not installed: pip install faiss-cpu)")
        return sides
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(scaled)
    sides[f"faiss {faiss.__version__}, IndexFlatIP of scaled vectors"] = lambda queries: index.search(
        unit(queries), top
    )[1].tolist()
    return sides


def from_file(path: Path, top: int) -> dict[str, Side]:
    def ours(queries: Any) -> list[list[int]]:
        hits = search(VectorFile(path), Vectors([""] * len(queries), queries), top)
        return [[hit.row for hit in row] for row in hits]

    def read(queries: Any) -> None:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_CHUNK, columns=["embedding"]):
            batch["embedding"].flatten().to_numpy()

    return {"albert search, without the model": ours, "pyarrow, reading the vectors alone": read}


def write(path: Path, vectors: Any) -> None:
    """As `albert embed --keep-text` writes it."""

    def batches() -> Any:
        for start in range(0, len(vectors), _CHUNK):
            block = vectors[start : start + _CHUNK]
            texts = pa.array([f"text number {start + row} of the file" for row in range(len(block))])
            rows = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), block.shape[1])
            yield pa.record_batch({"text": texts, "embedding": rows})

    first = next(batches())
    parquet.write_parquet(first.schema, batches(), path, {})


if __name__ == "__main__":
    main()
