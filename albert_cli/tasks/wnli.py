"""WNLI: does the second sentence, a pronoun replaced, follow from the first (1) or not (0)?

Google's run_glue.sh leaves this task out; the hyper-parameters are those of table 14 of the ALBERT paper, about 50
epochs. The development set answers many training sentences the other way round, so that a model that learns the
training set scores under chance on it: 56 % is the majority class.
"""

from albert_cli.tasks.examples import ExampleColumns
from albert_cli.tasks.layouts.glue import Glue, HubDataset, SplitFile
from albert_cli.tasks.task import Recipe, Task

_LABELLED = ExampleColumns("sentence1", "sentence2", label="label", id="index")

TASK = Task(
    name="WNLI",
    layout=Glue(
        "WNLI",
        splits={
            "train": SplitFile(("train.tsv",), _LABELLED),
            "dev": SplitFile(("dev.tsv",), _LABELLED),
            "test": SplitFile(("test.tsv",), ExampleColumns("sentence1", "sentence2", id="index")),
        },
        hub=HubDataset("wnli", "sentence1", "sentence2", labels=("0", "1")),
    ),
    labels=("0", "1"),
    metrics=("accuracy",),
    selection_metric="accuracy",
    recipe=Recipe(learning_rate=2e-5, batch_size=16, steps=2000, warmup_steps=250, train_rows=635, dropout=0.1),
    submission={"test": "WNLI.tsv"},
)
