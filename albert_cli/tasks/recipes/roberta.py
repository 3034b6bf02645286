"""RoBERTa: arXiv 1907.11692, appendix C, and the table of fairseq's examples/roberta/README.glue.md.

Ten epochs (RACE four, SQuAD two), warm-up of 6 %, weight decay 0.1 (SQuAD 0.01), no clipping. STS-B is trained on
labels from 0 to 1.
"""

from __future__ import annotations

from dataclasses import replace

from albert_cli.tasks.recipes import Recipes
from albert_cli.tasks.task import Recipe

_DEFAULT = Recipe.of_epochs(10, warmup=0.06, batch_size=32, learning_rate=1e-5, weight_decay=0.1, beta2=0.98, clip=0.0)
_RACE = Recipe.of_epochs(4, warmup=0.06, batch_size=16, learning_rate=1e-5, weight_decay=0.1, beta2=0.98, clip=0.0)
_SQUAD = Recipe.of_epochs(2, warmup=0.06, batch_size=48, learning_rate=1.5e-5, beta2=0.98, clip=0.0)


def _glue(learning_rate: float, batch_size: int, steps: int, warmup_steps: int, train_rows: int) -> Recipe:
    return replace(
        _DEFAULT,
        learning_rate=learning_rate,
        batch_size=batch_size,
        steps=steps,
        warmup_steps=warmup_steps,
        train_rows=train_rows,
    )


RECIPES = (
    Recipes(
        title="RoBERTa",
        default=_DEFAULT,
        tasks={
            "CoLA": _glue(1e-5, 16, 5336, 320, 8551),
            "SST-2": _glue(1e-5, 32, 20935, 1256, 67349),
            "MRPC": _glue(1e-5, 16, 2296, 137, 3668),
            "STS-B": replace(_glue(2e-5, 16, 3598, 214, 5749), label_scale=5.0),
            "QQP": _glue(1e-5, 32, 113272, 28318, 363846),
            "MNLI": _glue(1e-5, 32, 123873, 7432, 392702),
            "QNLI": _glue(1e-5, 32, 33112, 1986, 104743),
            "RTE": _glue(2e-5, 16, 2036, 122, 2490),
            "RACE": _RACE,
            "squad": _SQUAD,
        },
    ),
)
