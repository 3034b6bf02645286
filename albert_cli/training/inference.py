"""Running a model over all rows, alone or with other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from albert_cli.batching import evaluation_batches
from albert_cli.training.rows import Rows

Tick = Callable[[int], None]
# Tokens computed at once by default. On a CPU more of them are slower, as they leave its caches, and take more memory.
_TOKENS = {"cpu": 2048}
_TOKENS_OF_CARDS = 8192


def infer(
    model: nn.Module,
    rows: Rows,
    *,
    device: torch.device,
    forward: Callable[..., Tensor] | None = None,
    share: tuple[int, int] = (0, 1),
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> dict[int, NDArray[np.float32]]:
    """Run `forward` (the model itself by default) in eval mode over the rows; outputs by row, of its own length.

    `share` (rank, processes): this process's part of the batches. `batch_tokens`: how many tokens are computed at once.
    `tick` is called with the rows of each batch.
    """
    outputs: dict[int, NDArray[np.float32]] = {}
    was_training = model.training
    model.eval()
    lengths, tokens = rows.lengths, batch_tokens or _TOKENS.get(device.type, _TOKENS_OF_CARDS)
    try:
        with torch.inference_mode():
            for batch in evaluation_batches(lengths, len(rows), tokens=tokens)[share[0] :: share[1]]:
                logits = (forward or model)(**rows.inputs(batch, device)).float().cpu().numpy()
                for row, output in zip(batch.tolist(), logits, strict=True):
                    outputs[row] = output[: lengths[row]] if output.ndim == 2 and lengths is not None else output
                if tick:
                    tick(len(batch))
    finally:
        model.train(was_training)
    return outputs


def infer_shared(
    accelerator: Accelerator,
    model: nn.Module,
    rows: Rows,
    *,
    forward: Callable[..., Tensor] | None = None,
    tick: Tick | None = None,
) -> list[NDArray[Any]]:
    """The outputs of all rows, in order, of which each process computes its share."""
    share = (accelerator.process_index, accelerator.num_processes)
    outputs = infer(model, rows, device=accelerator.device, forward=forward, share=share, tick=tick)
    if accelerator.num_processes > 1:
        outputs = dict(gather_object(list(outputs.items())))
    return [outputs[row] for row in range(len(rows))]
