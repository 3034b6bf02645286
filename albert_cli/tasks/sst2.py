"""SST-2: is the phrase of a film review positive (1) or negative (0)?"""

from albert_cli.tasks.examples import ExampleColumns
from albert_cli.tasks.layouts.glue import Glue, HubDataset, SplitFile
from albert_cli.tasks.task import Recipe, Task

_LABELLED = ExampleColumns("sentence", label="label")

TASK = Task(
    name="SST-2",
    layout=Glue(
        "SST-2",
        splits={
            "train": SplitFile(("train.tsv",), _LABELLED),
            "dev": SplitFile(("dev.tsv",), _LABELLED),
            "test": SplitFile(("test.tsv",), ExampleColumns("sentence", id="index")),
        },
        hub=HubDataset("sst2", "sentence", labels=("0", "1")),
    ),
    labels=("0", "1"),
    metrics=("accuracy",),
    selection_metric="accuracy",
    recipe=Recipe(learning_rate=1e-5, batch_size=32, steps=20935, warmup_steps=1256, train_rows=67349, dropout=0.0),
    submission={"test": "SST-2.tsv"},
)
