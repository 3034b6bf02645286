"""What a frozen encoder gives of each row: computed once, and kept in a file while training may be resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from albert_cli.errors import TrainingError
from albert_cli.memory import out_of_memory
from albert_cli.runs.events import Counter, Report
from albert_cli.tensor_files import read_tensors, write_tensors
from albert_cli.training.inference import infer_shared
from albert_cli.training.rows import FeatureRows, Split
from albert_cli.training.run_info import RunInfo
from converters.errors import CorruptError


class FeatureCache:
    """Features in files of a directory, each named by a hash of all that they depend on.

    `forward` gives the features of a batch, (batch, H).
    """

    def __init__(
        self,
        directory: Path,
        model: nn.Module,
        forward: Callable[..., Tensor],
        accelerator: Accelerator,
        info: RunInfo,
        report: Report,
    ) -> None:
        self.directory, self.model, self.forward, self.accelerator = directory, model, forward, accelerator
        self.info, self.report = info, report
        self.written: list[Path] = []

    def rows(self, split: Split[Any]) -> FeatureRows:
        """The rows of a split with their features, computed unless they are in a file."""
        path = self.directory / f"features-{self._fingerprint(split)}.safetensors"
        self.written.append(path)
        if path.exists():
            features = read_tensors(path, "the features of a frozen encoder", "remove it").get("features")
            if features is None or len(features) != len(split.rows):
                raise CorruptError(path, f"not the features of {len(split.rows)} rows", "remove it")
        else:
            features = self._compute(split)
            if self.accelerator.is_main_process:
                write_tensors(path, {"features": features})
            self.accelerator.wait_for_everyone()
        return FeatureRows(features, split.rows.targets)

    def remove(self) -> None:
        """Remove the files of the splits."""
        for path in self.written:
            path.unlink(missing_ok=True)

    def _compute(self, split: Split[Any]) -> Tensor:
        accelerator = self.accelerator
        limit = self.info.max_length
        message = f"out of memory while computing the features of the frozen encoder; lower --max-length ({limit})"
        with accelerator.autocast(), out_of_memory(lambda: message, TrainingError):
            tick = Counter(self.report, "features", "rows", len(split.rows))
            outputs = infer_shared(accelerator, self.model, split.rows, forward=self.forward, tick=tick)
        return torch.from_numpy(np.stack(outputs))

    def _fingerprint(self, split: Split[Any]) -> str:
        """Of all that the features depend on: the model, the tokens, the precision."""
        sha = hashlib.sha256(self.info.hashes["model"].encode() + self.accelerator.mixed_precision.encode())
        sha.update((self.info.pooling or "").encode())
        tokens = split.rows.tokens
        for array in (tokens.ids, tokens.token_type_ids, tokens.starts):
            sha.update(array.tobytes())
        return sha.hexdigest()[:16]
