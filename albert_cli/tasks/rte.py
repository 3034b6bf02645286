"""RTE: does the first sentence entail the second?"""

from albert_cli.tasks.examples import ExampleColumns
from albert_cli.tasks.layouts.glue import Glue, HubDataset, SplitFile
from albert_cli.tasks.task import Recipe, Task

_LABELLED = ExampleColumns("sentence1", "sentence2", label="label", id="index")

TASK = Task(
    name="RTE",
    layout=Glue(
        "RTE",
        splits={
            "train": SplitFile(("train.tsv",), _LABELLED),
            "dev": SplitFile(("dev.tsv",), _LABELLED),
            "test": SplitFile(("test.tsv",), ExampleColumns("sentence1", "sentence2", id="index")),
        },
        hub=HubDataset("rte", "sentence1", "sentence2", labels=("entailment", "not_entailment")),
    ),
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
    selection_metric="accuracy",
    recipe=Recipe(learning_rate=3e-5, batch_size=32, steps=800, warmup_steps=200, train_rows=2490, dropout=0.1),
    submission={"test": "RTE.tsv"},
)
