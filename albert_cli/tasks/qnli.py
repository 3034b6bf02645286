"""QNLI: does the sentence answer the question?"""

from albert_cli.tasks import Columns, Hub, Recipe, Split, glue

_LABELLED = Columns("question", "sentence", label="label", id="index")

TASK = glue(
    name="QNLI",
    directory="QNLI",
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
    best="accuracy",
    recipe=Recipe(
        learning_rate=1e-5,
        batch_size=32,
        steps=33112,
        warmup_steps=1986,
        train_rows=104743,
        dropout=0.0,
        eval_every=200,
    ),
    splits={
        "train": Split(("train.tsv",), _LABELLED),
        "dev": Split(("dev.tsv",), _LABELLED),
        "test": Split(("test.tsv",), Columns("question", "sentence", id="index")),
    },
    submission={"test": "QNLI.tsv"},
    hub=Hub("qnli", "question", "sentence", labels=("entailment", "not_entailment")),
)
