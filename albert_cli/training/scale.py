"""The scale of a regression's labels: trained on as if mean 0 and spread 1, whatever their unit.

The fixed size of a step of Adam would never carry a fresh head to labels such as 100,000. The model that is saved has
mean and spread in its last layer, so that its predictions are in the labels' own unit for every program.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn


@dataclass(frozen=True)
class Scale:
    """label = mean + spread * output. `spread` is the standard deviation, 1 where all labels are one."""

    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Scale:
        """The scale of labels; of one value alone, that value and a spread of 1."""
        mean, spread = float(values.mean()), float(values.std())
        return cls(mean, spread if spread > 1e-12 * abs(mean) else 1.0)

    @property
    def identity(self) -> bool:
        return self == Scale()

    def standard(self, targets: Tensor) -> Tensor:
        """The targets that the model is trained on: (label - mean) / spread, in float32; classes and spans as is."""
        return ((targets.double() - self.mean) / self.spread).float() if targets.is_floating_point() else targets

    def labels(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Outputs (or standard targets) in the labels' unit, float64; as they are where there is no scale."""
        return outputs if self.identity else outputs.astype("float64") * self.spread + self.mean

    @contextlib.contextmanager
    def folded(self, layer: nn.Linear | None) -> Iterator[None]:
        """Within, a model's last layer gives outputs in the labels' unit; afterwards it has its very bits again."""
        import torch

        if self.identity:
            yield
            return
        assert layer is not None
        before = [item.detach().clone() for item in (layer.weight, layer.bias)]
        try:
            with torch.no_grad():
                weight, bias = (item.cpu().double() * self.spread for item in before)
                layer.weight.copy_(weight)
                layer.bias.copy_(bias + self.mean)
            yield
        finally:
            with torch.no_grad():
                layer.weight.copy_(before[0])
                layer.bias.copy_(before[1])
