"""One file, one exporter: what `albert convert` writes for other programs to run, from our PyTorch model.

A module here is an exporter by existing. Unlike a format (`converters.formats`) it writes what is not read back as a
model, and it may need PyTorch. Each defines `NAME`, `DESCRIPTION`, `SUFFIX` (of a target that is one file),
`check(target, force=…, source=…)`, which refuses a target before any work, and
`export(checkpoint, target, force=…) -> Exported`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True)
class Exported:
    """What an export did, and its check: the largest difference between its outputs and PyTorch's on `shapes`.

    `shapes` are (batch, tokens); `left_out` names the heads that the model has and the export has not.
    """

    source: str
    target: str
    source_format: str
    target_format: str
    parameters: int
    bytes: int
    shapes: Sequence[tuple[int, int]]
    max_abs_difference: float
    allowed_difference: float
    left_out: Sequence[str]
    tokenizer: str


def exporters() -> dict[str, ModuleType]:
    """Every exporter by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {module.NAME: module for module in modules}


def asked_for(target: Path, name: str | None) -> ModuleType | None:
    """The exporter that `--to`, or else the target's suffix, asks for; None where it is a format of the converters."""
    known = exporters()
    if name is not None:
        return known.get(name)
    return next(
        (module for module in known.values() if target.suffix.lower() == module.SUFFIX and not target.is_dir()), None
    )
