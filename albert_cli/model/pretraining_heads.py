"""The two heads of ALBERT's pre-training (masked words, sentence order) and the encoder with them.

Paper: arXiv 1909.11942, section 3.1; Google's run_pretraining.py (get_masked_lm_output, get_sentence_order_output).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from albert_cli.model.encoder import Encoder, EncoderOutput, activation, initialise
from converters.config import EncoderConfig


@dataclass(frozen=True)
class PreTrainingOutput:
    """`prediction_logits` (batch, tokens or masked positions, V) and `sop_logits` (batch, 2: in order, swapped), each
    None without its head; `encoder` is the encoder's own output."""

    prediction_logits: Tensor | None
    sop_logits: Tensor | None
    encoder: EncoderOutput


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
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.activation = activation(config.hidden_act)
        self.LayerNorm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.decoder = Decoder(config, untied) if untied else None
        initialise(self, config.initializer_range)

    def forward(self, sequence_output: Tensor, word_embeddings: Tensor, positions: Tensor | None = None) -> Tensor:
        """Logits (batch, tokens, V), or (batch, n, V) at `positions` (batch, n) only, which costs that much less."""
        if positions is not None:
            rows = torch.arange(len(positions), device=positions.device)[:, None]
            sequence_output = sequence_output[rows, positions]  # (batch, n, H)
        transformed = self.LayerNorm(self.activation(self.dense(sequence_output)))  # (batch, n, E)
        weight, bias = word_embeddings, self.bias
        if self.decoder is not None:
            weight = weight if self.decoder.weight is None else self.decoder.weight
            bias = bias if self.decoder.bias is None else self.decoder.bias
        return F.linear(transformed, weight, bias)


class SentenceOrderHead(nn.Module):
    """H -> 2. No dropout, as in Google's code (transformers drops classifier_dropout_prob of the input)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.classifier = nn.Linear(config.hidden_size, 2)
        initialise(self, config.initializer_range)

    def forward(self, pooled_output: Tensor) -> Tensor:
        logits: Tensor = self.classifier(pooled_output)
        return logits


class PreTrainingModel(nn.Module):
    """The encoder and those of its heads that are wanted; an absent one is None. `untied`: see `MaskedLMHead`."""

    def __init__(
        self,
        config: EncoderConfig,
        *,
        pooler: bool = True,
        mlm: bool = True,
        sop: bool = True,
        untied: Collection[str] = (),
    ) -> None:
        super().__init__()
        if sop and not pooler:
            raise ValueError("the sentence-order head reads the pooler's output: sop=True needs pooler=True")
        self.config = config
        self.albert = Encoder(config, pooler=pooler)
        self.predictions = MaskedLMHead(config, untied) if mlm else None
        self.sop_classifier = SentenceOrderHead(config) if sop else None

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
        """As `Albert.forward`; `masked_positions` (batch, n) limits the masked-word logits to those tokens."""
        encoder: EncoderOutput = self.albert(
            input_ids, attention_mask, token_type_ids, position_ids, output_hidden_states=output_hidden_states
        )
        prediction_logits = sop_logits = None
        if self.predictions is not None:
            words = self.albert.embeddings.word_embeddings.weight
            prediction_logits = self.predictions(encoder.sequence_output, words, masked_positions)
        if self.sop_classifier is not None:
            sop_logits = self.sop_classifier(encoder.pooled_output)
        return PreTrainingOutput(prediction_logits, sop_logits, encoder)
