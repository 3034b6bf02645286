"""The encoder for inference: many sequences of any lengths at once, close to the speed of the bare matrix products.

On the CPU the tokens of all sequences stand packed in one matrix (tokens, H): linear layers and LayerNorms see no
padding, and attention runs once per length, over all sequences of that length, without masks. ALBERT's shared weights
are packed for the CPU once and serve every layer. On a GPU sequences are padded to batches of the plain encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from albert_cli.model import kernels
from albert_cli.model.encoder import Encoder, Layer
from converters.config import EncoderConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRECISIONS = ("auto", "fp32", "bf16", "int8")

# Tokens at once. On a CPU the widest activations (tokens x I) should stay within its caches; a GPU wants many.
_CPU_TOKENS, _GPU_TOKENS = 1024, 32768


@dataclass(frozen=True)
class PackedHiddenStates:
    """`hidden_states[i]` (total tokens, H) float32 on the CPU: the i-th of the layers asked for. The rows of sequence
    n are `offsets[n]:offsets[n + 1]`, in the order of the input; `offsets` is (sequences + 1,) int64."""

    hidden_states: tuple[Tensor, ...]
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class _Chunk:
    """Sequences in order of length, side by side: ids, types, positions (tokens,), and each sequence's length."""

    input_ids: Tensor
    token_type_ids: Tensor
    position_ids: Tensor
    lengths: list[int]


