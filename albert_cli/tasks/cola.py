"""CoLA: is the sentence acceptable English (1) or not (0)? The training files have no header."""

from albert_cli.tasks import Columns, Hub, Recipe, Split, glue

_LABELLED = Columns(3, label=1)

TASK = glue(
    name="CoLA",
    directory="CoLA",
    labels=("0", "1"),
    metrics=("matthews", "accuracy"),
    best="matthews",
    recipe=Recipe(learning_rate=1e-5, batch_size=16, steps=5336, warmup_steps=320, train_rows=8551, dropout=0.0),
    splits={
        "train": Split(("train.tsv",), _LABELLED, width=4),
        "dev": Split(("dev.tsv",), _LABELLED, width=4),
        "test": Split(("test.tsv",), Columns("sentence", id="index")),
    },
    submission={"test": "CoLA.tsv"},
    hub=Hub("cola", "sentence", labels=("0", "1")),
)
