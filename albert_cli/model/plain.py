"""The encoder as it is for inference, padded and masked: for GPUs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from albert_cli.model import hidden_states
from albert_cli.model.encoder import Encoder
from albert_cli.tokenization.batch import TokenBatch


class PlainEncoder:
    """A copy of `model` on `device`, computing in `dtype` (see `hidden_states.InferenceEncoder`)."""

    def __init__(
        self, model: Encoder, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.config, self.device = model.config, torch.device(device)
        self._model = copy.deepcopy(model).to(device=self.device, dtype=dtype).eval()
        self._last = hidden_states.count(model.config) - 1

    chunks_at_once = 1

    @torch.inference_mode()
    def __call__(self, batch: TokenBatch, layers: Sequence[int]) -> list[Tensor]:
        padded = {name: torch.from_numpy(array).to(self.device) for name, array in batch.padded().items()}
        lengths = batch.lengths
        even = lengths.min() == lengths.max()
        # Without a mask a model that counts positions from the id of padding would take that id in a text for padding.
        mask = None if even and not self.config.position_offset else padded["attention_mask"].bool()  # (rows, width)
        only_last = all(layer == self._last for layer in layers)
        output = self._model(
            padded["input_ids"], mask, padded["token_type_ids"], output_hidden_states=not only_last
        )  # states (rows, width, H)
        states = [output.sequence_output if only_last else output.hidden_states[layer] for layer in layers]
        return [(state.flatten(0, 1) if mask is None else state[mask]).float() for state in states]
