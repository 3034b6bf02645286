"""The encoder in PyTorch, of every family: embeddings, projection, layers (shared or not), pooler.

Papers: BERT arXiv 1810.04805; ALBERT arXiv 1909.11942 (section 3.1: factorised embedding, cross-layer sharing; table 4:
sharing variants). Outputs follow Google's modeling.py. Attributes are the roles of `converters.roles`. Letters in
shapes: E embedding_size, H hidden_size, I intermediate_size, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from albert_cli.model.products import Linear
from converters import spec
from converters.activations import ACTIVATIONS
from converters.config import EncoderConfig

# By the functions of converters.activations.
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "hardswish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "linear": lambda x: x,
    "mish": F.mish,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
}


# Tokens, up to which attention in float32 is faster than in bfloat16.
_SHORT = 128


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation that a config (`hidden_act`) calls so."""
    return _FUNCTIONS[ACTIVATIONS[name]]


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, dropout: float) -> Tensor:
    """Softmax of the scaled products, times the values; all (batch, heads, tokens, head_size).

    bfloat16 of short texts is computed in float32 where a CPU has no AMX: at 64 tokens, forwards and backwards, PyTorch
    takes 34 ms instead of 21, from 256 tokens on neither is faster.
    """
    short = query.dtype == torch.bfloat16 and query.device.type == "cpu" and query.shape[2] <= _SHORT
    if not short or torch.compiler.is_compiling() or _has_amx():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    with torch.autocast("cpu", enabled=False):
        context = F.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), attn_mask=mask, dropout_p=dropout
        )
    return context.to(query.dtype)


@cache
def _has_amx() -> bool:
    return hasattr(torch.cpu, "_is_amx_tile_supported") and bool(torch.cpu._is_amx_tile_supported())


@dataclass(frozen=True)
class EncoderOutput:
    """`sequence_output` (batch, tokens, H); `pooled_output` (batch, H), None without a pooler; `embedding_output`
    (batch, tokens, E), before the projection; `hidden_states`, on request: the projected embeddings, then the output
    of every inner layer, each (batch, tokens, H)."""

    sequence_output: Tensor
    pooled_output: Tensor | None
    embedding_output: Tensor
    hidden_states: tuple[Tensor, ...] | None = None


