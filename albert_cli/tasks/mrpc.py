"""MRPC: do the two sentences say the same (1) or not (0)?"""

from albert_cli.tasks import Columns, Hub, Recipe, Split, glue

_LABELLED = Columns("#1 String", "#2 String", label="Quality")

TASK = glue(
    name="MRPC",
    directory="MRPC",
    labels=("0", "1"),
    metrics=("accuracy", "f1"),
    best="accuracy",
    recipe=Recipe(learning_rate=2e-5, batch_size=32, steps=800, warmup_steps=200, train_rows=3668, dropout=0.0),
    splits={
        "train": Split(("train.tsv",), _LABELLED),
        "dev": Split(("dev.tsv",), _LABELLED),
        "test": Split(("test.tsv",), Columns("#1 String", "#2 String", id="index")),
    },
    submission={"test": "MRPC.tsv"},
    hub=Hub("mrpc", "sentence1", "sentence2", labels=("0", "1")),
)
