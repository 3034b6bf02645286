"""The scale of a regression's labels: trained on as if mean 0 and spread 1, whatever their unit.

The fixed size of a step of Adam would never carry a fresh head to labels such as 100,000. The model that is saved has
mean and spread in its last layer, so that whoever loads it reads predictions in the labels' own unit.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from albert_cli.model.task_heads import Classifier
    from albert_cli.training.inference import Rows


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

    def standard(self, rows: Rows) -> Rows:
        """Rows with the targets that the model is trained on: (label - mean) / spread, in float32."""
        assert rows.targets is not None
        return dataclasses.replace(rows, targets=((rows.targets.double() - self.mean) / self.spread).float())

    def labels(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Outputs (or standard targets) in the labels' unit, float64; as they are where there is no scale."""
        return outputs if self.identity else outputs.astype("float64") * self.spread + self.mean

    @contextlib.contextmanager
    def folded(self, model: Classifier) -> Iterator[None]:
        """Within, the model's last layer gives outputs in the labels' unit; afterwards it has its very bits again."""
        import torch

        layer = model.output
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
