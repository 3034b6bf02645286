"""The encoder for inference on the CPU, without padding, close to the speed of the bare matrix products.

The tokens of all rows stand packed in one matrix (tokens, H): linear layers and LayerNorms see no padding, and
attention runs once per length, over all rows of that length, without masks. Shared weights are packed for the CPU once
and serve every layer that uses them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from albert_cli.batching import ranges
from albert_cli.model import byte_kernels, kernels, passes
from albert_cli.model.byte_kernels import QuantizedRows, quantize, quantize_from_low
from albert_cli.model.encoder import Encoder, Layer
from albert_cli.model.packed_attention import attend
from albert_cli.tokenization.batch import TokenBatch
from converters.config import EncoderConfig

PRECISIONS = ("fp32", "bf16", "int8")
# oneDNN keeps about a megabyte for each product of another number of tokens. So these numbers are few: multiples of
# _STEP, or of 1/16 of the next power of two; 32 up to 1024 tokens, and 8 more up to each power of two above.
_STEP = 32


class PackedEncoder:
    """A copy of `model` on the CPU (see `hidden_states.InferenceEncoder`), every distinct layer packed once.

    `precision`: fp32; bf16 (weights and hidden states of bfloat16; sums, softmax and LayerNorm inside in fp32); or int8
    (the matrix products of bytes, each token and each weight row with a scale of its own, the rest in fp32). Raises
    ValueError for another.
    """

    def __init__(self, model: Encoder, precision: str = "fp32") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision is {precision!r}, not one of {', '.join(PRECISIONS)}")
        self.config = model.config
        self._embeddings = copy.deepcopy(model.embeddings).float().cpu().eval()
        projection = model.projection
        self._project = kernels.linear(_copy(projection.weight), _copy(projection.bias)) if projection else None
        self._layers: Sequence[_PackedLayer]
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        cache: dict[int, Any] = {}
        layers = [cast(Layer, layer) for layer in model.layers]
        if precision == "int8":
            self._layers = [_ByteLayer(layer, self.config, cache) for layer in layers]
        else:
            self._layers = [_PackedLayer(layer, self.config, precision, cache) for layer in layers]

    @property
    def chunks_at_once(self) -> int:
        """As many as PyTorch has threads."""
        return torch.get_num_threads()

    @torch.inference_mode()
    def __call__(self, batch: TokenBatch, layers: Sequence[int]) -> list[Tensor]:
        """The rows of `batch` are in order of length."""
        filled = computed_tokens(len(batch.ids)) - len(batch.ids)  # sequences of one token before all others
        ids, types, positions = (
            torch.from_numpy(np.concatenate([np.zeros(filled, np.int64), array]))
            for array in (batch.ids, batch.token_type_ids, _positions(batch, self.config.position_offset))
        )
        x = self._embeddings(ids[None], types[None], positions)[0]  # (tokens, E)
        if self._project is not None:
            x = self._project(x, None)  # (tokens, H)
        x = x.to(self._dtype)
        states, sizes = {0: x}, [1] * filled + batch.lengths.tolist()
        rows: QuantizedRows | None = None
        for number, layer in enumerate(self.config.layer_uses[: max(layers)], 1):
            x, rows = self._layers[layer](x, rows, sizes)
            if number in layers:
                states[number] = x
        return [states[number][filled:].float() for number in layers]


def computed_tokens(tokens: int) -> int:
    """How many tokens are computed for so many: the next of a few numbers."""
    step = max(_STEP, (1 << (tokens - 1).bit_length()) // 16)
    return -(-tokens // step) * step


def _positions(batch: TokenBatch, offset: int) -> NDArray[np.int64]:
    """The position of each token, (tokens): 0, 1, … in each row; with an offset counted from the id of padding, which
    has no place of its own in a text either."""
    if not offset:
        return ranges(np.zeros_like(batch.lengths), batch.lengths)
    pad = offset - 1
    real = batch.ids != pad
    counted = np.cumsum(real)
    before = np.concatenate([[0], counted])[batch.starts[:-1]]  # of the rows above
    places: NDArray[np.int64] = (counted - np.repeat(before, batch.lengths)) * real + pad
    return places


class _PackedLayer:
    """One layer for packed tokens. `cache` holds the linear layers made so far, by the weights they came from."""

    def __init__(self, layer: Layer, config: EncoderConfig, precision: str, cache: dict[int, Any]) -> None:
        self.head_size = config.head_size
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32

        def linear(*parts: nn.Linear, act: str = "linear", scale: float = 1.0) -> Any:
            """Parts side by side, the first of them times `scale`."""
            key = id(parts[0])
            if key not in cache:
                weight = torch.cat([_copy(part.weight) for part in parts])
                bias = torch.cat([_copy(part.bias) for part in parts])
                weight[: len(parts[0].weight)] *= scale
                bias[: len(parts[0].weight)] *= scale
                if precision == "int8":
                    cache[key] = byte_kernels.linear(weight, bias, act)
                else:
                    cache[key] = kernels.linear(weight.to(dtype), bias.to(dtype), act)
            return cache[key]

        self.query_key_value = linear(layer.query, layer.key, layer.value, scale=config.head_size**-0.5)
        self.attention_output = linear(layer.attention_output)
        self.intermediate = linear(layer.intermediate, act=config.hidden_act)
        self.output = linear(layer.output)
        self.attention_norm = copy.deepcopy(layer.attention_norm).to("cpu", torch.float32)
        self.output_norm = copy.deepcopy(layer.output_norm).to("cpu", torch.float32)

    def __call__(
        self, x: Tensor, rows: QuantizedRows | None, lengths: list[int]
    ) -> tuple[Tensor, QuantizedRows | None]:
        """x and the result: (tokens, H), with its bytes where the layer before has made them; `lengths` of the
        sequences in it, ascending."""
        context = attend(self.query_key_value(x, None), lengths, self.head_size)
        attended = _norm(self.attention_norm, self.attention_output(context, x))
        inner = self.intermediate(attended, None)  # (tokens, I)
        return _norm(self.output_norm, self.output(inner, attended)), None


class _ByteLayer(_PackedLayer):
    """Its products are of bytes. What stands between them is one pass each where `passes` work, on one thread."""

    def __init__(self, layer: Layer, config: EncoderConfig, cache: dict[int, Any]) -> None:
        super().__init__(layer, config, "int8", cache)
        self._fused = passes.knows(config.hidden_act) and passes.attends(config.head_size) and passes.work()

    def __call__(
        self, x: Tensor, rows: QuantizedRows | None, lengths: list[int]
    ) -> tuple[Tensor, QuantizedRows | None]:
        rows = quantize(x) if rows is None else rows
        if self._fused and torch.get_num_threads() == 1:
            context = passes.attention(self.query_key_value, rows, lengths, self.head_size)
            attended, rows = passes.norm(self.attention_output, context, x, self.attention_norm)
            inner = passes.activate(self.intermediate, rows)
            return passes.norm(self.output, inner, attended, self.output_norm)
        context = quantize(attend(self.query_key_value(rows), lengths, self.head_size))
        attended = _norm(self.attention_norm, self.attention_output(context, x))
        inner = quantize_from_low(self.intermediate(quantize(attended)))  # (tokens, I)
        return _norm(self.output_norm, self.output(inner, attended)), None


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _copy(parameter: Tensor) -> Tensor:
    return parameter.detach().to("cpu", torch.float32, copy=True)
