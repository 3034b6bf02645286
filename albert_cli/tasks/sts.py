"""sts: vectors whose cosines follow the scores of your own pairs, as those of STS-B: sentence1, sentence2, score.

Hyper-parameters: Sentence-BERT's for STS-B (arXiv 1908.10084, section 4; its training_stsbenchmark.py has four epochs).
"""

from albert_cli.tasks.examples import ExampleColumns
from albert_cli.tasks.layouts.tables import Tables
from albert_cli.tasks.task import Recipe, Task

TASK = Task(
    name="sts",
    layout=Tables(ExampleColumns("sentence1", "sentence2", label="score")),
    problem="scored_pairs",
    metrics=("pearson", "spearman"),
    selection_metric="spearman",
    recipe=Recipe.of_epochs(4, warmup=0.1, batch_size=16, learning_rate=2e-5, max_length=256),
    own={"loss": "cosent", "scale": None, "pooling": None},
    of_any_model=True,
)
