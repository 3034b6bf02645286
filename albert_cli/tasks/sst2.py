"""SST-2: is the phrase of a film review positive (1) or negative (0)?"""

from albert_cli.tasks import Columns, Hub, Recipe, Split, glue

_LABELLED = Columns("sentence", label="label")

TASK = glue(
    name="SST-2",
    directory="SST-2",
    labels=("0", "1"),
    metrics=("accuracy",),
    best="accuracy",
    recipe=Recipe(learning_rate=1e-5, batch_size=32, steps=20935, warmup_steps=1256, train_rows=67349, dropout=0.0),
    splits={
        "train": Split(("train.tsv",), _LABELLED),
        "dev": Split(("dev.tsv",), _LABELLED),
        "test": Split(("test.tsv",), Columns("sentence", id="index")),
    },
    submission={"test": "SST-2.tsv"},
    hub=Hub("sst2", "sentence", labels=("0", "1")),
)
