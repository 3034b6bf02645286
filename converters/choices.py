"""Choices: what only the user can say of a model, as its files do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.errors import FormatError

# The choices by name: the option, and why a format that does not take it has no use for it.
_OPTIONS = {
    "config": ("--model-config", "has a config of its own", "edit that one"),
    "heads": ("--heads", "has a config of its own", "edit that one"),
    "head": ("--classification-head", "holds no heads of one kind under several names", "leave it out"),
    "part": ("--part", "holds one model", "leave it out"),
}


@dataclass(frozen=True)
class Choices:
    """`config`: a file of settings that override, or complete, what is found. `heads`: the number of attention heads.
    `part`: which of the models in one checkpoint (of an ELECTRA: discriminator or generator). `head`: the name of the
    classification head, of a model that may have several (fairseq's)."""

    config: Path | None = None
    heads: int | None = None
    part: str | None = None
    head: str | None = None

    def check(self, taken: Collection[str], path: Path, format: str) -> None:
        """FormatError for a choice that the format does not take."""
        for item in dataclasses.fields(self):
            if getattr(self, item.name) is not None and item.name not in taken:
                option, why, advice = _OPTIONS[item.name]
                raise FormatError(path, f"{format} {why}, so it takes no {option}; {advice}")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that are said one by one."""
        return {} if self.heads is None else {"num_attention_heads": self.heads}


NONE = Choices()
