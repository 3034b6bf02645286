"""The optimizer of a fine-tuning run: AdamW with the decay, the moments and the rates by layer of its settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from albert_cli.runs.optimizer import BETAS, EPSILON, UncorrectedAdamW, parameter_groups, trainable

if TYPE_CHECKING:
    from albert_cli.training.settings import Settings
    from converters.config import EncoderConfig

_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
_LOWEST = ("encoder.embeddings.", "encoder.projection.")


@dataclass(frozen=True)
class Rated:
    """An optimizer, and for each of its groups the share of the learning rate that it has."""

    optimizer: torch.optim.Optimizer
    shares: list[float]

    def set_rate(self, rate: float) -> None:
        """Give every group its share of a learning rate."""
        for group, share in zip(self.optimizer.param_groups, self.shares, strict=True):
            group["lr"] = rate * share


def share_of(name: str, config: EncoderConfig, decay: float) -> float:
    """The share of the learning rate of a parameter: of a head all of it, of the layer N (from 0) of L decay^(L+1-N).

    Of embeddings and projection decay^(L+2). google-research/electra: model/optimization.py, _get_layer_lrs.
    """
    layers = config.num_hidden_layers
    if name.startswith(_LOWEST):
        return decay ** (layers + 2)
    found = _LAYER.match(name)
    return decay ** (layers + 1 - int(found[1])) if found else 1.0


def make(model: nn.Module, settings: Settings) -> Rated:
    """AdamW over what is trained of a model: no weight decay for biases and norms."""
    by_share: dict[float, list[Any]] = {}
    for name, item in trainable(model):
        share = 1.0 if settings.layer_decay == 1 else share_of(name, model.config, settings.layer_decay)  # type: ignore[arg-type]
        by_share.setdefault(share, []).append((name, item))
    groups, shares = [], []
    for share, named in by_share.items():
        for group in parameter_groups(named, weight_decay=settings.weight_decay):
            groups.append(group)
            shares.append(share)
    moments: dict[str, Any] = {"lr": settings.learning_rate, "betas": (BETAS[0], settings.beta2), "eps": EPSILON}
    if settings.bias_correction:
        return Rated(torch.optim.AdamW(groups, **moments, fused=True), shares)
    return Rated(UncorrectedAdamW(groups, **moments), shares)
