"""The heads of fine-tuned models: classification or regression of a text, of each token, of several choices, and the
span that answers a question; and the encoder without a head, trained for its vectors.

Attributes are the roles of `converters.roles`. Google: classifier_utils.py (create_model: dropout 0.1 on the
pooled output, then one linear layer), squad_utils.py (create_v1_model: one linear layer on every token, no dropout).
The others, that on the first token (RoBERTa, ELECTRA) among them, as transformers has them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from albert_cli.model.encoder import Encoder, Layer, activation, initialise
from converters.config import EncoderConfig
from converters.families import family_of

Pool = Callable[[Tensor, NDArray[Any]], Tensor]


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


class TextClassifier(nn.Module, ABC):
    """An encoder and what reads one vector of a text, its `features`: a head, or an MLP in its place."""

    config: EncoderConfig
    encoder: Encoder
    mlp: MLP | None

    @property
    @abstractmethod
    def output(self) -> nn.Linear:
        """The layer that gives the logits."""

    @abstractmethod
    def features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """What the head reads: (batch, H). Arguments as `Encoder.forward`."""

    @abstractmethod
    def head(self, features: Tensor) -> Tensor:
        """Logits (batch, labels) of features (batch, H)."""

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


class Classifier(TextClassifier):
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
        layer = self.classifier if self.mlp is None else self.mlp.output
        assert layer is not None
        return layer

    def features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The pooled output, (batch, H)."""
        pooled: Tensor = self.encoder(input_ids, attention_mask, token_type_ids).pooled_output
        return pooled

    def head(self, features: Tensor) -> Tensor:
        head = self.classifier if self.mlp is None else self.mlp
        assert head is not None
        logits: Tensor = head(self.dropout(features))
        return logits


class FirstTokenHead(nn.Module):
    """H -> H -> labels, of the first token's vector: RoBERTa's and ELECTRA's classifier."""

    def __init__(self, config: EncoderConfig, labels: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out = nn.Linear(config.hidden_size, labels)
        self.activation = activation(family_of(config).first_token_activation)
        self.dropout = nn.Dropout(config.head_dropout_prob)
        initialise(self, config.initializer_range)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, H) -> (batch, labels)."""
        logits: Tensor = self.out(self.dropout(self.activation(self.dense(self.dropout(x)))))
        return logits


class FirstTokenClassifier(TextClassifier):
    """The encoder without pooler and a head of two layers, or an MLP of the sizes `hidden`, on the first token."""

    def __init__(self, config: EncoderConfig, labels: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, pooler=False)
        self.first_token = None if hidden else FirstTokenHead(config, labels)
        self.dropout = nn.Dropout(config.head_dropout_prob)  # before an MLP
        self.mlp = MLP(config.hidden_size, hidden, labels) if hidden else None

    @property
    def output(self) -> nn.Linear:
        if self.mlp is not None:
            return self.mlp.output
        assert self.first_token is not None
        return self.first_token.out

    def features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The first token's vector, (batch, H)."""
        states: Tensor = self.encoder(input_ids, attention_mask, token_type_ids).sequence_output
        return states[:, 0]

    def head(self, features: Tensor) -> Tensor:
        if self.mlp is not None:
            features = self.dropout(features)
        head = self.first_token if self.mlp is None else self.mlp
        assert head is not None
        logits: Tensor = head(features)
        return logits


