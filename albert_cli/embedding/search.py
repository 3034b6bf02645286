"""Search: the rows of a file whose vectors are nearest to those of queries, exactly, in memory that does not grow."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from albert_cli.embedding import parquet
from albert_cli.embedding.nearest import Nearest
from albert_cli.embedding.settings import Settings
from albert_cli.embedding.similarity import VectorFile, Vectors, embedded, embedded_like
from albert_cli.embedding.units import Tick
from albert_cli.errors import EmbeddingError, Notice, TextError
from albert_cli.tables.conditions import Conditions
from albert_cli.tables.sources import Source

# A row's own facts, which have a place of their own, or are none of the user's.
_OWN = ("id", "text", *parquet.OF_VECTORS)
# What no column of a user's table is called.
_VECTORS = "__vectors"


@dataclass(frozen=True)
class Hit:
    """A row that was found: its number from 0, the cosine, and of what the file has its id, text and other columns."""

    row: int
    cosine: float
    id: Any = None
    text: str | None = None
    columns: dict[str, Any] | None = None


def holds_vectors(path: Path) -> bool:
    """Whether a path is a Parquet file with a column of vectors; TextError for bare vectors, which name no model."""
    if path.suffix.lower() == ".npy":
        raise TextError(f"{path}: vectors without their model; albert embed --out FILE.parquet names it")
    if path.suffix.lower() not in (".parquet", ".pq") or not path.is_file():
        return False
    try:
        schema = parquet.opened(path).schema_arrow
    except (pa.ArrowException, OSError):
        return True  # what is wrong with it is said where it is opened
    return any(map(parquet.is_vector, schema))


def columns_of(file: VectorFile, wanted: Sequence[str] | None = None) -> list[str]:
    """The columns that are shown of a row: those wanted, else all that hold one value, vectors' own facts left out.

    EmbeddingError for one that the file lacks.
    """
    names = file.schema.names
    if missing := [name for name in wanted or () if name not in names]:
        raise EmbeddingError(f"{file.path}: has no column {missing[0]!r}; its columns are {', '.join(names)}")
    if wanted is not None:
        return list(dict.fromkeys(wanted))
    plain = [field.name for field in file.schema if not pa.types.is_nested(field.type) and names.count(field.name) == 1]
    own = _OWN if file.facts else ("id", "text")
    return [name for name in plain if name not in own and not name.endswith("_scale")]


def search(
    file: VectorFile, queries: Vectors, top: int, *, where: Conditions | None = None, columns: Sequence[str] = ()
) -> list[list[Hit]]:
    """For each query the `top` rows with the largest cosine among those that meet all conditions, the largest first.

    `columns`: of the file, given with each row. Raises EmbeddingError where the file's vectors cannot be read or
    compared.
    """
    nearest = Nearest(queries.values, top)
    for numbers, vectors in file.blocks(where):
        nearest.add(numbers, vectors)
    found = np.unique(np.concatenate(nearest.rows)) if nearest.rows else np.empty(0, np.int64)
    names = [*(["id"] if file.has_ids else []), *(["text"] if file.has_texts else [])]
    cells = file.rows(found, list(dict.fromkeys([*names, *columns])))
    places = {row: place for place, row in enumerate(found.tolist())}

    def hit(row: int, cosine: float) -> Hit:
        own = {name: cells[name][places[row]] for name in names}
        return Hit(row, cosine, **own, columns={name: cells[name][places[row]] for name in columns} or None)

    return [
        [hit(row, cosine) for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True)]
        for rows, cosines in zip(nearest.rows, nearest.cosines, strict=True)
    ]


def queries_for(
    file: VectorFile, texts: list[str], model: str | None, settings: Settings, *, tick: Tick | None = None, **how: Any
) -> Vectors:
    """The vectors of queries, made as those of the file were; of another program's file by `model` and `settings`.

    EmbeddingError where the file names no model and none is given, or its vectors have another size.
    """
    if file.names_model:
        return embedded_like(file, texts, model, prompt=settings.prompt, tick=tick, **how)
    if model is None:
        raise EmbeddingError(f"{file.path}: does not say which model made its vectors; --model names it")
    queries, width = embedded(texts, model, settings, tick=tick, **how), file.width()
    if queries.values.shape[1] != width and len(file):
        raise EmbeddingError(
            f"{file.path}: its vectors have {width} numbers, those of {model} {queries.values.shape[1]}; name the "
            "model that made them (--model), and --dims where they were cut"
        )
    return queries


@contextlib.contextmanager
def embedded_texts(
    source: Source, model: str | None, settings: Settings, progress: Callable[[int, int], None] | None, **how: Any
) -> Iterator[VectorFile]:
    """A temporary file of the vectors of texts, as `albert embed` makes it, with the texts and kept columns.

    `how`: as for `Embedder.from_pretrained`. Raises ConfigError for a model whose vectors are compared otherwise than
    by their cosine.
    """
    from albert_cli.embedding.embedder import Plan
    from albert_cli.embedding.engine import Job, run
    from albert_cli.machine import find_device
    from albert_cli.registry.resolve import resolve
    from converters.scratch import temporary_directory

    plan = Plan.of(resolve(model), replace(settings, prompt=None), **how | {"device": find_device(how["device"])})
    if plan.checkpoint.sentence:
        plan.checkpoint.sentence.check_similarity(plan.checkpoint.where)
    if taken := plan.taken():
        warnings.warn(taken, Notice, stacklevel=3)
    with temporary_directory("albert-search-") as directory:
        target = directory / "vectors.parquet"
        report = run(Job(source, target, plan, parquet.Layout(_VECTORS, keep_text=True)), progress)
        if report.rows_truncated:
            warnings.warn(
                f"{report.rows_truncated:,} of {report.rows:,} texts are longer than {plan.settings.max_length} "
                f"tokens: {report.tokens_truncated:,} tokens were left out",
                Notice,
                stacklevel=3,
            )
        yield VectorFile(target, _VECTORS)
