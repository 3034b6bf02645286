"""BERT, its small models, and SpanBERT, which is a BERT without pooler and heads, or with a head of its own.

BERT: arXiv 1810.04805, section 4.4 and appendix A.3; google-research/bert README and optimization.py (no bias
correction). Small models: the same README, which tried learning rates from 3e-5 to 3e-4 for four epochs; which of them
for which size is this project's choice. SpanBERT: arXiv 1907.10529, appendix B, and its README; where that has no
number of epochs, four.
"""

from __future__ import annotations

from dataclasses import replace

from albert_cli.tasks.recipes import GLUE, Recipes
from albert_cli.tasks.task import Recipe
from converters.checkpoint import Checkpoint


def _recipe(epochs: int, learning_rate: float, *, batch_size: int = 32, max_length: int = 512) -> Recipe:
    return Recipe.of_epochs(
        epochs,
        warmup=0.1,
        batch_size=batch_size,
        learning_rate=learning_rate,
        bias_correction=False,
        max_length=max_length,
    )


def _recipes(title: str, epochs: int, learning_rate: float, squad: Recipe) -> Recipes:
    """The same for every task but SQuAD and (in smaller batches) SWAG; sentences of GLUE have 128 tokens at most."""
    default = _recipe(epochs, learning_rate)
    swag = _recipe(epochs, learning_rate, batch_size=16, max_length=128)
    tasks = dict.fromkeys(GLUE, replace(default, max_length=128)) | {"SWAG": swag, "squad": squad}
    return Recipes(title, default, tasks)


def _is_spanbert(base: Checkpoint) -> bool:
    heads = {*base.components} - {"embeddings", "projection", "encoder"}
    return not heads or "sbo" in heads


def _is_tiny(base: Checkpoint) -> bool:
    return base.config.hidden_size <= 256


def _is_small(base: Checkpoint) -> bool:
    return base.config.hidden_size < 768 or base.config.num_hidden_layers < 12


def _is_large(base: Checkpoint) -> bool:
    return base.config.num_hidden_layers >= 24


_SPANBERT = _recipes("SpanBERT", 4, 2e-5, _recipe(4, 2e-5, max_length=512))

RECIPES = (
    replace(
        _SPANBERT,
        tasks={**_SPANBERT.tasks, "RTE": _recipe(10, 2e-5, max_length=128)},
        fits=_is_spanbert,
    ),
    replace(_recipes("BERT-tiny and BERT-mini", 4, 3e-4, _recipe(4, 3e-4, max_length=384)), fits=_is_tiny),
    replace(_recipes("small BERTs", 4, 1e-4, _recipe(4, 1e-4, max_length=384)), fits=_is_small),
    replace(_recipes("BERT-large", 3, 2e-5, _recipe(2, 3e-5, batch_size=24, max_length=384)), fits=_is_large),
    _recipes("BERT", 3, 2e-5, _recipe(2, 3e-5, batch_size=12, max_length=384)),
)
