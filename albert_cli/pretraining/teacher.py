"""The teacher: a Hugging Face encoder whose mean-pooled last hidden states are sentence vectors.

A sentence-transformers directory of that kind is one. Needed while training only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from albert_cli.batching import by_length
from albert_cli.errors import TrainingError
from converters.config import parse_json
from converters.files import read_optional
from converters.libraries import require_library
from converters.messages import listing
from converters.sentence_files import pooling_of

# Tokens of a text at most, and of texts that are computed at once, padding included.
_MOST_TOKENS = 256
_BATCH_TOKENS = 2048


class Teacher:
    """A Hugging Face encoder with mean pooling. Raises TrainingError for a directory that holds none."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        require_library("transformers", "--teacher")
        import transformers

        pooling = parse_json(read_optional(directory / "1_Pooling" / "config.json") or b"{}", str(directory))
        if not isinstance(pooling, dict) or pooling_of(pooling) != "mean":
            raise TrainingError(f"{directory}: its vectors are not means of the hidden states (1_Pooling/config.json)")
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        # Its table of what was not loaded: heads are not wanted, and what is missing is reported below.
        transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
            model, found = transformers.AutoModel.from_pretrained(
                directory, local_files_only=True, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise TrainingError(f"{directory}: no Hugging Face encoder to learn from ({reason})") from None
        missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
        if missing:
            raise TrainingError(f"{directory}: lacks weights of its encoder ({listing(missing)})")
        self.model = model.eval().to(device)
        self.device = device

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str], *, special_tokens: bool = True) -> NDArray[np.float32]:
        """Vectors of length 1, (texts, dimensions)."""
        encoded = self.tokenizer(
            list(texts), truncation=True, max_length=_MOST_TOKENS, add_special_tokens=special_tokens, verbose=False
        )["input_ids"]
        found = np.zeros((len(texts), self.model.config.hidden_size), np.float32)
        for rows in by_length(np.array([len(row) for row in encoded], np.int64), _BATCH_TOKENS):
            padded = self.tokenizer.pad({"input_ids": [encoded[row] for row in rows]}, return_tensors="pt")
            batch = {name: tensor.to(self.device) for name, tensor in padded.items()}
            if batch["input_ids"].shape[1]:
                states = self.model(**batch).last_hidden_state.float()
                mask = batch["attention_mask"][..., None].float()
                means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
                found[rows] = F.normalize(means, dim=-1).cpu().numpy()
        return found
