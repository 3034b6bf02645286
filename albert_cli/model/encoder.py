"""The ALBERT encoder in PyTorch: embeddings, factorised projection, groups of shared layers, pooler.

Paper: arXiv 1909.11942 (section 3.1: factorised embedding, cross-layer sharing; table 4: sharing variants). Outputs
follow Google's modeling.py. Attribute names are chosen so that `state_dict()` has the names of `converters.spec`.
Letters in shapes: E embedding_size, H hidden_size, I intermediate_size, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from converters.config import EncoderConfig
from converters.errors import ConfigError

_gelu_tanh = partial(F.gelu, approximate="tanh")

# Google's code knows linear, relu, gelu (our gelu_new) and tanh; the rest are Hugging Face's names.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_accurate": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_new": _gelu_tanh,
    "gelu_python": F.gelu,
    "gelu_python_tanh": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
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
    "swish": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation of that name; ConfigError lists the known ones."""
    if name not in ACTIVATIONS:
        raise ConfigError(f"hidden_act is {name!r}, not one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


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
        self.word_embeddings = nn.Embedding(config.vocab_size, E)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, E)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, E)
        self.LayerNorm = nn.LayerNorm(E, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None) -> Tensor:
        if position_ids is None:
            tokens, limit = input_ids.shape[1], self.position_embeddings.num_embeddings
            if tokens > limit:
                raise ValueError(f"input has {tokens} tokens, the model takes at most {limit}; truncate or split it")
            position_ids = torch.arange(tokens, device=input_ids.device)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        embeddings = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        embeddings = embeddings + self.position_embeddings(position_ids)  # (batch, tokens, E)
        output: Tensor = self.dropout(self.LayerNorm(embeddings))
        return output


class Attention(nn.Module):
    """Multi-head self-attention with residual and LayerNorm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        H = config.hidden_size
        self.head_size = config.head_size
        self.query = nn.Linear(H, H)
        self.key = nn.Linear(H, H)
        self.value = nn.Linear(H, H)
        self.dense = nn.Linear(H, H)
        self.LayerNorm = nn.LayerNorm(H, eps=config.layer_norm_eps)
        self.probs_dropout_prob = config.attention_probs_dropout_prob
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, mask: Tensor | None) -> Tensor:
        context = F.scaled_dot_product_attention(
            self._heads(self.query(hidden_states)),
            self._heads(self.key(hidden_states)),
            self._heads(self.value(hidden_states)),
            attn_mask=mask,
            dropout_p=self.probs_dropout_prob if self.training else 0.0,
        )  # (batch, heads, tokens, head_size)
        context = context.transpose(1, 2).flatten(2)  # (batch, tokens, H)
        output: Tensor = self.LayerNorm(hidden_states + self.dropout(self.dense(context)))
        return output

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.head_size).transpose(1, 2)  # (batch, heads, tokens, head_size)


class Layer(nn.Module):
    """Attention, then the feed-forward network with residual and LayerNorm.

    `twin` is an earlier layer whose attention or feed-forward part this one uses too, as `config.share` says: the very
    same modules, so that their parameters count once while `state_dict()` still lists them under every name.
    """

    def __init__(self, config: EncoderConfig, twin: Layer | None = None) -> None:
        super().__init__()
        H, I = config.hidden_size, config.intermediate_size  # noqa: E741
        self.attention: Attention
        self.ffn: nn.Linear
        self.ffn_output: nn.Linear
        self.full_layer_layer_norm: nn.LayerNorm
        self.attention = twin.attention if twin and config.share == "attention" else Attention(config)
        if twin and config.share == "ffn":
            self.ffn, self.ffn_output = twin.ffn, twin.ffn_output
            self.full_layer_layer_norm = twin.full_layer_layer_norm
        else:
            self.ffn, self.ffn_output = nn.Linear(H, I), nn.Linear(I, H)
            self.full_layer_layer_norm = nn.LayerNorm(H, eps=config.layer_norm_eps)
        self.activation = activation(config.hidden_act)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, mask: Tensor | None) -> Tensor:
        attended = self.attention(hidden_states, mask)
        # Google drops here too; transformers does not (its AlbertLayer.dropout is never called).
        ffn_output = self.dropout(self.ffn_output(self.activation(self.ffn(attended))))
        output: Tensor = self.full_layer_layer_norm(ffn_output + attended)
        return output


class LayerGroup(nn.Module):
    """Inner layers, applied in turn each time a layer of the model uses the group."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.albert_layers = nn.ModuleList(layers)

    def forward(self, hidden_states: Tensor, mask: Tensor | None, keep: list[Tensor] | None) -> Tensor:
        for layer in self.albert_layers:
            hidden_states = layer(hidden_states, mask)
            if keep is not None:
                keep.append(hidden_states)
        return hidden_states


class LayerStack(nn.Module):
    """The projection E -> H and `num_hidden_layers` uses of the groups."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding_hidden_mapping_in = nn.Linear(config.embedding_size, config.hidden_size)
        first = Layer(config)
        others = [Layer(config, twin=first) for _ in range(1, config.num_hidden_groups * config.inner_group_num)]
        layers, inner = [first, *others], config.inner_group_num
        self.albert_layer_groups = nn.ModuleList(
            LayerGroup(layers[start : start + inner]) for start in range(0, len(layers), inner)
        )

    def forward(self, embeddings: Tensor, attention_mask: Tensor | None, keep: list[Tensor] | None) -> Tensor:
        """Adds the hidden states to `keep`, if given."""
        # (batch, 1, 1, tokens): the same keys are open to every head and query
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        hidden_states: Tensor = self.embedding_hidden_mapping_in(embeddings)  # (batch, tokens, H)
        if keep is not None:
            keep.append(hidden_states)
        for number in range(self.config.num_hidden_layers):
            group = self.albert_layer_groups[self.config.group_of(number)]
            hidden_states = group(hidden_states, mask, keep)
        return hidden_states


class Encoder(nn.Module):
    """Embeddings, encoder and (unless `pooler` is false) pooler; fresh weights as Google draws them.

    Raises ConfigError for an unknown `hidden_act`.
    """

    def __init__(self, config: EncoderConfig, *, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = LayerStack(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooler else None
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

        `attention_mask` is 1 for tokens to attend to and 0 for padding; without one every token counts. Token types
        default to 0, positions to 0, 1, 2 … Raises ValueError for more tokens than the model has positions.
        """
        embeddings = self.embeddings(input_ids, token_type_ids, position_ids)
        kept: list[Tensor] | None = [] if output_hidden_states else None
        sequence_output = self.encoder(embeddings, attention_mask, kept)
        pooled_output = None if self.pooler is None else torch.tanh(self.pooler(sequence_output[:, 0]))
        return EncoderOutput(sequence_output, pooled_output, embeddings, None if kept is None else tuple(kept))


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
