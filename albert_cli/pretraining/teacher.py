"""Sentence vectors of a bigger model, for a small one to learn: computed once, kept on disk, taken in random batches.

The teacher is a Hugging Face encoder whose mean-pooled last hidden states are the vectors (a sentence-transformers
directory of that kind), needed while training only.
"""

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
from torch.nn import functional as F

from albert_cli.batching import batch_count, by_length, random_batches
from albert_cli.errors import TrainingError
from albert_cli.pretraining.corpus import Corpus
from albert_cli.pretraining.objective import sentence_vectors
from albert_cli.runs.events import Counter, Report, silent
from albert_cli.tables.lines import read_lines
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.config import parse_json
from converters.files import read_optional
from converters.libraries import require_library
from converters.sentence_files import pooling_of
from converters.staging import atomic_write

if TYPE_CHECKING:
    from albert_cli.model.pretraining_heads import PreTrainingModel

# Pieces of a sentence that is taught: shorter ones say nothing, longer ones cost much.
SHORTEST, LONGEST = 3, 48
_PART = 4096  # sentences whose vectors are computed and kept at once
_BATCH_TOKENS = 2048
_AT_ONCE = 64  # sentences of the learner's
# The principal axes of the vectors are those of so many of them, and turned by so many.
_FOR_AXES = 20_000
_FOR_TURN = 5_000
# The spread of trained word embeddings (Google's initial one is 0.02), and what is left of positions and types.
_WORD_SPREAD = 0.05
_COMMON_SHARE = 0.1


