"""What can go wrong with a checkpoint. Each message is one line: what, where, value seen, value wanted, what to do."""


class CheckpointError(Exception):
    """Any fault of a checkpoint, its place on disk, or the request made of it."""


class FormatError(CheckpointError):
    """The format of a source or target cannot be told, or is ambiguous."""


class ConfigError(CheckpointError):
    """A configuration is missing, malformed or contradicts itself."""


class CorruptError(CheckpointError):
    """A file is truncated, damaged or not what its name says."""


class SpecError(CheckpointError):
    """Tensors are missing, unknown or of another shape than the configuration asks for."""


class TargetError(CheckpointError):
    """A target exists already, cannot be written, or is the source itself."""


class MissingLibraryError(CheckpointError):
    """An optional library is not installed."""
