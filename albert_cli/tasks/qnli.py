"""QNLI: does the sentence answer the question?"""

from albert_cli.tasks.examples import ExampleColumns
from albert_cli.tasks.layouts.glue import Glue, HubDataset, SplitFile
from albert_cli.tasks.task import Recipe, Task

_LABELLED = ExampleColumns("question", "sentence", label="label", id="index")

TASK = Task(
    name="QNLI",
    layout=Glue(
        "QNLI",
        splits={
            "train": SplitFile(("train.tsv",), _LABELLED),
            "dev": SplitFile(("dev.tsv",), _LABELLED),
            "test": SplitFile(("test.tsv",), ExampleColumns("question", "sentence", id="index")),
        },
        hub=HubDataset("qnli", "question", "sentence", labels=("entailment", "not_entailment")),
    ),
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
    selection_metric="accuracy",
    recipe=Recipe(
        learning_rate=1e-5,
        batch_size=32,
        steps=33112,
        warmup_steps=1986,
        train_rows=104743,
        dropout=0.0,
        eval_every=200,
    ),
    submission={"test": "QNLI.tsv"},
)
