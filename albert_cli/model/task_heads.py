"""The heads of fine-tuned models: classification or regression of a text, and the span that answers a question.

Attributes are the roles of `converters.roles`. Google: classifier_utils.py (create_model: dropout 0.1 on the
pooled output, then one linear layer), squad_utils.py (create_v1_model: one linear layer on every token, no dropout).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from albert_cli.model.encoder import Encoder, Layer, initialise
from converters.config import EncoderConfig


class MLP(nn.Module):
    """Hidden layers, each linear, batch norm, ReLU; then a linear one to the labels."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        self.hidden = nn.ModuleList(
            nn.ModuleDict({"dense": nn.Linear(a, b), "batch_norm": nn.BatchNorm1d(b)}) for a, b in pairwise(sizes)
        )
        self.output = nn.Linear(sizes[-1], outputs)
        for layer in self.hidden:
            # Batch norm takes away what all rows share: this gradient is rounding, which Adam would make a step of.
            layer["dense"].bias.register_hook(torch.zeros_like)  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.relu(layer["batch_norm"](layer["dense"](x)))  # type: ignore[index]
        output: Tensor = self.output(x)
        return output


class Classifier(nn.Module):
    """Dropout and a linear head, or an MLP of the sizes `hidden`, on the pooled output. One label: a regression."""

    def __init__(self, config: EncoderConfig, labels: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.dropout = nn.Dropout(config.head_dropout_prob)
        self.classifier = None if hidden else nn.Linear(config.hidden_size, labels)
        self.mlp = MLP(config.hidden_size, hidden, labels) if hidden else None
        if self.classifier is not None:
            initialise(self.classifier, config.initializer_range)

    @property
    def output(self) -> nn.Linear:
        """The layer that gives the logits."""
        layer = self.classifier if self.mlp is None else self.mlp.output
        assert layer is not None
        return layer

    def features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """What the head reads: (batch, H). Arguments as `Encoder.forward`."""
        pooled: Tensor = self.encoder(input_ids, attention_mask, token_type_ids).pooled_output
        return pooled

    def head(self, features: Tensor) -> Tensor:
        """Logits (batch, labels) of features (batch, H)."""
        head = self.classifier if self.mlp is None else self.mlp
        assert head is not None
        logits: Tensor = head(self.dropout(features))
        return logits

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        features: Tensor | None = None,
    ) -> Tensor:
        """Logits (batch, labels), of tokens or of features computed before."""
        if features is None:
            assert input_ids is not None
            features = self.features(input_ids, attention_mask, token_type_ids)
        return self.head(features)


class QuestionAnswering(nn.Module):
    """A linear layer to two logits per token: does the answer start here, does it end here."""

    mlp = None
    features = None  # what the head reads is every token's

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, pooler=False)
        self.qa = nn.Linear(config.hidden_size, 2)
        initialise(self.qa, config.initializer_range)
        # What all tokens share moves no softmax over them: its gradient is rounding, which Adam would make a step of.
        self.qa.bias.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]

    @property
    def output(self) -> nn.Linear:
        """The layer that gives the logits."""
        return self.qa

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Logits (batch, tokens, 2). Arguments as `Encoder.forward`."""
        logits: Tensor = self.qa(self.encoder(input_ids, attention_mask, token_type_ids).sequence_output)
        return logits


TaskModel = Classifier | QuestionAnswering


def without_dropout(model: nn.Module) -> None:
    """Turn all dropout off for good, in training mode too."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, Layer):
            part.probs_dropout_prob = 0.0
