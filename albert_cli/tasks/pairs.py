"""pairs: vectors by which a query finds the text that belongs to it: query, positive, and perhaps negatives.

Hyper-parameters: this project's choice, one epoch at 2e-5 in batches of 64, in each of which a pair has 63 others.
"""

from albert_cli.tasks.layouts.pairs import PairTables
from albert_cli.tasks.task import Recipe, Task

TASK = Task(
    name="pairs",
    layout=PairTables(),
    problem="positive_pairs",
    metrics=("mrr", "recall_at_1", "recall_at_10"),
    selection_metric="mrr",
    recipe=Recipe.of_epochs(1, warmup=0.1, batch_size=64, learning_rate=2e-5, max_length=256),
    own={"scale": None, "pooling": None},
    of_any_model=True,
)
