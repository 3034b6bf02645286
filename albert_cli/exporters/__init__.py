"""One file, one exporter: what `albert convert` writes for other programs to run, from our PyTorch model.

A module here that has every member of `Exporter` is registered by that. Unlike a format (`converters.formats`) it
writes what is not read back as a model, and it may need PyTorch.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from albert_cli.onnx.quantization import Quantized
    from converters.checkpoint import Checkpoint

AUTO, NONE = "auto", "none"
# The heads that are exported nowhere, and why.
NOT_EXPORTED: Mapping[str, str] = {
    "sbo": "reads the borders of spans, which no program that runs ONNX hands in",
    "squad2": "is not computed here",
    "summary": "is a part of the multiple-choice head (--head choice)",
}


@dataclass(frozen=True)
class Exported:
    """What an export did, and its check: the largest difference between its outputs and PyTorch's on `shapes`.

    `head` is the one that is in it, by its name in `converters.roles.HEADS`, None for the encoder alone; `title` says
    in words what is in it. `shapes` are those of its inputs: (batch, tokens), of a multiple choice (batch, choices,
    tokens). `quantized` is what that cost, of a comparison with the float32 outputs that were checked. `left_out` names
    what the model has and the export has not, `dropped` what was left out when the model was read.
    """

    source: str
    target: str
    source_format: str
    target_format: str
    head: str | None
    title: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    parameters: int
    bytes: int
    shapes: Sequence[tuple[int, ...]]
    max_abs_difference: float
    allowed_difference: float
    quantized: Quantized | None
    left_out: Sequence[str]
    dropped: Mapping[str, int]
    tokenizer: str
    notes: Sequence[str]


class Exporter(Protocol):
    """What a module here defines."""

    NAME: str
    """How `--to` calls it."""

    DESCRIPTION: str
    """What it writes, in half a line."""

    SUFFIX: str
    """What the name of a target that is one file ends in."""

    def check(self, target: Path, *, force: bool, source: Path | None) -> re.Pattern[str] | None:
        """Refuse a target before any work (TargetError); the names of the files in a directory, None for one file."""

    def export(
        self,
        checkpoint: Checkpoint,
        target: Path,
        *,
        force: bool,
        source: Path | None,
        head: str = AUTO,
        quantize: str | None = None,
    ) -> Exported:
        """Write the target, and compare its outputs with PyTorch's; ExportError where they differ.

        `head`: a name of `converters.roles.HEADS`, `none`, or `auto`: the one head of a task that there is, else none.
        `quantize`: the type of the weights, None for float32.
        """


def exporters() -> dict[str, Exporter]:
    """Every exporter by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules: list[Any] = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {module.NAME: module for module in modules}


def asked_for(target: Path, name: str | None) -> Exporter | None:
    """The exporter that `--to`, or else the target's suffix, asks for; None where it is a format of the converters."""
    known = exporters()
    if name is not None:
        return known.get(name)
    return next(
        (module for module in known.values() if target.suffix.lower() == module.SUFFIX and not target.is_dir()), None
    )


if TYPE_CHECKING:  # mypy checks each module against the protocol; a test holds the list complete
    from albert_cli.exporters import onnx

    _CHECKED: list[Exporter] = [onnx]
