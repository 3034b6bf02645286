"""CoLA: is the sentence acceptable English (1) or not (0)? The training files have no header."""

from albert_cli.tasks.examples import ExampleColumns
from albert_cli.tasks.layouts.glue import Glue, HubDataset, SplitFile
from albert_cli.tasks.task import Recipe, Task

_LABELLED = ExampleColumns(3, label=1)

TASK = Task(
    name="CoLA",
    layout=Glue(
        "CoLA",
        splits={
            "train": SplitFile(("train.tsv",), _LABELLED, width=4),
            "dev": SplitFile(("dev.tsv",), _LABELLED, width=4),
            "test": SplitFile(("test.tsv",), ExampleColumns("sentence", id="index")),
        },
        hub=HubDataset("cola", "sentence", labels=("0", "1")),
    ),
    labels=("0", "1"),
    metrics=("matthews", "accuracy"),
    selection_metric="matthews",
    recipe=Recipe(learning_rate=1e-5, batch_size=16, steps=5336, warmup_steps=320, train_rows=8551, dropout=0.0),
    submission={"test": "CoLA.tsv"},
)
