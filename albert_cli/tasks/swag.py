"""SWAG: which of four endings continues what happens (arXiv 1808.05326)? Its CSV: sent1, sent2, ending0, …, label.

As in BERT's paper each choice is a pair: the first sentence, and the beginning of the second with the ending.
Hyper-parameters: that paper's (section 4.4): batch 16, 2e-5, three epochs; a tenth of the steps is warm-up.
"""

from albert_cli.tasks.layouts.choices import ChoiceTables
from albert_cli.tasks.task import Recipe, Task

TASK = Task(
    name="SWAG",
    problem="multiple_choice",
    layout=ChoiceTables("sent1", "sent2", "endings", "ending"),
    metrics=("accuracy",),
    selection_metric="accuracy",
    recipe=Recipe(
        learning_rate=2e-5,
        batch_size=16,
        steps=13790,
        warmup_steps=1379,
        train_rows=73546,
        eval_every=500,
        max_length=128,
    ),
)
