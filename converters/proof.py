"""Proof: SHA-256 of every tensor while it is written and again when read back; and the comparison of two models."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from converters.buffer_pool import reused
from converters.checkpoint import Array, Checkpoint, Tensor, blocks, same_bits, scan
from converters.dialects import to_hf
from converters.errors import CheckpointError
from converters.messages import listing

_COMPARED = 2**19  # elements at a time, for their gaps take several arrays of float64

# Called once for every tensor read, with the stage, its bytes, and the bytes of the whole stage.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Difference:
    """One thing in which two models differ; `kind` is differs, dtype, shape, missing (in the second) or extra."""

    name: str
    kind: str
    detail: str
    max_abs: float | None = None


@dataclass(frozen=True)
class Survey:
    """What one pass over the tensors gives: SHA-256 of each and, of those that hold any, the numbers of values that
    are NaN and that are infinite."""

    digests: dict[str, str] = field(default_factory=dict)
    not_finite: dict[str, tuple[int, int]] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """The values that are not finite: of all tensors, and by tensor."""
        found = dict(sorted(self.not_finite.items()))
        nan, infinite = (sum(counts[place] for counts in found.values()) for place in (0, 1))
        return {"nan": nan, "infinite": infinite, "tensors": {name: sum(counts) for name, counts in found.items()}}


def describe_not_finite(counts: Mapping[str, Any]) -> str:
    """`Survey.counts` in a line; empty where every value is finite."""
    tensors = counts["tensors"]
    if not tensors:
        return ""
    values = counts["nan"] + counts["infinite"]
    return (
        f"{values:,} value{'s' if values > 1 else ''} ({counts['nan']:,} NaN, {counts['infinite']:,} infinite) in "
        f"{len(tensors)} tensor{'s' if len(tensors) > 1 else ''}: {listing(tensors)}"
    )


class Hashing:
    """Digests of tensors, computed beside the work that reads them; `with` waits for the last one."""

    def __init__(self, stage: str, progress: Progress | None = None) -> None:
        self.survey = Survey()
        self._stage, self._progress = stage, progress
        self._total = 0
        self._pool = ThreadPoolExecutor(2)
        self._pending: Future[None] | None = None

    def __enter__(self) -> Hashing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None and self._pending:
            self._pending.result()

    def watch(self, checkpoint: Checkpoint) -> Checkpoint:
        """The same checkpoint, whose tensors are hashed in the background when a writer reads them."""
        self._total = sum(tensor.nbytes for tensor in checkpoint.everything().values())
        return dataclasses.replace(
            checkpoint,
            tensors={name: self._watched(name, tensor) for name, tensor in checkpoint.tensors.items()},
            optimizer={name: self._watched(name, tensor) for name, tensor in checkpoint.optimizer.items()},
        )

    def read_all(self, tensors: Mapping[str, Tensor]) -> Survey:
        """Read and hash every tensor, two at a time."""
        self._total = sum(tensor.nbytes for tensor in tensors.values())
        largest_first = sorted(tensors.items(), key=lambda item: -item[1].nbytes)  # so that both end together
        list(self._pool.map(lambda item: self._hash(item[0], item[1].read()), largest_first))
        return self.survey

    def _watched(self, name: str, tensor: Tensor) -> Tensor:
        def read() -> Array:
            array = tensor.read()
            if self._pending:
                self._pending.result()  # at most one array waits for its hash
            self._pending = self._pool.submit(self._hash, name, array)
            return array

        return Tensor(tensor.shape, tensor.dtype, read)

    def _hash(self, name: str, array: Array) -> None:
        self.survey.digests[name], nan, infinite = scan(array)
        if nan or infinite:
            self.survey.not_finite[name] = nan, infinite
        if self._progress:
            self._progress(self._stage, array.nbytes, self._total)


@reused()
def survey(checkpoint: Checkpoint, progress: Progress | None = None) -> Survey:
    """SHA-256 of every weight tensor's bytes (PyTorch orientation, C order), and its values that are not finite."""
    with Hashing("hash", progress) as hashing:
        return hashing.read_all(checkpoint.tensors)


def tensor_digests(checkpoint: Checkpoint, progress: Progress | None = None) -> dict[str, str]:
    """SHA-256 of every weight tensor's bytes (PyTorch orientation, C order)."""
    return survey(checkpoint, progress).digests


def weights_digest(checkpoint: Checkpoint, digests: Mapping[str, str]) -> str:
    """One SHA-256 for all weights, the same in every format: over each tensor's name, dtype, shape and digest."""
    sha = hashlib.sha256()
    for name, tensor in sorted(checkpoint.tensors.items()):
        sha.update(f"{name} {tensor.dtype.name} {list(tensor.shape)} {digests[name]}\n".encode())
    return sha.hexdigest()


