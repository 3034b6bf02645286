"""Recipes of models other than ALBERT: one file, one family of converters.families, found by existing.

It defines `RECIPES`, the most specific first. A task's own `recipe` is ALBERT's, and that of a family without a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from albert_cli.tasks.task import Recipe, Task
from converters.checkpoint import Checkpoint

GLUE = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI")


@dataclass(frozen=True)
class Recipes:
    """What was published for a kind of model: `default`, and the recipes of `tasks` (by name) that have their own.

    `title`: what such models are called. `fits`: whether a model of the family is one of them. A task without a recipe
    of its own keeps its `max_length`. Where some questions have no answer the recipe is the same.
    """

    title: str
    default: Recipe
    tasks: Mapping[str, Recipe] = field(default_factory=dict)
    fits: Callable[[Checkpoint], bool] = lambda base: True

    def of(self, task: Task) -> Task:
        """The task with its recipe for these models."""
        recipe = self.tasks.get(task.name) or replace(self.default, max_length=task.recipe.max_length)
        other = task.no_answer_recipe
        return replace(
            task,
            recipe=self._named(recipe, task.recipe),
            no_answer_recipe=other and self._named(recipe, other),
            regression=task.regression and self.of(task.regression),
            multi_label=task.multi_label and self.of(task.multi_label),
        )

    def _named(self, recipe: Recipe, former: Recipe) -> Recipe:
        return replace(recipe, name=former.name, eval_every=former.eval_every, model=self.title)


def adapted(task: Task, base: Checkpoint) -> Task:
    """A task with the recipe for a model; as it is where nothing was published for such models."""
    families = [item.name for item in pkgutil.iter_modules(__path__)]
    if task.of_any_model or base.config.family not in families:
        return task
    listed: tuple[Recipes, ...] = importlib.import_module(f"{__name__}.{base.config.family}").RECIPES
    found = next((item for item in listed if item.fits(base)), None)
    return task if found is None else found.of(task)
