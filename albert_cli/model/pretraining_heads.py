"""The pre-training heads (masked words, pairs of segments, replaced tokens, spans) and the encoder with them.

Papers: BERT arXiv 1810.04805, section 3.1; ALBERT arXiv 1909.11942, section 3.1; ELECTRA arXiv 2003.10555; SpanBERT
arXiv 1907.10529, section 3.2. Google's run_pretraining.py (get_masked_lm_output, get_sentence_order_output).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from albert_cli.model.encoder import Encoder, EncoderOutput, activation, initialise
from albert_cli.model.products import Linear, linear
from converters.config import EncoderConfig
from converters.families import family_of


@dataclass(frozen=True)
class PreTrainingOutput:
    """`prediction_logits` (batch, tokens or masked positions, V), `pair_logits` (batch, 2; ALBERT: in order, swapped;
    BERT: is next, is not) and `replaced_logits` (batch, tokens; above 0: replaced), each None without its head;
    `encoder` is the encoder's own output."""

    prediction_logits: Tensor | None
    pair_logits: Tensor | None
    encoder: EncoderOutput
    replaced_logits: Tensor | None = None


class Decoder(nn.Module):
    """E -> V with a matrix or a bias of its own, of a model that does not tie both (`untied`: their names)."""

    def __init__(self, config: EncoderConfig, untied: Collection[str]) -> None:
        super().__init__()
        self.weight: nn.Parameter | None
        self.bias: nn.Parameter | None
        for name, shape in (("weight", (config.vocab_size, config.embedding_size)), ("bias", (config.vocab_size,))):
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)) if name in untied else None)


class MaskedLMHead(nn.Module):
    """H -> E -> V; the last matrix is the word embeddings, handed in so that it is stored and trained once.

    `untied` says what of `weight` and `bias` it has of its own all the same.
    """

    def __init__(self, config: EncoderConfig, untied: Collection[str] = ()) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.embedding_size)
        self.activation = activation(family_of(config).mlm_activation or config.hidden_act)
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.decoder = Decoder(config, untied) if untied else None
        initialise(self, config.initializer_range)

    def forward(self, sequence_output: Tensor, word_embeddings: Tensor, positions: Tensor | None = None) -> Tensor:
        """Logits (batch, tokens, V), or (batch, n, V) at `positions` (batch, n) only, which costs that much less."""
        if positions is not None:
            rows = torch.arange(len(positions), device=positions.device)[:, None]
            sequence_output = sequence_output[rows, positions]  # (batch, n, H)
        transformed = self.norm(self.activation(self.dense(sequence_output)))  # (batch, n, E)
        weight, bias = word_embeddings, self.bias
        if self.decoder is not None:
            weight = weight if self.decoder.weight is None else self.decoder.weight
            bias = bias if self.decoder.bias is None else self.decoder.bias
        return linear(transformed, weight, bias)


class ReplacedTokenHead(nn.Module):
    """ELECTRA's discriminator: H -> H -> 1 for each token, above 0 where the token was replaced."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = activation(config.hidden_act)
        self.out = Linear(config.hidden_size, 1)
        initialise(self, config.initializer_range)

    def forward(self, sequence_output: Tensor) -> Tensor:
        """Logits (batch, tokens)."""
        logits: Tensor = self.out(self.activation(self.dense(sequence_output))).squeeze(-1)
        return logits


class SpanBoundaryHead(nn.Module):
    """SpanBERT's head: a word of a span from the tokens right before and right after it, and its place in the span.

    `places`: how many words of a span have a place.
    """

    def __init__(self, config: EncoderConfig, places: int = 20) -> None:
        super().__init__()
        H = config.hidden_size
        width = 200  # whatever --pair-positional-embedding-size said: SpanBERT does not pass it on
        self.positions = nn.Embedding(places, width)
        self.dense_1, self.norm_1 = Linear(2 * H + width, H), nn.LayerNorm(H, eps=config.layer_norm_eps)
        self.dense_2, self.norm_2 = Linear(H, H), nn.LayerNorm(H, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.activation = activation(config.hidden_act)
        initialise(self, config.initializer_range)

    def forward(self, sequence_output: Tensor, borders: Tensor, word_embeddings: Tensor) -> Tensor:
        """Logits (batch, spans, places, V). `borders` (batch, spans, 2): the tokens before and after each span."""
        rows = torch.arange(len(borders), device=borders.device)[:, None, None]
        around = sequence_output[rows, borders].flatten(2)  # (batch, spans, 2H)
        places = torch.arange(len(self.positions.weight), device=borders.device)
        shape = (*around.shape[:2], len(places))
        return self.at(around[:, :, None].expand(*shape, -1), places.expand(shape), word_embeddings)

    def at(self, around: Tensor, places: Tensor, word_embeddings: Tensor) -> Tensor:
        """Logits (…, V) of words at `places` (…) in spans, from 0; `around` (…, 2H): what stands before and after."""
        x = torch.cat([around, self.positions(places)], dim=-1)  # (…, 2H + 200)
        x = self.norm_1(self.activation(self.dense_1(x)))
        x = self.norm_2(self.activation(self.dense_2(x)))  # (…, H)
        return linear(x, word_embeddings, self.bias)


class PreTrainingModel(nn.Module):
    """The encoder and those of its heads that are wanted; an absent one is None. `untied`: see `MaskedLMHead`.

    `spans`: the places of SpanBERT's head, which is no part of `forward`.

    The pair head has no dropout, as in Google's code (transformers drops classifier_dropout_prob of its input).
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        pooler: bool = True,
        mlm: bool = True,
        pair: bool = True,
        rtd: bool = False,
        spans: int = 0,
        untied: Collection[str] = (),
    ) -> None:
        super().__init__()
        if pair and not pooler:
            raise ValueError("the pair head reads the pooler's output: pair=True needs pooler=True")
        self.config = config
        self.encoder = Encoder(config, pooler=pooler)
        self.mlm = MaskedLMHead(config, untied) if mlm else None
        self.pair = Linear(config.hidden_size, 2) if pair else None
        if self.pair is not None:
            initialise(self.pair, config.initializer_range)
        self.rtd = ReplacedTokenHead(config) if rtd else None
        self.sbo = SpanBoundaryHead(config, spans) if spans else None

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        masked_positions: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> PreTrainingOutput:
        """As `Encoder.forward`; `masked_positions` (batch, n) limits the masked-word logits to those tokens."""
        encoder: EncoderOutput = self.encoder(
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states=output_hidden_states
        )
        prediction_logits = pair_logits = replaced_logits = None
        if self.mlm is not None:
            words = self.encoder.embeddings.words.weight
            prediction_logits = self.mlm(encoder.sequence_output, words, masked_positions)
        if self.pair is not None:
            pair_logits = self.pair(encoder.pooled_output)
        if self.rtd is not None:
            replaced_logits = self.rtd(encoder.sequence_output)
        return PreTrainingOutput(prediction_logits, pair_logits, encoder, replaced_logits)
