"""RTE: does the first sentence entail the second?"""

from albert_cli.tasks import Columns, Hub, Recipe, Split, glue

_LABELLED = Columns("sentence1", "sentence2", label="label", id="index")

TASK = glue(
    name="RTE",
    directory="RTE",
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
    best="accuracy",
    recipe=Recipe(learning_rate=3e-5, batch_size=32, steps=800, warmup_steps=200, train_rows=2490, dropout=0.1),
    splits={
        "train": Split(("train.tsv",), _LABELLED),
        "dev": Split(("dev.tsv",), _LABELLED),
        "test": Split(("test.tsv",), Columns("sentence1", "sentence2", id="index")),
    },
    submission={"test": "RTE.tsv"},
    hub=Hub("rte", "sentence1", "sentence2", labels=("entailment", "not_entailment")),
)