class Embeddings(nn.Module):
    """Word + position + token type, LayerNorm, dropout; all of size E."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        E = config.embedding_size
        self.words = nn.Embedding(config.vocab_size, E)
        self.positions = nn.Embedding(config.max_position_embeddings, E)
        self.types = nn.Embedding(config.type_vocab_size, E)
        self.norm = nn.LayerNorm(E, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.position_offset = config.position_offset

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None) -> Tensor:
        if position_ids is None:
            tokens, limit = input_ids.shape[1], self.positions.num_embeddings - self.position_offset
            if tokens > limit:
                raise ValueError(f"input has {tokens} tokens, the model takes at most {limit}; truncate or split it")
            if self.position_offset:  # counted from the id of padding, which has no position of its own
                pad = self.position_offset - 1
                real = (input_ids != pad).long()
                position_ids = real.cumsum(1) * real + pad
            else:
                position_ids = torch.arange(tokens, device=input_ids.device)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        embeddings = self.words(input_ids) + self.types(token_type_ids)
        embeddings = embeddings + self.positions(position_ids)  # (batch, tokens, E)
        output: Tensor = self.dropout(self.norm(embeddings))
        return output


class Layer(nn.Module):
    """Multi-head self-attention, then the feed-forward network, each with residual and LayerNorm.

    `shared_with` is an earlier layer whose attention or feed-forward part this one uses too, as `config.share` says:
    the very same modules, so that their parameters count once while `state_dict()` still lists them under every name.
    """

    def __init__(self, config: EncoderConfig, shared_with: Layer | None = None) -> None:
        super().__init__()
        H, I, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps  # noqa: E741
        attention = shared_with if config.share == "attention" else None
        self.query: Linear = attention.query if attention else Linear(H, H)
        self.key: Linear = attention.key if attention else Linear(H, H)
        self.value: Linear = attention.value if attention else Linear(H, H)
        self.attention_output: Linear = attention.attention_output if attention else Linear(H, H)
        self.attention_norm: nn.LayerNorm = attention.attention_norm if attention else nn.LayerNorm(H, eps=eps)
        feed_forward = shared_with if config.share == "ffn" else None
        self.intermediate: Linear = feed_forward.intermediate if feed_forward else Linear(H, I)
        self.output: Linear = feed_forward.output if feed_forward else Linear(I, H)
        self.output_norm: nn.LayerNorm = feed_forward.output_norm if feed_forward else nn.LayerNorm(H, eps=eps)
        self.head_size = config.head_size
        self.activation = activation(config.hidden_act)
        self.probs_dropout_prob = config.attention_probs_dropout_prob
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, mask: Tensor | None) -> Tensor:
        """(batch, tokens, H) -> (batch, tokens, H)."""
        context = attention(
            self._heads(self.query(hidden_states)),
            self._heads(self.key(hidden_states)),
            self._heads(self.value(hidden_states)),
            mask,
            dropout=self.probs_dropout_prob if self.training else 0.0,
        )  # (batch, heads, tokens, head_size)
        context = context.transpose(1, 2).flatten(2)  # (batch, tokens, H)
        attended = self.attention_norm(hidden_states + self.dropout(self.attention_output(context)))
        # Google drops here too; transformers' ALBERT does not (its AlbertLayer.dropout is never called).
        output = self.dropout(self.output(self.activation(self.intermediate(attended))))
        normed: Tensor = self.output_norm(output + attended)
        return normed

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.head_size).transpose(1, 2)  # (batch, heads, tokens, head_size)


class Encoder(nn.Module):
    """Embeddings, projection E -> H (where the family has one), layers, and (unless `pooler` is false) pooler.

    `layers` are the distinct ones, which `config.layer_uses` puts in the order of computation. Fresh weights as Google
    draws them. Raises ConfigError for an unknown `hidden_act`.
    """

    def __init__(self, config: EncoderConfig, *, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        H = config.hidden_size
        self.embeddings = Embeddings(config)
        self.projection = Linear(config.embedding_size, H) if spec.has_projection(config) else None
        first = Layer(config)
        self.layers = nn.ModuleList([first, *(Layer(config, first) for _ in config.places[1:])])
        self.pooler = nn.Linear(H, H) if pooler else None
        initialise(self, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        output_hidden_states: bool = False,
    ) -> EncoderOutput:
        """`input_ids` and the rest are (batch, tokens), integers; `position_ids` may also be (tokens,).

        `attention_mask` is 1 for tokens to attend to and 0 for padding; without one every token counts, but the
        padding of a model that counts positions from its id (RoBERTa). Token types default to 0, positions to 0, 1, 2 …
        Raises ValueError for more tokens than the model has positions.
        """
        if attention_mask is None and self.config.position_offset:
            attention_mask = input_ids != self.config.position_offset - 1
        embeddings = self.embeddings(input_ids, token_type_ids, position_ids)
        # (batch, 1, 1, tokens): the same keys are open to every head and query
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        x = embeddings if self.projection is None else self.projection(embeddings)  # (batch, tokens, H)
        hidden_states = [x]
        for number in self.config.layer_uses:
            x = self.layers[number](x, mask)
            if output_hidden_states:
                hidden_states.append(x)
        pooled_output = None if self.pooler is None else torch.tanh(self.pooler(x[:, 0]))
        return EncoderOutput(x, pooled_output, embeddings, tuple(hidden_states) if output_hidden_states else None)


@torch.no_grad()
def initialise(module: nn.Module, initializer_range: float) -> None:
    """Draw weights as Google does (modeling.py, create_initializer), from torch's global random generator.

    Matrices: normal of standard deviation `initializer_range`, cut at two of them; biases 0; LayerNorm the identity.
    """
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            if initializer_range:
                cut = 2 * initializer_range
                nn.init.trunc_normal_(part.weight, std=initializer_range, a=-cut, b=cut)
            else:
                nn.init.zeros_(part.weight)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
