"""Cosines between vectors, and the nearest of them; vectors come from texts or from files of `albert embed`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from albert_cli.declared import Within, facts_of_texts, faults_of_facts
from albert_cli.embedding import parquet
from albert_cli.embedding.nearest import Nearest
from albert_cli.embedding.resume import facts_of
from albert_cli.embedding.settings import NO_PROMPT, OutDtype, Precision, Settings, pooling_named
from albert_cli.embedding.units import Tick
from albert_cli.errors import EmbeddingError, Notice
from converters.files import file_errors, open_regular
from converters.messages import brief

if TYPE_CHECKING:
    from albert_cli.embedding.embedder import Embedder
    from albert_cli.tables.conditions import Conditions

# Vectors of a file that are compared at once.
_CHUNK = 8192
# No model has vectors of more.
_MOST_NUMBERS = 2**20
_M = TypeVar("_M")


class Neighbour(NamedTuple):
    """One of the nearest: its row (from 0) and label, the cosine, and its id where its file has ids of its own."""

    row: int
    label: str
    cosine: float
    id: str | None = None


@dataclass(frozen=True)
class Vectors:
    """Labelled vectors, (rows, dims) float32, in memory.

    `ids`: those that the file has of its own, None elsewhere. `numbered`: the labels are but numbers of rows, from 0.
    """

    labels: list[str]
    values: NDArray[np.float32]
    ids: list[str] | None = None
    numbered: bool = False

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """All rows, with their numbers."""
        yield np.arange(len(self)), self.values

    def names(self, numbers: NDArray[np.int64]) -> tuple[list[str], list[str] | None]:
        """The labels of some rows, and their ids if there are any."""
        rows = numbers.tolist()
        return [self.labels[row] for row in rows], [self.ids[row] for row in rows] if self.ids else None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class _Stored:
    """What the metadata of a file says of how its vectors are stored; another program's file says nothing."""

    dtype: OutDtype = "float32"
    dims: Annotated[int, Within(1, _MOST_NUMBERS)] | None = None


@dataclass(frozen=True)
class _Made:
    """What the metadata of a file says of how its vectors were made."""

    weights_sha256: str
    pooling: str
    layers: tuple[Annotated[int, Within(0)], ...]
    normalize: Literal["true", "false", "before"]
    dims: Annotated[int, Within(1, _MOST_NUMBERS)]
    max_length: Annotated[int, Within(1)]
    on_truncate: Literal["cut", "window"]
    lower_case: bool | None = None
    prompt: str = NO_PROMPT
    precision: Precision = "auto"


