"""The model a command uses when none is named: the one place to change when there is a built-in one."""

from __future__ import annotations

from pathlib import Path

from converters.errors import CheckpointError


def named_or_default(model: Path | None) -> Path:
    """The model that was named; CheckpointError where none was."""
    if model is None:
        raise CheckpointError(
            "no model is named and none is built in; pass --model with a model of any format, a .model or a .vocab"
        )
    return model
