"""Rows ready for a model: tokens or cached features, and targets; and running a model over all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from albert_cli.batching import evaluation_batches
from albert_cli.tokenization.batch import TokenBatch

# Several labels of a text may be right (`labels`): models of other origin alone, for no task here trains one.
Kind = str
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Rows:
    """`tokens`, or `features` (rows, H) in their stead; `targets`: classes or values (rows), or spans (rows, 2)."""

    tokens: TokenBatch | None
    targets: Tensor | None = None
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features) if self.features is not None else len(self.tokens or ())

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """Tokens per row; None where every row costs the same."""
        return None if self.features is not None or self.tokens is None else self.tokens.lengths

    def inputs(self, rows: NDArray[np.int64], device: torch.device, length: int | None = None) -> dict[str, Tensor]:
        """The model's arguments, as wide as the longest row or `length`.

        A mask only where there is padding, token types only where there is a second text.
        """
        if self.features is not None:
            return {"features": self.features[torch.from_numpy(rows)].to(device)}
        assert self.tokens is not None
        padded = self.tokens.padded(rows, length=length)
        if padded["attention_mask"].all():
            del padded["attention_mask"]
        if not padded["token_type_ids"].any():
            del padded["token_type_ids"]
        return {name: torch.from_numpy(array).to(device) for name, array in padded.items()}


def loss_sum(kind: Kind, logits: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """The loss, summed over the rows: cross-entropy, squared error, or the mean cross-entropy of start and end.

    `mask` (rows, tokens): 0 at padding, which has no part in the softmax over tokens, so that the loss of a row does
    not depend on the rows beside it.
    """
    logits = logits.float()
    if kind == "regression":
        return F.mse_loss(logits[:, 0], targets, reduction="sum")
    if kind == "classification":
        return F.cross_entropy(logits, targets, reduction="sum")
    if mask is not None:
        logits = logits.masked_fill(mask[:, :, None] == 0, -torch.inf)
    ends = [F.cross_entropy(logits[:, :, side], targets[:, side], reduction="sum") for side in (0, 1)]
    return (ends[0] + ends[1]) / 2


def infer(
    model: nn.Module,
    rows: Rows,
    *,
    device: torch.device,
    forward: Callable[..., Tensor] | None = None,
    share: tuple[int, int] = (0, 1),
    tick: Tick | None = None,
) -> dict[int, NDArray[np.float32]]:
    """Run `forward` (the model itself by default) in eval mode over the rows; outputs by row, of its own length.

    `share` (rank, processes): this process's part of the batches. `tick` is told the rows of each batch.
    """
    outputs: dict[int, NDArray[np.float32]] = {}
    was_training = model.training
    model.eval()
    lengths = rows.lengths
    try:
        with torch.inference_mode():
            for batch in evaluation_batches(lengths, len(rows))[share[0] :: share[1]]:
                logits = (forward or model)(**rows.inputs(batch, device)).float().cpu().numpy()
                for row, output in zip(batch.tolist(), logits, strict=True):
                    outputs[row] = output[: lengths[row]] if output.ndim == 2 and lengths is not None else output
                if tick:
                    tick(len(batch))
    finally:
        model.train(was_training)
    return outputs


def mean_loss(kind: Kind, outputs: list[NDArray[Any]], targets: Tensor) -> float:
    """The mean loss over all rows, from their outputs; of a regression in float64, in the square of its unit."""
    if kind == "regression":
        return float(np.mean((np.stack(outputs)[:, 0].astype(np.float64) - targets.double().numpy()) ** 2))
    if kind == "answers":
        pairs = zip(outputs, targets, strict=True)
        return sum(float(loss_sum(kind, torch.from_numpy(a)[None], b[None])) for a, b in pairs) / len(outputs)
    return float(loss_sum(kind, torch.from_numpy(np.stack(outputs)), targets)) / len(outputs)
