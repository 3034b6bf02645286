"""Faults of what is asked of a model, beside those of the model itself (converters.errors)."""

from converters.errors import CheckpointError


class TokenizerError(CheckpointError):
    """A tokenizer is not there, or cannot do what is asked of it."""


class TextError(CheckpointError):
    """A text file cannot be read as text."""
