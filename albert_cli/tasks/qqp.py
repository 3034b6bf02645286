"""QQP: do the two questions ask the same (1) or not (0)?

Some rows of the official files are cut short; as Google's reader does, they are left out, and their number is told.
"""

from albert_cli.tasks import Columns, Hub, Recipe, Split, glue

_LABELLED = Columns("question1", "question2", label="is_duplicate", id="id")

TASK = glue(
    name="QQP",
    directory="QQP",
    labels=("0", "1"),
    metrics=("accuracy", "f1"),
    best="accuracy",
    recipe=Recipe(learning_rate=5e-5, batch_size=128, steps=14000, warmup_steps=1000, train_rows=363846, dropout=0.1),
    splits={
        "train": Split(("train.tsv",), _LABELLED),
        "dev": Split(("dev.tsv",), _LABELLED),
        "test": Split(("test.tsv",), Columns("question1", "question2", id="id")),
    },
    submission={"test": "QQP.tsv"},
    hub=Hub("qqp", "question1", "question2", labels=("0", "1")),
    skip_short_rows=True,
)
