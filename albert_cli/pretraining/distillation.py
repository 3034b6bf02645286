"""The sentences whose vectors a model learns of a teacher: chosen, computed once, kept on disk, in random batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from albert_cli.batching import batch_count, random_batches
from albert_cli.declared import read_facts
from albert_cli.pretraining.corpus import Corpus
from albert_cli.pretraining.objective import sentence_vectors
from albert_cli.pretraining.random_streams import Stream, generator
from albert_cli.pretraining.teacher import Teacher
from albert_cli.runs.events import Counter, Report, silent
from albert_cli.tables.lines import read_lines
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.config import dump_json
from converters.errors import CorruptError
from converters.files import file_errors, open_regular, sha256_of
from converters.staging import atomic_write

if TYPE_CHECKING:
    from albert_cli.model.pretraining_heads import PreTrainingModel

# Pieces of a sentence: shorter ones say nothing, longer ones cost much.
SHORTEST, LONGEST = 3, 48
PART = 4096  # sentences whose vectors are computed and kept at once
_AT_ONCE = 64  # sentences that the student reads at once
# The principal axes are those of this many vectors, and are rotated by this many.
_FOR_AXES = 20_000
_FOR_ROTATION = 5_000


@dataclass(frozen=True)
class DistillationSet:
    """Sentences (row i: `ids[starts[i]:starts[i + 1]]`, special tokens included) and their vectors (rows, H).

    Before they are projected the vectors have the teacher's dimensions.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    vectors: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def digest(self) -> str:
        """SHA-256 of vectors and sentences."""
        return hashlib.sha256(self.vectors.tobytes() + self.ids.tobytes()).hexdigest()

    def batches(self, size: int, *, seed: int, skip: int = 0) -> Iterator[NDArray[np.int64]]:
        """Rows of like length, `size` at a time, pass after pass without end; the first `skip` batches are left out."""
        lengths = np.diff(self.starts)
        epoch, skip = divmod(skip, batch_count(len(self), size))
        while True:
            random = generator(Stream.DISTILLATION, seed, epoch)
            yield from random_batches(random, len(self), size, lengths=lengths)[skip:]
            epoch, skip = epoch + 1, 0

    def inputs(self, rows: NDArray[np.int64], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`input_ids` and `attention_mask`, (rows, tokens)."""
        lengths = np.diff(self.starts)[rows]
        mask = np.arange(int(lengths.max())) < lengths[:, None]
        ids = np.full(mask.shape, pad_id, np.int64)
        ids[mask] = self.ids[(self.starts[rows][:, None] + np.arange(mask.shape[1]))[mask]]
        return ids, mask.astype(np.int64)


@dataclass(frozen=True)
class _Stamp:
    """What a file of vectors held when it was written."""

    sha256: str


def choose_sentences(
    corpus: Corpus,
    documents: NDArray[np.int64],
    weights: NDArray[np.float64],
    count: int,
    *,
    seed: int,
) -> NDArray[np.int64]:
    """Numbers of up to `count` sentences of usual length, drawn without repetition by their source's weight."""
    first, last = corpus.documents[documents], corpus.documents[documents + 1]
    sentences = np.concatenate([np.arange(low, high) for low, high in zip(first, last, strict=True)])
    chances = np.repeat(weights[corpus.sources[documents]], last - first)
    lengths = corpus.sentences[sentences + 1] - corpus.sentences[sentences]
    usual = (lengths >= SHORTEST) & (lengths <= LONGEST) & (chances > 0)
    sentences, chances = sentences[usual], chances[usual]
    # Efraimidis and Spirakis: the largest u ** (1 / weight) are a weighted sample.
    keys = np.log(generator(Stream.CHOICE, seed).random(len(sentences))) / chances
    chosen: NDArray[np.int64] = np.sort(sentences[np.argsort(keys)[len(keys) - min(count, len(keys)) :]])
    return chosen


def prepare_distillation(
    teacher: Teacher,
    corpus: Corpus,
    sentences: NDArray[np.int64],
    texts: Path | None,
    tokenizer: Tokenizer,
    hidden_size: int,
    directory: Path,
    *,
    student: PreTrainingModel | None = None,
    resuming: bool = False,
    report: Report = silent,
) -> tuple[DistillationSet, NDArray[np.float32]]:
    """The distillation set, and the axes (dimensions, H) that turn the teacher's vectors into H numbers.

    Vectors are kept in `directory` part by part, so that a killed run resumes; a part is named by a hash of the teacher
    and its sentences. With fewer than the teacher's dimensions the vectors are projected on their principal axes, which
    keeps most of every cosine. Only cosines matter, so the axes are then rotated towards the vectors of `student`, a
    model that knows something already. They are kept too, named by a hash of all they were made of: rounding that
    differs from run to run must not change what a resumed run learns.
    """
    rows = [corpus.ids[corpus.sentences[n] : corpus.sentences[n + 1]].astype(np.int64).tolist() for n in sentences]
    written = [tokenizer.decode(row) for row in rows]
    if texts is not None:
        further = [line.strip() for line in read_lines(texts) if line.strip()]
        written += further
        rows += [row[:LONGEST] for row in tokenizer.ids(further)]
    directory.mkdir(parents=True, exist_ok=True)
    digest = _digest(teacher.model)
    parts, names = [], []
    counter = Counter(report, "teacher vectors", "sentences", len(written))
    for start in range(0, len(written), PART):
        part = written[start : start + PART]
        name = hashlib.sha256("\n".join([digest, *part]).encode()).hexdigest()[:24]
        names.append(name)
        parts.append(_kept(directory, name, partial(_halves, teacher, part), resuming=resuming))
        counter(len(part))
    whole = np.concatenate(parts)
    framed = TokenBatch.of_rows([tokenizer.template.frame(row)[0] for row in rows])
    distilled = DistillationSet(framed.ids.astype(np.int64), framed.starts, whole)
    made_of = [str(hidden_size), *names, *([_digest(student)] if student is not None else [])]
    made = hashlib.sha256(" ".join(made_of).encode()).hexdigest()[:24]
    make_axes = partial(_axes, distilled, hidden_size, student, tokenizer.pad_id)
    axes = _kept(directory, f"axes-{made}", make_axes, resuming=resuming)
    vectors = np.concatenate([unit(part.astype(np.float32) @ axes).astype(np.float16) for part in parts])
    return replace(distilled, vectors=vectors), axes


def _kept(directory: Path, name: str, make: Callable[[], NDArray[Any]], *, resuming: bool) -> NDArray[Any]:
    """The array in the file of that name, which is made where there is none, and of which NAME.json has the SHA-256.

    Where the file is another than was written, a run that is `resuming` gets a CorruptError: made again, the numbers
    could differ by rounding.
    """
    path, stamp = directory / f"{name}.npy", directory / f"{name}.json"
    if path.exists() and stamp.exists():
        try:
            return _loaded(directory, path, stamp)
        except CorruptError:
            if resuming:
                raise
    made = make()
    with atomic_write(path, force=True, ours=None) as beside:
        with open(beside, "wb") as file:
            np.save(file, made, allow_pickle=False)
        content = beside.read_bytes()
    with atomic_write(stamp, force=True, ours=None) as beside:
        beside.write_bytes(dump_json({"sha256": hashlib.sha256(content).hexdigest()}))
    return _loaded(directory, path, stamp)


def _loaded(directory: Path, path: Path, stamp: Path) -> NDArray[Any]:
    advice = f"remove {directory}, and the vectors are computed again"
    with file_errors(path), open_regular(path) as file:
        if sha256_of(file) != read_facts(stamp, _Stamp, advice)["sha256"]:
            raise CorruptError(f"{path}: its SHA-256 is not that in {stamp.name}; {advice}")
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    return array


def _halves(teacher: Teacher, texts: Sequence[str]) -> NDArray[np.float16]:
    return teacher.vectors(texts).astype(np.float16)


def _axes(distilled: DistillationSet, size: int, student: PreTrainingModel | None, pad_id: int) -> NDArray[np.float32]:
    """The principal axes (dimensions, size) of the teacher's vectors, rotated towards the student's."""
    rows = np.arange(0, len(distilled), max(1, len(distilled) // _FOR_AXES))
    axes = principal_axes(distilled.vectors[rows].astype(np.float32), size)
    if student is None:
        return axes
    rows = rows[:: max(1, len(rows) // _FOR_ROTATION)]
    projected = unit(distilled.vectors[rows].astype(np.float32) @ axes)
    return axes @ rotation_towards(projected, _vectors(student, distilled, rows, pad_id))


def _digest(model: nn.Module) -> str:
    """SHA-256 of the weights."""
    sha = hashlib.sha256()
    for tensor in model.state_dict().values():
        sha.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def rotation_towards(vectors: NDArray[np.float32], targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rotation (H, H) that leads `vectors` (rows, H) as near to `targets` (rows, H) as any does (Procrustes)."""
    left, _, right = np.linalg.svd(vectors.T @ targets)
    rotation: NDArray[np.float32] = (left @ right).astype(np.float32)
    return rotation


@torch.inference_mode()
def _vectors(
    model: PreTrainingModel, distilled: DistillationSet, rows: NDArray[np.int64], pad_id: int
) -> NDArray[np.float32]:
    """The model's own vectors of some of its sentences, (rows, H)."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    found = []
    for start in range(0, len(rows), _AT_ONCE):
        ids, mask = (
            torch.from_numpy(part).to(device) for part in distilled.inputs(rows[start : start + _AT_ONCE], pad_id)
        )
        found.append(sentence_vectors(model, ids, mask).cpu().numpy())
    model.train(training)
    return np.concatenate(found)


def principal_axes(vectors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The `size` axes (dimensions, size) that keep most of the vectors' lengths; 0 beyond the dimensions."""
    values, axes = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
    axes = axes[:, np.argsort(values)[::-1]][:, :size]
    return np.pad(axes, ((0, 0), (0, size - axes.shape[1]))).astype(np.float32)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors scaled to length 1; a zero stays one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return result
