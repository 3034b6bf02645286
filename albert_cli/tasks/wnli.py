"""WNLI: does the second sentence, a pronoun replaced, follow from the first (1) or not (0)?

Google's run_glue.sh leaves this task out; the hyper-parameters are those of table 14 of the ALBERT paper, about 50
epochs. The development set answers many training sentences the other way round, so that a model that learns the
training set scores under chance on it: 56 % is the majority class.
"""

from albert_cli.tasks import Columns, Hub, Recipe, Split, glue

_LABELLED = Columns("sentence1", "sentence2", label="label", id="index")

TASK = glue(
    name="WNLI",
    directory="WNLI",
    labels=("0", "1"),
    metrics=("accuracy",),
    best="accuracy",
    recipe=Recipe(learning_rate=2e-5, batch_size=16, steps=2000, warmup_steps=250, train_rows=635, dropout=0.1),
    splits={
        "train": Split(("train.tsv",), _LABELLED),
        "dev": Split(("dev.tsv",), _LABELLED),
        "test": Split(("test.tsv",), Columns("sentence1", "sentence2", id="index")),
    },
    submission={"test": "WNLI.tsv"},
    hub=Hub("wnli", "sentence1", "sentence2", labels=("0", "1")),
)
