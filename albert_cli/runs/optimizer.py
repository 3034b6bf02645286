"""What both trainings do in an update: AdamW with Google's decay rules, and the refusal of what is not finite."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

# Google's exclude_from_weight_decay (optimization.py, create_optimizer), and the batch norm of MLP heads.
NO_DECAY = re.compile(r"norm|bias")
WEIGHT_DECAY, BETAS, EPSILON = 0.01, (0.9, 0.999), 1e-6
# The gradient's norm at most (the same place).
CLIP = 1.0

Named = Iterable[tuple[str, Tensor]]


def trainable(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters with gradients, by name."""
    return [(name, item) for name, item in model.named_parameters() if item.requires_grad]


def parameter_groups(named: Named, *, weight_decay: float = WEIGHT_DECAY) -> list[dict[str, Any]]:
    """Two groups of an optimizer: with weight decay, and without it (biases and norms)."""
    named = list(named)
    return [
        {"params": [item for name, item in named if not NO_DECAY.search(name)], "weight_decay": weight_decay},
        {"params": [item for name, item in named if NO_DECAY.search(name)], "weight_decay": 0.0},
    ]


def adamw(named: Named, learning_rate: float) -> torch.optim.AdamW:
    """AdamW over named parameters; decay 0.01, but none for biases and norms."""
    return torch.optim.AdamW(parameter_groups(named), lr=learning_rate, betas=BETAS, eps=EPSILON, fused=True)


class UncorrectedAdamW(torch.optim.Optimizer):
    """AdamW whose moments are not corrected for having begun at 0, as Google's (bert optimization.py)."""

    def __init__(self, params: Any, lr: float, *, betas: tuple[float, float] = BETAS, eps: float = EPSILON) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; `closure` is not called."""
        for group in self.param_groups:
            parameters = [item for item in group["params"] if item.grad is not None]
            if not parameters:
                continue
            for item in parameters:
                if not self.state[item]:
                    self.state[item] = {"exp_avg": torch.zeros_like(item), "exp_avg_sq": torch.zeros_like(item)}
            gradients = [item.grad for item in parameters]
            means = [self.state[item]["exp_avg"] for item in parameters]
            squares = [self.state[item]["exp_avg_sq"] for item in parameters]
            beta1, beta2 = group["betas"]
            torch._foreach_lerp_(means, gradients, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_add_(roots, group["eps"])
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_addcdiv_(parameters, means, roots, -group["lr"])


def not_finite(loss: float, norm: Any, accelerator: Accelerator) -> str | None:
    """Which of an update's loss and gradient norm is not finite, in words; None where both are.

    With fp16 an infinite gradient is usual: the scaler skips the step and lowers its scale.
    """
    if not math.isfinite(loss):
        return f"the loss became {loss}"
    if norm is not None and accelerator.scaler is None and not math.isfinite(float(norm)):
        return f"the gradient's norm became {float(norm)}"
    return None
