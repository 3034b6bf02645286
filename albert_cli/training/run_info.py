"""What a run's model is for: the facts of run.toml that its readers need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from albert_cli.errors import TrainingError
from albert_cli.training.scale import Scale


@dataclass(frozen=True)
class RunInfo:
    """What a run's model is for. `problem`: a name of training/problems. `labels` in the order of the logits, if any.

    `pooling`: of the hidden states that the head reads, or that make a vector; None for what the model's family has.
    `scale`: what a regression's labels were divided by in training; the saved model's outputs are labels. `scores`: the
    lowest and the highest of pairs, which cosines of 0 and 1 stand for.
    `no_answer`: whether questions may have none, which is said where its odds are above `no_answer_threshold`
    (albert_cli/training/no_answer.py); None: the best one of the split that is measured. `top`: how many candidates
    an answer has.
    """

    task: str
    problem: str
    labels: tuple[str, ...]
    max_length: int
    hidden: tuple[int, ...] = ()
    pooling: str | None = None
    no_answer: bool = False
    no_answer_threshold: float | None = None
    top: int = 0
    scale: Scale = field(default_factory=Scale)
    scores: tuple[float, float] = (0.0, 1.0)
    settings: Mapping[str, Any] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def check_linear_head(self, task: str, on: str) -> None:
        """TrainingError where another head was asked for than a linear one on each of what is `on`."""
        for option, value in (("--head mlp", self.hidden), ("--pooling", self.pooling)):
            if value:
                raise TrainingError(
                    f"{option} is for labels of texts; {task} trains a linear head on every {on}; leave "
                    f"{option.partition(' ')[0]} out"
                )
