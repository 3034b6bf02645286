"""choice: your own questions with choices: text, question, choices (a list, or choice0, choice1, …) and label.

A table may leave the question out; `label` is a number from 0 or a letter. Hyper-parameters: those of SWAG.
"""

from dataclasses import replace

from albert_cli.tasks.layouts.choices import ChoiceTables
from albert_cli.tasks.swag import TASK as SWAG

TASK = replace(
    SWAG,
    name="choice",
    layout=ChoiceTables(
        "text",
        "question",
        "choices",
        "choice",
        options=("text_column", "text_pair_column", "label_column", "delimiter"),
    ),
    recipe=replace(SWAG.recipe, eval_every=100, max_length=512),
)
