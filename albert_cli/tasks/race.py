"""RACE: which of four choices answers a question on an article? English examinations (arXiv 1704.04683).

As Google's code has it, each choice is a pair: the article, and the question with the choice (in the place of a `_`, or
after it), of which the last 128 tokens are kept; what is too long is cut from the article. Hyper-parameters: table 14
of the ALBERT paper.
"""

from albert_cli.tasks.layouts.race import Race
from albert_cli.tasks.task import Recipe, Task

TASK = Task(
    name="RACE",
    problem="multiple_choice",
    layout=Race(),
    metrics=("accuracy", "middle_accuracy", "high_accuracy"),
    selection_metric="accuracy",
    recipe=Recipe(
        learning_rate=2e-5,
        batch_size=32,
        steps=12000,
        warmup_steps=1000,
        train_rows=87866,
        dropout=0.1,
        eval_every=500,
    ),
)
