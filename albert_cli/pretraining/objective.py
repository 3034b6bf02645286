"""The losses of pretraining: masked words, sentence order, and the vectors of a teacher.

Google's run_pretraining.py (get_masked_lm_output, get_sentence_order_output): each loss is a mean over its labels, and
their sum is minimised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining.masking import Masked
from albert_cli.pretraining.sequences import NO_ORDER, Tokens

# The batch's matrix of similarities, beside 1 - cosine of each vector.
SIMILARITY_WEIGHT = 5.0


@dataclass(frozen=True)
class Batch:
    """One part of a batch. `masked`: rows, columns and labels of the masked tokens, (3, n); `orders` (rows)."""

    input_ids: Tensor
    token_type_ids: Tensor
    attention_mask: Tensor | None
    masked: Tensor
    orders: Tensor

    @classmethod
    def of(cls, tokens: Tokens, masked: Masked, rows: NDArray[np.int64], device: torch.device) -> Batch:
        """Those rows of a batch of tokens; a mask only where there is padding."""
        place = np.full(len(tokens.orders), -1, np.int64)
        place[rows] = np.arange(len(rows))
        mine = place[masked.rows] >= 0
        labels = np.stack([place[masked.rows[mine]], masked.columns[mine], masked.labels[mine]])
        mask = tokens.attention_mask[rows]

        def to(array: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        return cls(
            to(masked.input_ids[rows]),
            to(tokens.token_type_ids[rows]),
            None if mask.all() else to(mask),
            to(labels),
            to(tokens.orders[rows]),
        )


@dataclass(frozen=True)
class Sentences:
    """Sentences (rows, tokens) and the teacher's vectors of them (rows, H), of length 1."""

    input_ids: Tensor
    attention_mask: Tensor | None
    vectors: Tensor


# What an objective sums over the labels: the losses of masked words and of sentence order, and how many were right.
SUMS = ("mlm", "sop", "mlm_right", "sop_right")


class Totals:
    """Sums by name, which the processes of a run add up."""

    def __init__(self, *names: str, dtype: torch.dtype = torch.float32) -> None:
        self._names, self._values = names, torch.zeros(len(names), dtype=dtype)

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Add the values of those names, each a scalar of any device."""
        self._values += torch.stack([found[name].detach().float() for name in self._names]).cpu()

    def over(self, accelerator: Accelerator) -> dict[str, float]:
        """The sums over all processes."""
        values = self._values
        if accelerator.num_processes > 1:
            values = accelerator.reduce(values.to(accelerator.device), "sum").cpu()
        return dict(zip(self._names, values.tolist(), strict=True))


class Objective(nn.Module):
    """All of a step's losses in one forward pass, so that wrappers for many processes see every parameter used."""

    def __init__(self, model: PreTrainingModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, sentences: Sentences | None = None) -> dict[str, Tensor]:
        """`SUMS` over the labels, each a scalar, and the teacher's loss (`teacher`, a mean)."""
        model = self.model
        assert model.mlm is not None
        assert model.pair is not None
        output = model.encoder(batch.input_ids, batch.attention_mask, batch.token_type_ids)
        rows, columns, labels = batch.masked
        chosen = output.sequence_output[rows, columns]  # (n, H)
        logits = model.mlm(chosen, model.encoder.embeddings.words.weight).float()  # (n, V)
        orders = model.pair(output.pooled_output).float()  # (rows, 2)
        judged = batch.orders != NO_ORDER
        results = {
            "mlm": F.cross_entropy(logits, labels, reduction="sum"),
            "sop": F.cross_entropy(orders, batch.orders, reduction="sum", ignore_index=NO_ORDER),
            "mlm_right": (logits.argmax(-1) == labels).sum(),
            "sop_right": ((orders.argmax(-1) == batch.orders) & judged).sum(),
        }
        if sentences is not None:
            results["teacher"] = teacher_loss(
                sentence_vectors(model, sentences.input_ids, sentences.attention_mask), sentences.vectors
            )
        return results


def sentence_vectors(model: PreTrainingModel, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The mean of the last hidden states (rows, H), as `albert embed` pools by default; of length 1."""
    states = model.encoder(input_ids, attention_mask).sequence_output.float()
    if attention_mask is None:
        return F.normalize(states.mean(1), dim=-1)
    mask = attention_mask[..., None].to(states.dtype)  # (rows, tokens, 1)
    return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def teacher_loss(vectors: Tensor, targets: Tensor) -> Tensor:
    """1 - cosine, and the squared error of the matrix of similarities among the batch; both of unit vectors."""
    direct = 1 - (vectors * targets).sum(-1).mean()
    among = F.mse_loss(vectors @ vectors.T, targets @ targets.T)
    return direct + SIMILARITY_WEIGHT * among