def check_written(
    wanted: Checkpoint, digests: Mapping[str, str], written: Checkpoint, target: str, progress: Progress | None = None
) -> None:
    """Compare what was read back from a target with what was to be written; CheckpointError names every fault."""
    left, right = wanted.everything(), written.everything()
    faults = [f"{name} is missing" for name in left if name not in right]
    faults += [f"{name} is not in the source" for name in right if name not in left]
    faults += [
        f"{name} became {right[name].dtype.name}{list(right[name].shape)}"
        for name, tensor in left.items()
        if name in right and (tensor.shape, tensor.dtype) != (right[name].shape, right[name].dtype)
    ]
    with Hashing("verify", progress) as hashing:
        found = hashing.read_all(right).digests
    faults += [f"{name} differs" for name in left if name in found and found[name] != digests[name]]
    faults += [f"{item.name} differs ({item.detail})" for item in _rest(wanted, written)]
    if faults:
        raise CheckpointError(
            target, f"what was written does not read back equal, so nothing was kept: {listing(faults)}"
        )


@reused()
def diff(a: Checkpoint, b: Checkpoint, progress: Progress | None = None) -> list[Difference]:
    """Everything in which two models differ, tensor by tensor; empty when they are equal bit for bit.

    Of two families no tensors are compared: what one has the other calls by another name, or has not.
    """
    if a.config.family != b.config.family:
        families = f"{a.config.family} against {b.config.family}, so no tensors are compared"
        return [Difference("family", "differs", families), *_rest(a, b)]
    differences = []
    left, right = a.everything(), b.everything()
    total = sum(tensor.nbytes for tensor in left.values())
    for name in dict.fromkeys([*left, *right]):
        if name not in right:
            differences.append(Difference(name, "missing", f"not in {b.where}"))
        elif name not in left:
            differences.append(Difference(name, "extra", f"not in {a.where}"))
        elif left[name].shape != right[name].shape:
            shapes = f"{list(left[name].shape)} against {list(right[name].shape)}"
            differences.append(Difference(name, "shape", shapes))
        else:
            if progress:
                progress("compare", left[name].nbytes, total)
            found = _compare(name, left[name].read(), right[name].read())
            if found:
                differences.append(found)
    return differences + _rest(a, b)


def _compare(name: str, x: Array, y: Array) -> Difference | None:
    """Bit for bit first; where that fails, the largest gap and its place, in blocks of rows."""
    if same_bits(x, y):
        return None
    largest, where, start = 0.0, 0, 0
    nans = [0, 0]
    with np.errstate(invalid="ignore", over="ignore"):
        for p, q in zip(blocks(x, _COMPARED), blocks(y, _COMPARED), strict=True):
            gap = np.abs(p.astype(np.float64) - q.astype(np.float64))
            # Equal infinities and a NaN on both sides are no difference; on one side only, an infinite one.
            both = (p == q) | (np.isnan(p) & np.isnan(q))
            gap = np.where(both, 0.0, np.where(np.isnan(gap), np.inf, gap))
            nans = [nans[0] + int(np.isnan(p).sum()), nans[1] + int(np.isnan(q).sum())]
            at = int(gap.argmax())
            if gap[at] > largest:
                largest, where = float(gap[at]), start + at
            start += p.size
    place = ", ".join(str(int(index)) for index in np.unravel_index(where, x.shape))
    at_place = f"max abs {largest:.3g} at [{place}]" if largest else "same values, other bits (zeros' signs or NaNs)"
    if nans[0] != nans[1]:
        at_place += f", {nans[0]:,} NaN against {nans[1]:,}"
    if x.dtype != y.dtype:
        at_place = f"{x.dtype.name} against {y.dtype.name}, " + (at_place if largest else "same values")
    return Difference(name, "differs" if x.dtype == y.dtype else "dtype", at_place, largest)


def _rest(a: Checkpoint, b: Checkpoint) -> list[Difference]:
    """Differences outside the tensors: config, tokenizer, training step."""
    one, two = to_hf(a.config), to_hf(b.config)
    differences = [
        Difference(f"config {key}", "differs", f"{one.get(key, 'absent')!r} against {two.get(key, 'absent')!r}")
        for key in dict.fromkeys([*one, *two])
        if key not in one or key not in two or one[key] != two[key]
    ]
    s, t = a.tokenizer, b.tokenizer
    for what, x, y in (
        ("tokenizer model", s.model(), t.model()),
        ("tokenizer vocabulary", s.lines(), t.lines()),
        ("tokenizer WordPiece list", s.wordpiece, t.wordpiece),
        ("tokenizer vocab.json", s.vocab_json, t.vocab_json),
        ("tokenizer merges", s.merges, t.merges),
    ):
        if x != y:
            differences.append(Difference(what, "differs", f"{_brief(x)} against {_brief(y)}"))
    if s.settings != t.settings:
        differences.append(Difference("tokenizer settings", "differs", f"{s.settings} against {t.settings}"))
    files, others = (dict(item.sentence.files) if item.sentence else {} for item in (a, b))
    differences += [
        Difference(name, "differs", f"{_brief(files.get(name))} against {_brief(others.get(name))}")
        for name in sorted({*files, *others})
        if files.get(name) != others.get(name)
    ]
    if a.global_step != b.global_step:
        differences.append(Difference("global_step", "differs", f"{a.global_step} against {b.global_step}"))
    return differences


def _brief(data: bytes | None) -> str:
    return "absent" if data is None else f"SHA-256 {hashlib.sha256(data).hexdigest()[:12]}…"
