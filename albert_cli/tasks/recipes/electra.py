"""ELECTRA: google-research/electra, configure_finetuning.py; arXiv 2003.10555, appendix B.

Three epochs (RTE and STS-B ten, SQuAD two), no bias correction, and a learning rate that falls from layer to layer
downwards. STS-B is trained on labels from 0 to 1; it, MRPC and QQP on both orders of each pair.
"""

from __future__ import annotations

from dataclasses import replace

from albert_cli.tasks.recipes import GLUE, Recipes
from albert_cli.tasks.task import Recipe
from converters.checkpoint import Checkpoint


def _recipes(title: str, learning_rate: float, layer_decay: float) -> Recipes:
    def recipe(epochs: int, max_length: int) -> Recipe:
        return Recipe.of_epochs(
            epochs,
            warmup=0.1,
            batch_size=32,
            learning_rate=learning_rate,
            layer_decay=layer_decay,
            bias_correction=False,
            max_length=max_length,
        )

    tasks = dict.fromkeys(GLUE, recipe(3, 128))
    ten = recipe(10, 128)
    tasks |= dict.fromkeys(("MRPC", "QQP"), replace(recipe(3, 128), both_orders=True))
    tasks |= {"RTE": ten, "STS-B": replace(ten, label_scale=5.0, both_orders=True), "squad": recipe(2, 512)}
    return Recipes(title, recipe(3, 512), tasks)


def _is_large(base: Checkpoint) -> bool:
    return base.config.num_hidden_layers >= 24


RECIPES = (
    replace(_recipes("ELECTRA-large", 5e-5, 0.9), fits=_is_large),
    _recipes("ELECTRA", 1e-4, 0.8),
)
