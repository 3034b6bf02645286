"""What a run's model is for: the facts of run.toml that its readers need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from albert_cli.training.scale import Scale


@dataclass(frozen=True)
class RunInfo:
    """What a run's model is for. `problem`: a name of training/problems. `labels` in the order of the logits, if any.

    `scale`: what a regression's labels were divided by in training; the saved model's outputs are labels.
    """

    task: str
    problem: str
    labels: tuple[str, ...]
    max_length: int
    hidden: tuple[int, ...] = ()
    no_answer: bool = False
    scale: Scale = field(default_factory=Scale)
    settings: Mapping[str, Any] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