class MeanClassifier(TextClassifier):
    """The encoder without pooler and, on the mean of its last hidden states, one linear layer or an MLP.

    transformers has no such class, so that the one layer is an `mlp` without hidden layers.
    """

    mlp: MLP

    def __init__(self, config: EncoderConfig, labels: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, pooler=False)
        self.dropout = nn.Dropout(config.head_dropout_prob)
        self.mlp = MLP(config.hidden_size, hidden, labels)
        if not hidden:
            initialise(self.mlp.output, config.initializer_range)

    @property
    def output(self) -> nn.Linear:
        return self.mlp.output

    def features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The mean over all tokens but padding, [CLS] and [SEP] among them: (batch, H)."""
        states: Tensor = self.encoder(input_ids, attention_mask, token_type_ids).sequence_output
        if attention_mask is None:
            return states.mean(1)
        kept = attention_mask.to(states.dtype)[:, :, None]
        return (states * kept).sum(1) / kept.sum(1)

    def head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.mlp(self.dropout(features))
        return logits


def text_classifier(
    config: EncoderConfig, labels: int, hidden: Sequence[int] = (), pooling: str | None = None
) -> TextClassifier:
    """The classifier of texts in the form of the model's family, which transformers computes too; or on the `pooling`
    "mean" of its hidden states."""
    if pooling is not None:
        return MeanClassifier(config, labels, hidden)
    of_first_token = family_of(config).text_head == "first_token"
    return (FirstTokenClassifier if of_first_token else Classifier)(config, labels, hidden)


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


class TokenClassifier(nn.Module):
    """A linear layer to the labels of every token."""

    mlp = None
    features = None  # what the head reads is every token's

    def __init__(self, config: EncoderConfig, labels: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, pooler=False)
        self.dropout = nn.Dropout(config.head_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, labels)
        initialise(self.classifier, config.initializer_range)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Logits (batch, tokens, labels). Arguments as `Encoder.forward`."""
        sequence_output = self.encoder(input_ids, attention_mask, token_type_ids).sequence_output
        logits: Tensor = self.classifier(self.dropout(sequence_output))
        return logits

    @property
    def output(self) -> nn.Linear:
        """The layer that gives the logits."""
        return self.classifier


class MultipleChoice(nn.Module):
    """One logit for each choice, of the pooled output, or with `summary` (ELECTRA) of a summary of the first token."""

    mlp = None
    features = None  # questions have different numbers of choices

    def __init__(self, config: EncoderConfig, *, summary: bool = False) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, pooler=not summary)
        self.summary = nn.Linear(config.hidden_size, config.hidden_size) if summary else None
        self.dropout = nn.Dropout(config.head_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, 1)
        for part in (self.summary, self.classifier):
            if part is not None:
                initialise(part, config.initializer_range)
        # What all choices share moves no softmax over them: see QuestionAnswering.
        self.classifier.bias.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]

    @property
    def output(self) -> nn.Linear:
        """The layer that gives the logits."""
        return self.classifier

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        choice_mask: Tensor | None = None,
    ) -> Tensor:
        """(batch, choices, tokens) each -> logits (batch, choices).

        Where `choice_mask` (batch, choices) is false there is no choice, and the logit is the least that there is.
        """
        flat = [None if x is None else x.flatten(0, 1) for x in (input_ids, attention_mask, token_type_ids)]
        output = self.encoder(*flat)
        features = output.pooled_output
        if self.summary is not None:
            features = F.gelu(self.summary(output.sequence_output[:, 0]))
        logits: Tensor = self.classifier(self.dropout(features)).view(input_ids.shape[:2])
        if choice_mask is not None:
            logits = logits.masked_fill(~choice_mask, torch.finfo(logits.dtype).min)
        return logits


class BiEncoder(nn.Module):
    """An encoder alone, that gives several texts a vector each.

    `pool` makes vectors (texts, dims) of the states (tokens, H) of texts that follow one another, where text i has the
    states `offsets[i]` to `offsets[i + 1]`.
    """

    mlp = None
    features = None  # the encoder is all that there is to be trained
    output = None

    def __init__(self, config: EncoderConfig, pool: Pool) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, pooler=False)
        self.pool = pool

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        choice_mask: Tensor | None = None,
    ) -> Tensor:
        """(batch, texts, tokens) each -> vectors (batch, texts, dims).

        Where `choice_mask` (batch, texts) is false there is no text, and the vector is that of another.
        """
        flat = [None if x is None else x.flatten(0, 1) for x in (input_ids, attention_mask, token_type_ids)]
        states = self.encoder(*flat).sequence_output
        mask = torch.ones(states.shape[:2], device=states.device) if flat[1] is None else flat[1]
        offsets = F.pad(mask.sum(1).long().cumsum(0), (1, 0)).cpu().numpy()
        vectors = self.pool(states[mask.bool()], offsets)
        return vectors.view(*input_ids.shape[:2], -1)


TaskModel = TextClassifier | QuestionAnswering | TokenClassifier | MultipleChoice | BiEncoder


def without_dropout(model: nn.Module) -> None:
    """Turn all dropout off for good, in training mode too."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, Layer):
            part.probs_dropout_prob = 0.0
