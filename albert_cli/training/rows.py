"""Rows ready for a model: tokens or cached features with their targets; and what a model says of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.tokenization.batch import TokenBatch

E = TypeVar("E")
V = TypeVar("V")


def no_targets() -> Tensor:
    """Those of rows without labels."""
    return torch.empty(0)


class Rows(Protocol):
    """What a model is trained or run on, row by row."""

    @property
    def targets(self) -> Tensor:
        """Classes or values (rows), or spans (rows, 2); empty where there are no labels."""

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """Tokens per row; None where every row costs the same."""

    def __len__(self) -> int: ...

    def inputs(self, rows: NDArray[np.int64], device: torch.device, length: int | None = None) -> dict[str, Tensor]:
        """The model's arguments for these rows, as wide as the longest of them or `length`."""

    def with_targets(self, targets: Tensor) -> Rows:
        """The same rows with other targets."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens."""

    tokens: TokenBatch
    targets: Tensor = field(default_factory=no_targets)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.tokens.lengths

    @property
    def cut(self) -> int:
        """How many rows are cut to the model's length."""
        return int((self.tokens.truncated > 0).sum())

    def inputs(self, rows: NDArray[np.int64], device: torch.device, length: int | None = None) -> dict[str, Tensor]:
        """Ids (rows, width), a mask only where there is padding, token types only where there is a second text."""
        padded = self.tokens.padded(rows, length=length)
        if padded["attention_mask"].all():
            del padded["attention_mask"]
        if not padded["token_type_ids"].any():
            del padded["token_type_ids"]
        return {name: torch.from_numpy(array).to(device) for name, array in padded.items()}

    def with_targets(self, targets: Tensor) -> TokenRows:
        return dataclasses.replace(self, targets=targets)


@dataclass(frozen=True)
class FeatureRows:
    """Rows of `features` (rows, H) that a frozen encoder gave, in place of their tokens."""

    features: Tensor
    targets: Tensor = field(default_factory=no_targets)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def lengths(self) -> None:
        return None

    def inputs(self, rows: NDArray[np.int64], device: torch.device, length: int | None = None) -> dict[str, Tensor]:
        """The features of these rows; they have no length."""
        return {"features": self.features[torch.from_numpy(rows)].to(device)}

    def with_targets(self, targets: Tensor) -> FeatureRows:
        return dataclasses.replace(self, targets=targets)


@dataclass(frozen=True)
class Split(Generic[E]):
    """One data set as read, and as the model takes it."""

    examples: E
    rows: TokenRows


@dataclass(frozen=True)
class Predictions(Generic[V]):
    """`outputs` are logits by row (windows, for questions); `values` what they mean, one per row (or question)."""

    outputs: list[NDArray[Any]]
    values: V


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """The probabilities of logits (…, classes), in float64."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(axis=-1, keepdims=True)
    return shares