class Teacher:
    """A Hugging Face encoder with mean pooling. Raises TrainingError for a directory that holds none."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        require_library("transformers", "--teacher")
        import transformers

        pooling = parse_json(read_optional(directory / "1_Pooling" / "config.json") or b"{}", str(directory))
        if not isinstance(pooling, dict) or pooling_of(pooling) != "mean":
            raise TrainingError(f"{directory}: its vectors are not means of the hidden states (1_Pooling/config.json)")
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
            self.model = transformers.AutoModel.from_pretrained(directory, local_files_only=True).eval().to(device)
        except (OSError, ValueError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise TrainingError(f"{directory}: no Hugging Face encoder to learn from ({reason})") from None
        self.device = device

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str], *, special_tokens: bool = True) -> NDArray[np.float32]:
        """Vectors of length 1, (texts, dimensions)."""
        encoded = self.tokenizer(
            list(texts), truncation=True, max_length=256, add_special_tokens=special_tokens, verbose=False
        )["input_ids"]
        found = np.zeros((len(texts), self.model.config.hidden_size), np.float32)
        for rows in by_length(np.array([len(row) for row in encoded], np.int64), _BATCH_TOKENS):
            padded = self.tokenizer.pad({"input_ids": [encoded[row] for row in rows]}, return_tensors="pt")
            batch = {name: tensor.to(self.device) for name, tensor in padded.items()}
            if batch["input_ids"].shape[1]:
                states = self.model(**batch).last_hidden_state.float()
                mask = batch["attention_mask"][..., None].float()
                means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
                found[rows] = F.normalize(means, dim=-1).cpu().numpy()
        return found


@dataclass(frozen=True)
class Lessons:
    """Sentences (row i: `ids[starts[i]:starts[i + 1]]`, special tokens included) and their vectors (rows, H).

    Before they are projected the vectors have the teacher's dimensions.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    vectors: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def batches(self, size: int, *, seed: int, skip: int = 0) -> Iterator[NDArray[np.int64]]:
        """Rows of like length, `size` at a time, pass after pass without end; the first `skip` batches are left out."""
        lengths = np.diff(self.starts)
        turn, skip = divmod(skip, batch_count(len(self), size))
        while True:
            random = np.random.default_rng((seed, turn, 2))
            yield from random_batches(random, len(self), size, lengths=lengths)[skip:]
            turn, skip = turn + 1, 0

    def inputs(self, rows: NDArray[np.int64], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`input_ids` and `attention_mask`, (rows, tokens)."""
        lengths = np.diff(self.starts)[rows]
        mask = np.arange(int(lengths.max())) < lengths[:, None]
        ids = np.full(mask.shape, pad_id, np.int64)
        ids[mask] = self.ids[(self.starts[rows][:, None] + np.arange(mask.shape[1]))[mask]]
        return ids, mask.astype(np.int64)


def choose(
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
    keys = np.log(np.random.default_rng((seed, 3)).random(len(sentences))) / chances
    chosen: NDArray[np.int64] = np.sort(sentences[np.argsort(keys)[len(keys) - min(count, len(keys)) :]])
    return chosen


def prepare(
    teacher: Teacher,
    corpus: Corpus,
    sentences: NDArray[np.int64],
    texts: Path | None,
    tokenizer: Tokenizer,
    hidden_size: int,
    directory: Path,
    *,
    learner: PreTrainingModel | None = None,
    report: Report = silent,
) -> tuple[Lessons, NDArray[np.float32]]:
    """The lessons, and the axes (dimensions, H) that turn the teacher's vectors into H numbers.

    Vectors are kept in `directory` part by part, so that a killed run goes on; a part is named by a hash of the teacher
    and its sentences. With fewer than the teacher's dimensions the vectors are projected on their principal axes, which
    keeps most of every cosine. Only cosines matter, so the axes are then turned towards the vectors of `learner`, a
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
    for start in range(0, len(written), _PART):
        part = written[start : start + _PART]
        name = hashlib.sha256("\n".join([digest, *part]).encode()).hexdigest()[:24]
        names.append(name)
        parts.append(_kept(directory / f"{name}.npy", partial(_halves, teacher, part)))
        counter(len(part))
    whole = np.concatenate(parts)
    framed = TokenBatch.of_rows([tokenizer.template.frame(row)[0] for row in rows])
    lessons = Lessons(framed.ids.astype(np.int64), framed.starts, whole)
    made_of = [str(hidden_size), *names, *([_digest(learner)] if learner is not None else [])]
    made = hashlib.sha256(" ".join(made_of).encode()).hexdigest()[:24]
    axes = _kept(directory / f"axes-{made}.npy", lambda: _axes(lessons, hidden_size, learner, tokenizer.pad_id))
    vectors = np.concatenate([unit(part.astype(np.float32) @ axes).astype(np.float16) for part in parts])
    return replace(lessons, vectors=vectors), axes


def _kept(path: Path, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The array in the file, which is made where there is none."""
    if not path.exists():
        made = make()
        with atomic_write(path, force=True, ours=None) as beside, open(beside, "wb") as file:
            np.save(file, made, allow_pickle=False)
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    return array


def _halves(teacher: Teacher, texts: Sequence[str]) -> NDArray[np.float16]:
    return teacher.vectors(texts).astype(np.float16)


def _axes(lessons: Lessons, size: int, learner: PreTrainingModel | None, pad_id: int) -> NDArray[np.float32]:
    """The principal axes (dimensions, size) of the teacher's vectors, turned towards the learner's."""
    rows = np.arange(0, len(lessons), max(1, len(lessons) // _FOR_AXES))
    axes = principal_axes(lessons.vectors[rows].astype(np.float32), size)
    if learner is None:
        return axes
    rows = rows[:: max(1, len(rows) // _FOR_TURN)]
    projected = unit(lessons.vectors[rows].astype(np.float32) @ axes)
    return axes @ turn(projected, _vectors(learner, lessons, rows, pad_id))


def _digest(model: nn.Module) -> str:
    """SHA-256 of the weights."""
    sha = hashlib.sha256()
    for tensor in model.state_dict().values():
        sha.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def turn(vectors: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rotation (H, H) that leads `vectors` (rows, H) as near to `wanted` (rows, H) as any does (Procrustes)."""
    from scipy.linalg import orthogonal_procrustes

    rotation: NDArray[np.float32] = orthogonal_procrustes(vectors, wanted)[0].astype(np.float32)
    return rotation


@torch.inference_mode()
def _vectors(model: PreTrainingModel, lessons: Lessons, rows: NDArray[np.int64], pad_id: int) -> NDArray[np.float32]:
    """The model's own vectors of some of the lessons, (rows, H)."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    found = []
    for start in range(0, len(rows), _AT_ONCE):
        ids, mask = (
            torch.from_numpy(part).to(device) for part in lessons.inputs(rows[start : start + _AT_ONCE], pad_id)
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
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-12)
    return result


def counts(corpus: Corpus, documents: NDArray[np.int64], pieces: int) -> NDArray[np.float64]:
    """How often each piece occurs in the documents."""
    total = np.zeros(pieces)
    for document in documents.tolist():
        first, last = corpus.documents[document : document + 2]
        total += np.bincount(corpus.ids[corpus.sentences[first] : corpus.sentences[last]], minlength=pieces)
    return total


@torch.no_grad()
def start_static(model: PreTrainingModel, teacher: Teacher, tokenizer: Tokenizer, axes: Any, frequencies: Any) -> None:
    """Begin with the teacher's vectors of single pieces as word embeddings, so that a mean of them is a fair start.

    Their frequency-weighted mean is subtracted; the projection E -> H leads from their principal axes to the teacher's.
    Positions and types, which all sentences have in common, begin small beside them.
    """
    pieces = [tokenizer.segmenter.piece(number).replace("▁", " ").strip() for number in range(len(tokenizer))]
    vectors = teacher.vectors(pieces) @ axes  # (V, H)
    shares = frequencies / max(1.0, float(frequencies.sum()))
    vectors -= (shares[:, None] * vectors).sum(0)
    size = model.config.embedding_size
    embedding_axes = principal_axes(vectors.astype(np.float32), size)  # (H, E)
    words = vectors @ embedding_axes  # (V, E)
    words *= _WORD_SPREAD / max(float(np.sqrt(np.mean(words**2))), 1e-12)
    embeddings = model.encoder.embeddings
    embeddings.words.weight[: len(words)] = torch.from_numpy(words.astype(np.float32))
    embeddings.positions.weight *= _COMMON_SHARE
    embeddings.types.weight *= _COMMON_SHARE
    assert model.encoder.projection is not None
    model.encoder.projection.weight.copy_(torch.from_numpy(embedding_axes))
