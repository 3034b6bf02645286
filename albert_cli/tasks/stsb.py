"""STS-B: how alike are the two sentences, from 0 to 5? A regression."""

from albert_cli.tasks.examples import ExampleColumns
from albert_cli.tasks.layouts.glue import Glue, HubDataset, SplitFile
from albert_cli.tasks.task import Recipe, Task

_LABELLED = ExampleColumns("sentence1", "sentence2", label="score", id="index")

TASK = Task(
    name="STS-B",
    layout=Glue(
        "STS-B",
        splits={
            "train": SplitFile(("train.tsv",), _LABELLED),
            "dev": SplitFile(("dev.tsv",), _LABELLED),
            "test": SplitFile(("test.tsv",), ExampleColumns("sentence1", "sentence2", id="index")),
        },
        hub=HubDataset("stsb", "sentence1", "sentence2"),
    ),
    problem="regression",
    value_range=(0.0, 5.0),
    metrics=("pearson", "spearman"),
    selection_metric="pearson",
    recipe=Recipe(learning_rate=2e-5, batch_size=16, steps=3598, warmup_steps=214, train_rows=5749, dropout=0.0),
    submission={"test": "STS-B.tsv"},
)
