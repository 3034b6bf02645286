"""The losses of pretraining: masked words, sentence order, and the vectors of a teacher.

Google's run_pretraining.py (get_masked_lm_output, get_sentence_order_output): each loss is a mean over its labels, and
their sum is minimised.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining.sequences import NO_ORDER

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


@dataclass(frozen=True)
class Sentences:
    """Sentences (rows, tokens) and the teacher's vectors of them (rows, H), of length 1."""

    input_ids: Tensor
    attention_mask: Tensor | None
    vectors: Tensor


class Objective(nn.Module):
    """All of a step's losses in one forward pass, so that wrappers for many processes see every parameter used."""

    def __init__(self, model: PreTrainingModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, sentences: Sentences | None = None) -> dict[str, Tensor]:
        """Sums over labels (`mlm`, `sop`), how many were right, and the teacher's loss (`teacher`, a mean)."""
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


def teacher_loss(vectors: Tensor, wanted: Tensor) -> Tensor:
    """1 - cosine, and the squared error of the matrix of similarities among the batch; both of unit vectors."""
    direct = 1 - (vectors * wanted).sum(-1).mean()
    among = F.mse_loss(vectors @ vectors.T, wanted @ wanted.T)
    return direct + SIMILARITY_WEIGHT * among
