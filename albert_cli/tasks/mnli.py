"""MNLI: does the premise entail the hypothesis, contradict it, or neither? Matched and mismatched genres, and AX.

Labels stand in Google's order (classifier_utils.py); `nyu-mll/glue` numbers them otherwise. AX, GLUE's diagnostic set,
has no training data of its own: the MNLI model answers it.
"""

from albert_cli.tasks.examples import ExampleColumns
from albert_cli.tasks.layouts.glue import Glue, HubDataset, SplitFile
from albert_cli.tasks.task import Recipe, Task

_LABELLED = ExampleColumns("sentence1", "sentence2", label="gold_label", id="index")
_UNLABELLED = ExampleColumns("sentence1", "sentence2", id="index")

TASK = Task(
    name="MNLI",
    layout=Glue(
        "MNLI",
        splits={
            "train": SplitFile(("train.tsv",), _LABELLED),
            "dev": SplitFile(("dev_matched.tsv",), _LABELLED),
            "dev_mismatched": SplitFile(("dev_mismatched.tsv",), _LABELLED),
            "test": SplitFile(("test_matched.tsv",), _UNLABELLED),
            "test_mismatched": SplitFile(("test_mismatched.tsv",), _UNLABELLED),
            "ax": SplitFile(
                (
                    "diagnostic.tsv",
                    "../AX/AX.tsv",
                    "../AX/test.tsv",
                    "../AX/diagnostic.tsv",
                    "../diagnostic/diagnostic.tsv",
                ),
                _UNLABELLED,
            ),
        },
        hub=HubDataset(
            "mnli",
            "premise",
            "hypothesis",
            labels=("entailment", "neutral", "contradiction"),
            splits={
                "train": "train",
                "dev": "validation_matched",
                "dev_mismatched": "validation_mismatched",
                "test": "test_matched",
                "test_mismatched": "test_mismatched",
                "ax": "../ax/test",
            },
        ),
    ),
    labels=("contradiction", "entailment", "neutral"),
    metrics=("accuracy",),
    selection_metric="accuracy",
    recipe=Recipe(learning_rate=3e-5, batch_size=128, steps=10000, warmup_steps=1000, train_rows=392702, dropout=0.0),
    dev_splits=("dev", "dev_mismatched"),
    submission={"test": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv", "ax": "AX.tsv"},
)