class FastEncoder:
    """The encoder of `model` (an `Encoder`, or a model that has one as `.encoder`) for inference; dropout is off.

    `precision` is fp32; int8 (CPU only: bytes for the matrix products, each token and each weight row with a scale of
    its own, the rest in fp32); bf16; or auto: bf16 on CUDA, else fp32. `threads`: PyTorch's during `encode`; default:
    as set. `batch_tokens`: how many tokens go through the layers at once; it sets speed and memory, not results.
    The weights are read, and on the CPU copied, when the encoder is made. Raises ValueError for what cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: str = "auto",
        *,
        device: str | torch.device = "cpu",
        threads: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        encoder = model if isinstance(model, Encoder) else getattr(model, "encoder", None)
        if not isinstance(encoder, Encoder):
            raise ValueError(f"model is a {type(model).__name__}, which is no Encoder and holds none as .encoder")
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}, not one of {', '.join(PRECISIONS)}")
        for name, value in (("threads", threads), ("batch_tokens", batch_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, not a number from 1 up")
        self.config = encoder.config
        self.device = torch.device(device)
        on_cpu = self.device.type == "cpu"
        if precision == "auto":
            precision = "bf16" if self.device.type == "cuda" else "fp32"
        if precision == "int8" and not on_cpu:
            raise ValueError(f"precision int8 runs on the CPU, not on {self.device}; take bf16 or fp32 there")
        self.precision = precision
        self.threads = threads
        self.batch_tokens = batch_tokens or (_CPU_TOKENS if on_cpu else _GPU_TOKENS)
        self._encoder: _PackedEncoder | _PaddedEncoder
        if on_cpu and precision in ("fp32", "int8"):
            self._encoder = _PackedEncoder(encoder, precision)
        else:
            self._encoder = _PaddedEncoder(
                encoder, self.device, torch.bfloat16 if precision == "bf16" else torch.float32
            )

    @property
    def layers(self) -> int:
        """How many hidden states there are: the projected embeddings and the output of every inner layer."""
        return 1 + self.config.num_hidden_layers * self.config.inner_group_num

    def encode(
        self,
        input_ids: Sequence[Any],
        token_type_ids: Sequence[Any] | None = None,
        *,
        layers: Sequence[int] = (-1,),
    ) -> PackedHiddenStates:
        """Hidden states of sequences of ids (arrays or lists of integers, special tokens included, no padding).

        `token_type_ids`, if given, has the shape of `input_ids`; default 0. `layers` counts as `hidden_states` do: 0
        the projected embeddings, 1 the first layer's output, -1 the last's; layers above the highest are not computed.
        Raises ValueError, naming the sequence, for one that is empty, too long, or has an id outside the vocabulary.
        """
        ids, offsets = _concatenate(input_ids, "input_ids", self.config.vocab_size)
        types = np.zeros_like(ids)
        if token_type_ids is not None:
            types, type_offsets = _concatenate(token_type_ids, "token_type_ids", self.config.type_vocab_size)
            if not np.array_equal(offsets, type_offsets):
                raise ValueError("token_type_ids and input_ids are not of the same lengths")
        lengths = np.diff(offsets)
        limit = self.config.max_position_embeddings
        if len(lengths) and lengths.max() > limit:
            number = int((lengths > limit).argmax())
            raise ValueError(
                f"sequence {number} has {lengths[number]} tokens, the model takes at most {limit}; truncate or split it"
            )
        wanted = [layer + self.layers if layer < 0 else layer for layer in layers]
        if not wanted or min(wanted) < 0 or max(wanted) >= self.layers:
            raise ValueError(
                f"layers is {tuple(layers)}; the model has hidden states {-self.layers} to {self.layers - 1}"
            )

        outputs = {layer: torch.empty(len(ids), self.config.hidden_size) for layer in wanted}
        threads = torch.get_num_threads()
        try:
            if self.threads:
                torch.set_num_threads(self.threads)
            with torch.inference_mode():
                for numbers in _chunks(lengths, self.batch_tokens, padded=isinstance(self._encoder, _PaddedEncoder)):
                    rows, positions = _rows(offsets[numbers], lengths[numbers])
                    chunk = _Chunk(
                        torch.from_numpy(ids[rows]),
                        torch.from_numpy(types[rows]),
                        torch.from_numpy(positions),
                        lengths[numbers].tolist(),
                    )
                    where = torch.from_numpy(rows)
                    for layer, hidden_states in self._encoder.hidden_states(chunk, set(wanted)):
                        outputs[layer].index_copy_(0, where, hidden_states)
        finally:
            if self.threads:
                torch.set_num_threads(threads)
        return PackedHiddenStates(tuple(outputs[layer] for layer in wanted), offsets)


class _PackedEncoder:
    """For the CPU: every distinct layer packed once, in float32 or bytes."""

    def __init__(self, encoder: Encoder, precision: str) -> None:
        self.config = encoder.config
        self.embeddings = copy.deepcopy(encoder.embeddings).float().cpu().eval()
        projection = encoder.projection
        self.project = kernels.linear(_copy(projection.weight), _copy(projection.bias)) if projection else None
        cache: dict[int, Any] = {}
        self.layers = [_PackedLayer(cast(Layer, layer), self.config, precision, cache) for layer in encoder.layers]

    def hidden_states(self, chunk: _Chunk, wanted: set[int]) -> Iterator[tuple[int, Tensor]]:
        x = self.embeddings(chunk.input_ids[None], chunk.token_type_ids[None], chunk.position_ids)[0]
        if self.project is not None:
            x = self.project(x, None)  # (tokens, H)
        if 0 in wanted:
            yield 0, x
        for number, layer in enumerate(self.config.layer_uses, 1):
            if number > max(wanted):
                return
            x = self.layers[layer](x, chunk.lengths)
            if number in wanted:
                yield number, x


class _PackedLayer:
    """One layer for packed tokens. `cache` holds the linear layers made so far, by the weights they came from."""

    def __init__(self, layer: Layer, config: EncoderConfig, precision: str, cache: dict[int, Any]) -> None:
        act = config.hidden_act
        self.heads, self.head_size = config.num_attention_heads, config.head_size
        self.floor = kernels.FLOORS.get(act)
        self.quantize = kernels.quantize if precision == "int8" else lambda x, floor=None: x

        def linear(*parts: nn.Linear, act: str = "linear", floor: float | None = None) -> Any:
            key = id(parts[0])
            if key not in cache:
                weight = torch.cat([_copy(part.weight) for part in parts])
                bias = torch.cat([_copy(part.bias) for part in parts])
                if precision == "int8":
                    cache[key] = kernels.byte_linear(weight, bias, act, floor)
                else:
                    cache[key] = kernels.linear(weight, bias, act)
            return cache[key]

        self.query_key_value = linear(layer.query, layer.key, layer.value)
        self.attention_output = linear(layer.attention_output)
        self.intermediate = linear(layer.intermediate, act=act)
        self.output = linear(layer.output, floor=self.floor)
        self.attention_norm = _norm(layer.attention_norm)
        self.output_norm = _norm(layer.output_norm)

    def __call__(self, x: Tensor, lengths: list[int]) -> Tensor:
        """x and the result: (tokens, H); `lengths` of the sequences in it, ascending."""
        context = self._attend(self.query_key_value(self.quantize(x), None), lengths)
        attended = self.attention_norm(self.attention_output(self.quantize(context), x))
        inner = self.intermediate(self.quantize(attended), None)  # (tokens, I)
        return self.output_norm(self.output(self.quantize(inner, self.floor), attended))

    def _attend(self, query_key_value: Tensor, lengths: list[int]) -> Tensor:
        """(tokens, 3H) -> (tokens, H), all sequences of one length at a time."""
        contexts, start = [], 0
        for length, group in groupby(lengths):
            stop = start + length * len(list(group))
            heads = query_key_value[start:stop].view(-1, length, 3, self.heads, self.head_size)
            query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (sequences, heads, length, head_size)
            context = F.scaled_dot_product_attention(query, key, value)
            contexts.append(context.transpose(1, 2).reshape(stop - start, -1))
            start = stop
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


class _PaddedEncoder:
    """For the rest: the plain encoder on `device`, sequences padded to the longest of the chunk."""

    def __init__(self, encoder: Encoder, device: torch.device, dtype: torch.dtype) -> None:
        self.encoder = copy.deepcopy(encoder).to(device, dtype).eval()
        self.device = device

    def hidden_states(self, chunk: _Chunk, wanted: set[int]) -> Iterator[tuple[int, Tensor]]:
        lengths = torch.tensor(chunk.lengths)
        mask = torch.arange(chunk.lengths[-1]) < lengths[:, None]  # (sequences, longest)
        ids, types = torch.zeros(2, *mask.shape, dtype=torch.int64)
        ids[mask], types[mask] = chunk.input_ids, chunk.token_type_ids
        mask = mask.to(self.device)
        padded = None if chunk.lengths[0] == chunk.lengths[-1] else mask
        output = self.encoder(ids.to(self.device), padded, types.to(self.device), output_hidden_states=True)
        for number in sorted(wanted):
            yield number, output.hidden_states[number][mask].float().cpu()  # (tokens, H)


def _copy(parameter: Tensor) -> Tensor:
    return parameter.detach().to("cpu", torch.float32, copy=True)


def _norm(norm: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    weight, bias = _copy(norm.weight), _copy(norm.bias)
    return lambda x: F.layer_norm(x, weight.shape, weight, bias, norm.eps)


def _concatenate(sequences: Sequence[Any], name: str, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All values (tokens,) and where each sequence starts, and the last ends (sequences + 1,)."""
    arrays = []
    for number, sequence in enumerate(sequences):
        array = np.asarray(sequence)
        if array.size == 0:
            raise ValueError(f"{name}: sequence {number} is empty; give it its special tokens")
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: sequence {number} is {array.dtype} of shape {array.shape}, not a row of whole numbers"
            )
        arrays.append(array)
    offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
    values = np.concatenate(arrays).astype(np.int64, copy=False) if arrays else np.zeros(0, np.int64)
    outside = (values < 0) | (values >= size)
    if outside.any():
        place = int(outside.argmax())
        number = int(np.searchsorted(offsets, place, side="right")) - 1
        raise ValueError(f"{name}: sequence {number} has {values[place]}, outside 0 to {size - 1}")
    return values, offsets


def _chunks(lengths: NDArray[np.int64], tokens: int, *, padded: bool) -> Iterator[NDArray[np.int64]]:
    """Numbers of the sequences to compute together, from short to long: about `tokens` in each, padding included if
    there is any, and at least one sequence."""
    chunk: list[int] = []
    filled = 0
    for number in np.argsort(lengths, kind="stable").tolist():
        length = int(lengths[number])
        filled = length * (len(chunk) + 1) if padded else filled + length
        if chunk and filled > tokens:
            yield np.array(chunk)
            chunk, filled = [], length
        chunk.append(number)
    if chunk:
        yield np.array(chunk)


def _rows(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the sequences that start at `starts`, and each row's position in its sequence; both (tokens,)."""
    ends = np.cumsum(lengths)
    positions = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    return np.repeat(starts, lengths) + positions, positions
