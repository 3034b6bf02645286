"""How much each label counts in training, and how sure its targets are (`--class-weights`, `--label-smoothing`)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from albert_cli.errors import TrainingError
from converters.messages import brief, listing

if TYPE_CHECKING:
    from torch import Tensor

BALANCED = "balanced"
# The target of what has no label; PyTorch's.
NO_LABEL = -100
_ONE = re.compile(r"\s*(?P<label>.+?)\s*=\s*(?P<weight>[^=,\s]+)\s*(?:,|$)")


@dataclass(frozen=True)
class Weighing:
    """What training makes of each label: its weight (none: all alike), and `smoothing`, the share of a target that is
    spread over all labels (arXiv 1512.00567, section 7). The loss is that of PyTorch's CrossEntropyLoss."""

    weights: tuple[float, ...] = ()
    smoothing: float = 0.0

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum over the targets (rows) of logits (rows, labels), but for those that are NO_LABEL."""
        import torch
        from torch.nn import functional as F

        weights = torch.tensor(self.weights, device=logits.device) if self.weights else None
        return F.cross_entropy(
            logits, targets, weights, ignore_index=NO_LABEL, reduction="sum", label_smoothing=self.smoothing
        )

    def units(self, targets: Tensor) -> float:
        """What that sum is divided by for the mean, as PyTorch has it: the labels, each by its weight."""
        import torch

        found = targets[targets != NO_LABEL]
        return float(torch.tensor(self.weights)[found.long()].sum()) if self.weights else len(found)


PLAIN = Weighing()


def named_weights(text: str) -> dict[str, float] | None:
    """The weights by label in "a=2,b=0.5"; {} for "balanced", None where it is neither. A label may have commas."""
    if text == BALANCED:
        return {}
    found: dict[str, float] = {}
    end = 0
    while end < len(text):
        one = _ONE.match(text, end)
        try:
            weight = float(one["weight"]) if one else math.nan
        except ValueError:
            weight = math.nan
        if one is None or not 0 < weight < math.inf or one["label"] in found:
            return None
        found[one["label"]], end = weight, one.end()
    return found or None


def weighing_of(
    class_weights: str | None,
    smoothing: float | None,
    labels: Sequence[str],
    counts: Sequence[int] | None,
    task: str,
) -> Weighing:
    """That of a run whose training set has `counts` of each label; None: these cannot be weighed (TrainingError).

    balanced: a label's weight is all labels / (their number * its own), as scikit-learn has it; of one that is not
    there it is 1.
    """
    asked = {"--class-weights": class_weights, "--label-smoothing": smoothing}
    if not any(asked.values()):
        return PLAIN
    if counts is None:
        given = " and ".join(option for option, value in asked.items() if value)
        raise TrainingError(f"{given}: for one label of several a row, or a word, which {task} has not; leave it out")
    named = named_weights(class_weights) if class_weights else None
    if named is None:
        return Weighing((), smoothing or 0.0)
    if class_weights == BALANCED:
        there = sum(count > 0 for count in counts)
        return Weighing(tuple(sum(counts) / (there * count) if count else 1.0 for count in counts), smoothing or 0.0)
    if unknown := [label for label in named if label not in labels]:
        raise TrainingError(f"--class-weights names {listing(map(brief, unknown))}; the labels are {listing(labels)}")
    return Weighing(tuple(named.get(label, 1.0) for label in labels), smoothing or 0.0)


def described(weights: Mapping[str, float]) -> str:
    """The weights of labels in a few words, the most different ones where they are many."""
    shown = sorted(weights, key=lambda label: -abs(math.log(weights[label])))[:12]
    more = ", …" if len(weights) > len(shown) else ""
    return "weights: " + ", ".join(f"{label} {weights[label]:.4g}" for label in weights if label in shown) + more
