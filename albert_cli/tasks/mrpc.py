"""MRPC: do the two sentences say the same (1) or not (0)?"""

from albert_cli.tasks.examples import ExampleColumns
from albert_cli.tasks.layouts.glue import Glue, HubDataset, SplitFile
from albert_cli.tasks.task import Recipe, Task

_LABELLED = ExampleColumns("#1 String", "#2 String", label="Quality")

TASK = Task(
    name="MRPC",
    layout=Glue(
        "MRPC",
        splits={
            "train": SplitFile(("train.tsv",), _LABELLED),
            "dev": SplitFile(("dev.tsv",), _LABELLED),
            "test": SplitFile(("test.tsv",), ExampleColumns("#1 String", "#2 String", id="index")),
        },
        hub=HubDataset("mrpc", "sentence1", "sentence2", labels=("0", "1")),
    ),
    labels=("0", "1"),
    metrics=("accuracy", "f1"),
    selection_metric="accuracy",
    recipe=Recipe(learning_rate=2e-5, batch_size=32, steps=800, warmup_steps=200, train_rows=3668, dropout=0.0),
    submission={"test": "MRPC.tsv"},
)