class VectorFile:
    """The vectors of a Parquet file, read in chunks: `column`, or the only column of vectors there is.

    The labels are the texts where the file has them, else the ids. `numbered`: it has neither, but for numbers of rows.
    Raises EmbeddingError for a file without vectors.
    """

    def __init__(self, path: Path, column: str | None = None) -> None:
        self.path = path
        with file_errors(path):
            open_regular(path).close()  # a pipe would be waited for
            try:
                self._file = parquet.opened(path)
            except pa.ArrowInvalid as error:
                raise EmbeddingError(f"{path}: not a Parquet file, or a damaged one ({error})") from None
        self.schema = schema = parquet.computable(self._file.schema_arrow)
        self.facts = parquet.read_metadata(path)
        found = [field.name for field in schema if parquet.is_vector(field) and not _is_scale(field.name, schema.names)]
        if column is None and len(found) > 1:
            raise EmbeddingError(f"{path}: has vectors in {', '.join(found)}; --embedding-column names one")
        if not found or (column and column not in found):
            wanted = f"no column of vectors {column!r}" if column else "no column of vectors"
            raise EmbeddingError(f"{path}: has {wanted}; its columns are {', '.join(schema.names)}")
        self.column = column or found[0]
        self._label = next((name for name in ("text", "id") if name in schema.names), None)
        own = self.facts.get("id_column", "null") != "null" or ("id" in schema.names and not self.facts)
        self._ids = "id" if own and "id" in schema.names else None
        self.has_texts = "text" in schema.names
        self.has_ids = self._ids is not None
        self.numbered = not (self.has_texts or self.has_ids)
        name = self.facts.get("embedding_column", self.column)
        own_column = self.column == name or self.column.startswith(f"{name}_")
        stored = self._told(_Stored) if own_column else _Stored()  # a column that was kept is another's
        self._dtype: OutDtype = stored.dtype
        size: int = getattr(schema.field(self.column).type, "list_size", 0)
        self.dims = stored.dims or size
        if own_column:
            self._check_type(schema.field(self.column).type)

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def note_of_names(self) -> str:
        """What rows are called where the file holds no texts; else empty."""
        called = "id" if self.has_ids else "number"
        note = f"{self.path}: holds no texts, so rows go by {called}; albert embed --keep-text copies them"
        return "" if self.has_texts else note

    @property
    def names_model(self) -> bool:
        """Whether the file says which model made its vectors."""
        return "weights_sha256" in self.facts

    def settings(self) -> Settings:
        """How the vectors were made; EmbeddingError where the file does not say."""
        if not self.names_model:
            raise EmbeddingError(f"{self.path}: does not say how its vectors were made; compare it with another file")
        made = self._told(_Made)
        try:
            pooling = pooling_named(made.pooling, tokens=False)
        except EmbeddingError as error:
            raise EmbeddingError(f"{self.path}: its metadata is damaged: {error}; embed it again") from None
        layers = made.layers
        if len(layers) != 1:
            number = self.column.rpartition("_")[2]
            layers = (int(number),) if number.isascii() and number.isdigit() and len(number) < 9 else ()
        if not set(layers) & set(made.layers):
            raise EmbeddingError(
                f"{self.path}: its metadata is damaged: layers is {brief(list(made.layers))}, of which none is that of "
                f"the column {self.column!r}; embed it again"
            )
        return Settings(
            pooling=pooling,
            layers=layers,
            normalize="before" if made.normalize == "before" else made.normalize == "true",
            dims=made.dims,
            max_length=made.max_length,
            on_truncate="window" if made.on_truncate == "window" else "warn",
            lowercase=made.lower_case,
            prompt=made.prompt,
        )

    def precision(self, device: str) -> Precision:
        """The precision the vectors were made in, or where this device does not compute in it, its own."""
        from albert_cli.model.kernels import has_bfloat16

        made = self._told(_Made).precision
        if (made == "int8") > (device == "cpu") or (made == "bf16" and device == "cpu" and not has_bfloat16()):
            return "auto"
        return made

    def _told(self, declared: type[_M]) -> _M:
        """What the file's metadata says, in a dataclass; EmbeddingError where it says something else."""
        names = declared.__dataclass_fields__  # type: ignore[attr-defined]
        found = facts_of_texts({key: value for key, value in self.facts.items() if key in names}, declared)
        if faults := faults_of_facts(found, declared):
            raise EmbeddingError(f"{self.path}: its metadata is damaged: {'; '.join(faults)}; embed it again")
        return declared(**{key: tuple(value) if isinstance(value, list) else value for key, value in found.items()})

    def _check_type(self, kind: pa.DataType) -> None:
        """EmbeddingError where the column does not hold what the metadata calls its numbers."""
        size = getattr(kind, "list_size", None)
        width = parquet.stored_width(self.dims, self._dtype)
        said = None
        if "dtype" in self.facts and (self._dtype in ("int8", "binary")) != pa.types.is_int8(kind.value_type):
            said = f"dtype is {self._dtype!r}, but {self.column!r} holds {kind.value_type}"
        elif "dims" in self.facts and size not in (None, width):
            said = f"dims is {self.dims}, but {self.column!r} holds {size} numbers of {self._dtype}"
        if said:
            raise EmbeddingError(f"{self.path}: its metadata is damaged: {said}; embed it again")

    def width(self) -> int:
        """How many numbers a vector has; 0 where there is no row."""
        if not self.dims and len(self):
            with self._damage():
                first = next(self._file.iter_batches(batch_size=1, columns=[self.column]))[self.column][0]
            self.dims = len(first) if first.is_valid else 0
        return self.dims

    def blocks(self, where: Conditions | None = None) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The rows, or those that meet conditions, some thousands at a time: numbers from 0, and vectors."""
        start, dims = 0, self.width()
        columns = list(dict.fromkeys([self.column, *(where.columns if where else ())]))
        for batch in self._batches(columns):
            with self._damage():
                values = parquet.restored(batch[self.column], self._dtype, dims, first=start + 1)
                numbers = np.arange(start, start + len(values))
                if where:
                    chosen = where.mask(batch)
                    numbers, values = numbers[chosen], values[chosen]
            start += batch.num_rows
            if len(values):
                yield numbers, values

    def _batches(self, columns: list[str], **which: Any) -> Iterator[pa.RecordBatch]:
        with self._damage():
            for batch in self._file.iter_batches(batch_size=_CHUNK, columns=columns, **which):
                kinds = parquet.computable(batch.schema)
                yield batch if kinds == batch.schema else batch.cast(kinds)

    def rows(self, numbers: NDArray[np.int64], columns: list[str]) -> dict[str, list[Any]]:
        """Some columns of the rows with these numbers, which ascend."""
        found: dict[str, list[Any]] = {name: [] for name in columns}
        start, metadata = 0, self._file.metadata
        for group in range(metadata.num_row_groups if columns else 0):
            end = start + metadata.row_group(group).num_rows
            low, high = np.searchsorted(numbers, [start, end])
            for batch in self._batches(columns, row_groups=[group]) if low < high else ():
                low, high = np.searchsorted(numbers, [start, start + batch.num_rows])
                with self._damage():
                    chosen = batch.take(pa.array(numbers[low:high] - start))
                    for name in columns:
                        found[name] += chosen[name].to_pylist()
                start += batch.num_rows
            start = end
        return found

    def names(self, numbers: NDArray[np.int64]) -> tuple[list[str], list[str] | None]:
        """The labels of the rows with these numbers, which ascend, and their ids if the file has any."""
        found = self.rows(numbers, list(dict.fromkeys(name for name in (self._label, self._ids) if name)))
        names = found[self._label] if self._label else numbers.tolist()
        labels = ["" if name is None else str(name) for name in names]
        return labels, [str(name) for name in found[self._ids]] if self._ids else None

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        """An EmbeddingError of this file for rows that cannot be read."""
        try:
            yield
        except EmbeddingError as error:
            raise EmbeddingError(f"{self.path}: {error}") from None
        except (UnicodeDecodeError, OSError, pa.ArrowException) as error:
            raise EmbeddingError(f"{self.path}: its rows cannot be read: {str(error).splitlines()[0]}") from None

    def all(self) -> Vectors:
        """All rows at once."""
        values = [values for _, values in self.blocks()]
        if not values:
            raise EmbeddingError(f"{self.path}: has no rows")
        labels, ids = self.names(np.arange(len(self)))
        return Vectors(labels, np.concatenate(values), ids, self.numbered)


def _is_scale(name: str, names: list[str]) -> bool:
    """Whether a column holds the scales of another one, which is int8."""
    return name.endswith("_scale") and name.removesuffix("_scale") in names


def embedded(
    texts: list[str], model: str | None, settings: Settings, *, tick: Tick | None = None, **how: Any
) -> Vectors:
    """The vectors of texts, and a Notice of what was taken from the model's files.

    `how`: device, threads, precision and batch_tokens, as `Embedder.from_pretrained` takes them. Raises
    ConfigError for a model whose vectors are compared otherwise than by their cosine.
    """
    from albert_cli.embedding.embedder import Embedder

    embedder = Embedder.from_pretrained(model, settings, **how)
    checkpoint = embedder.plan.checkpoint
    if checkpoint.sentence:
        checkpoint.sentence.check_similarity(checkpoint.where)
    if taken := embedder.plan.taken():
        warnings.warn(taken, Notice, stacklevel=2)
    return Vectors(texts, vectors_of(embedder, texts, tick))


def vectors_of(embedder: Embedder, texts: list[str], tick: Tick | None = None) -> NDArray[np.float32]:
    """The vectors (texts, dims), and a Notice of what was cut off, or an EmbeddingError if that is to be refused."""
    tokens = embedder.tokenize(texts)
    embedder.check_whole(tokens, lambda row: f"text {row + 1}")
    if cut := int((tokens.truncated > 0).sum()):
        warnings.warn(
            f"{cut} of {len(texts)} texts are longer than {embedder.settings.max_length} tokens: "
            f"{int(tokens.truncated.sum()):,} tokens were left out; albert embed --on-truncate window takes them whole",
            Notice,
            stacklevel=3,
        )
    return embedder.vectors(tokens, tick and (lambda done: tick(done, len(texts))))[0]


def embedded_like(
    file: VectorFile,
    texts: list[str],
    model: str | None = None,
    *,
    prompt: str | None = None,
    tick: Tick | None = None,
    **how: Any,
) -> Vectors:
    """The vectors of texts by the model and settings that a file's metadata name.

    `model` is where that model is now, if it moved; `prompt`: another one than the file's, as for queries; `how` as for
    `embedded`, but that by default the precision is the file's. Raises EmbeddingError where it is another model, or its
    Sentence-Transformers files say something else than they did.
    """
    from albert_cli.embedding.embedder import Embedder
    from albert_cli.machine import find_device

    settings = file.settings()
    settings = replace(settings, prompt=prompt or settings.prompt)
    if how.get("precision", "auto") == "auto":
        how["precision"] = file.precision(find_device(how.get("device", "auto")))
    embedder = Embedder.from_pretrained(model or file.facts.get("model"), settings, **how)
    found, wanted = embedder.plan.weights_sha256, file.facts["weights_sha256"]
    if found != wanted:
        raise EmbeddingError(
            f"{file.path}: its vectors are not of this model (weights SHA-256 {wanted[:12]}…, here {found[:12]}…); "
            "pass --model with the one it was made with"
        )
    now = facts_of(embedder.plan.facts())
    of_files = ["modules", "modules_sha256", *([] if prompt else ["prompt_text", "prompt_tokens_not_pooled"])]
    if changed := [name for name in of_files if name in file.facts and file.facts[name] != now[name]]:
        name = changed[0]
        raise EmbeddingError(
            f"{file.path}: the model's Sentence-Transformers files are not those it was made with "
            f"({name.replace('_', ' ')} was {brief(file.facts[name])}, is {brief(now[name])}); embed it again"
        )
    return Vectors(texts, vectors_of(embedder, texts, tick))


def nearest(queries: Vectors, among: Vectors | VectorFile, top: int, *, same: bool = False) -> list[list[Neighbour]]:
    """For each query the `top` rows with the largest cosine, the largest first; of equals the earlier row.

    `same`: both are the same rows, and none is its own neighbour. Memory does not grow with `among`.
    """
    best = Nearest(queries.values, top)
    for numbers, values in among.blocks():
        best.add(numbers, values, same=same)
    found = np.unique(np.concatenate(best.rows)) if best.rows else np.empty(0, np.int64)
    labels, ids = among.names(found)
    places = {row: place for place, row in enumerate(found.tolist())}
    return [
        [
            Neighbour(row, labels[places[row]], cosine, ids[places[row]] if ids else None)
            for row, cosine in zip(rows.tolist(), values.tolist(), strict=True)
        ]
        for rows, values in zip(best.rows, best.cosines, strict=True)
    ]
