"""STS-B: how alike are the two sentences, from 0 to 5? A regression."""

from albert_cli.tasks import Columns, Hub, Recipe, Split, glue

_LABELLED = Columns("sentence1", "sentence2", label="score", id="index")

TASK = glue(
    name="STS-B",
    directory="STS-B",
    kind="regression",
    value_range=(0.0, 5.0),
    metrics=("pearson", "spearman"),
    best="pearson",
    recipe=Recipe(learning_rate=2e-5, batch_size=16, steps=3598, warmup_steps=214, train_rows=5749, dropout=0.0),
    splits={
        "train": Split(("train.tsv",), _LABELLED),
        "dev": Split(("dev.tsv",), _LABELLED),
        "test": Split(("test.tsv",), Columns("sentence1", "sentence2", id="index")),
    },
    submission={"test": "STS-B.tsv"},
    hub=Hub("stsb", "sentence1", "sentence2"),
)
