"""QQP: do the two questions ask the same (1) or not (0)?

Some rows of the official files are cut short; as Google's reader does, they are left out, and their number is reported.
"""

from albert_cli.tasks.examples import ExampleColumns
from albert_cli.tasks.layouts.glue import Glue, HubDataset, SplitFile
from albert_cli.tasks.task import Recipe, Task

_LABELLED = ExampleColumns("question1", "question2", label="is_duplicate", id="id")

TASK = Task(
    name="QQP",
    layout=Glue(
        "QQP",
        splits={
            "train": SplitFile(("train.tsv",), _LABELLED),
            "dev": SplitFile(("dev.tsv",), _LABELLED),
            "test": SplitFile(("test.tsv",), ExampleColumns("question1", "question2", id="id")),
        },
        hub=HubDataset("qqp", "question1", "question2", labels=("0", "1")),
        skip_short_rows=True,
    ),
    labels=("0", "1"),
    metrics=("accuracy", "f1"),
    selection_metric="accuracy",
    recipe=Recipe(learning_rate=5e-5, batch_size=128, steps=14000, warmup_steps=1000, train_rows=363846, dropout=0.1),
    submission={"test": "QQP.tsv"},
)
