"""The optimizers of pretraining: AdamW, LAMB, and Muon for the matrices of the layers.

LAMB: Google's lamb_optimizer.py for ALBERT, which differs from arXiv 1904.00962, algorithm 2, in two ways: no bias
correction, and biases and norms take Adam's plain step. Muon: Keller Jordan's, as PyTorch has it,
but in the gradients' own precision: torch.optim.Muon computes in bfloat16, which took 23 times as long on a CPU that
has none. AdamW trains what is no matrix of a layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from albert_cli.runs.optimizer import BETAS, EPSILON, WEIGHT_DECAY, adamw, parameter_groups, trainable


def make(name: str, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer | CombinedOptimizer:
    """The optimizer of that name over the model's parameters; decay 0.01, but none for biases and norms."""
    named = trainable(model)
    if name == "lamb":
        # What has no decay is excluded from the layer adaptation, too.
        groups = [group | {"adapt": group["weight_decay"] > 0} for group in parameter_groups(named)]
        return Lamb(groups, lr=learning_rate)
    if name == "muon":
        inner = [item for key, item in named if item.ndim == 2 and ".layers." in key]
        chosen = {id(item) for item in inner}
        rest = [(key, item) for key, item in named if id(item) not in chosen]
        return CombinedOptimizer([Muon(inner, lr=learning_rate), adamw(rest, learning_rate)])
    return adamw(named, learning_rate)


class Lamb(torch.optim.Optimizer):
    """Adam's step without bias correction, scaled for each tensor by the ratio of its norm to the step's.

    The ratio is 1 where either norm is 0, and in groups whose `adapt` is false: a bias that begins at 0 would stay
    there, as its norm would allow it no step.
    """

    def __init__(self, params: Any, lr: float, *, betas: tuple[float, float] = BETAS, eps: float = EPSILON) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "adapt": True})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; `closure` is not called."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                mean, square = state["exp_avg"], state["exp_avg_sq"]
                mean.lerp_(parameter.grad, 1 - beta1)
                square.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                update = mean / (square.sqrt() + group["eps"])
                update.add_(parameter, alpha=group["weight_decay"])
                if group["adapt"]:
                    weight_norm, update_norm = parameter.norm(), update.norm()
                    update *= torch.where((weight_norm > 0) & (update_norm > 0), weight_norm / update_norm, 1.0)
                parameter.sub_(update, alpha=group["lr"])


class Muon(torch.optim.Optimizer):
    """Momentum whose step for each matrix is made orthogonal by five Newton-Schulz iterations.

    The step is scaled to the size of AdamW's (arXiv 2502.16982, section 2.2), so that learning rates are like its own.
    """

    _COEFFICIENTS = (3.4445, -4.7750, 2.0315)
    _ITERATIONS = 5
    _ADAMW_RMS = 0.2  # the root mean square of AdamW's steps, which the paper measured

    def __init__(self, params: Any, lr: float, *, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": WEIGHT_DECAY})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; `closure` is not called."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = []
                for parameter in parameters:
                    state, gradient = self.state[parameter], parameter.grad
                    assert gradient is not None
                    if not state:
                        state["momentum"] = torch.zeros_like(parameter)
                    state["momentum"].lerp_(gradient, 1 - group["momentum"])
                    updates.append(gradient.lerp(state["momentum"], group["momentum"]))
                scale = group["lr"] * self._ADAMW_RMS * max(shape) ** 0.5
                for parameter, update in zip(parameters, self._orthogonal(torch.stack(updates)), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=scale)

    def _orthogonal(self, matrices: Tensor) -> Tensor:
        """Each matrix (n, rows, columns) with its singular values brought near 1."""
        a, b, c = self._COEFFICIENTS
        tall = matrices.shape[1] > matrices.shape[2]
        x = matrices.transpose(1, 2) if tall else matrices
        x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
        for _ in range(self._ITERATIONS):
            gram = x @ x.transpose(1, 2)
            x = a * x + (b * gram + c * gram @ gram) @ x
        result: Tensor = x.transpose(1, 2) if tall else x
        return result


class CombinedOptimizer:
    """Several optimizers used as one; its state has the form of one optimizer's over all their parameters."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """One update of all parts."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The state, as of one optimizer over all parameters."""
        whole: dict[str, Any] = {"state": {}, "param_groups": []}
        for part in self.parts:
            offset = sum(len(group["params"]) for group in whole["param_groups"])
            state = part.state_dict()
            whole["state"] |= {number + offset: slots for number, slots in state["state"].items()}
            whole["param_groups"] += [
                group | {"params": [number + offset for number in group["params"]]} for group in state["param_groups"]
            ]
        return whole

    def load_state_dict(self, whole: dict[str, Any]) -> None:
        """Put a state back that `state_dict` gave."""
        groups, offset = list(whole["param_groups"]), 0
        for part in self.parts:
            mine, groups = groups[: len(part.param_groups)], groups[len(part.param_groups) :]
            numbers = [number for group in mine for number in group["params"]]
            state = {number - offset: whole["state"][number] for number in numbers if number in whole["state"]}
            shifted = [group | {"params": [number - offset for number in group["params"]]} for group in mine]
            part.load_state_dict({"state": state, "param_groups": shifted})
            offset += len(numbers)
