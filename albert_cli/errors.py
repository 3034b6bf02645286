"""Errors of the commands, beside those of checkpoints (converters.errors); and notices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converters.errors import AlbertError, UsageError


class Notice(UserWarning):
    """What the user should know although the work is done; a command prints it once, in one line."""


class TokenizerError(AlbertError):
    """A tokenizer is not there, or cannot do what is asked of it."""


class TextError(AlbertError):
    """A text file cannot be read as text."""


class DeviceError(AlbertError):
    """A device to compute on is not there, or cannot compute as asked."""


class ThreadsError(AlbertError):
    """The system gives no more threads."""

    LINE = "no more threads may be started; raise the limit (ulimit -u, or that of the container)"

    def __init__(self, where: Path | str = LINE, detail: str | None = None, advice: str = "") -> None:
        super().__init__(where, detail, advice)


class EmbeddingError(AlbertError):
    """Vectors cannot be made, stored or compared as asked."""


class ModelError(AlbertError):
    """A model that was named cannot be found or fetched."""


class DataError(AlbertError):
    """Rows, columns or labels of a data set are not what the task asks for."""


class ColumnError(DataError):
    """A table lacks columns, or has several of one name. `missing`: the columns that are not there."""

    def __init__(
        self, where: Path | str, detail: str | None = None, advice: str = "", *, missing: Sequence[str] = ()
    ) -> None:
        super().__init__(where, detail, advice)
        self.missing = tuple(missing)


class UnknownTaskError(DataError, UsageError):
    """A task that is not one of those there are."""


class NoDataError(DataError, UsageError):
    """A task needs data that was not named."""


class TrainingError(AlbertError):
    """Training cannot start or continue."""


class LostProcessError(TrainingError):
    """Another process of the same run has ended."""


class RunError(AlbertError):
    """A run directory is missing, unfinished or of another kind than the request needs."""


class RunUsageError(RunError, UsageError):
    """Options that do not go together were given for a run."""


class ExportError(AlbertError):
    """A model cannot be exported, or its export does not give the model's outputs."""


class HeadError(AlbertError):
    """A pre-training head is not there, or cannot judge the texts it is given."""


class ServerError(AlbertError):
    """The server cannot be had at that address."""
