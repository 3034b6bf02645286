"""csv: your own rows (CSV, TSV, JSON lines or Parquet) with a text column, perhaps a second one, and a label column.

The labels are those of the training file, sorted; with --regression they are numbers, with --multi-label a row has any
number of them. Hyper-parameters: this project's choice, three epochs at 2e-5.
"""

from dataclasses import replace

from albert_cli.tasks.layouts.tables import Tables
from albert_cli.tasks.task import Recipe, Task

_CLASSES = Task(
    name="csv",
    layout=Tables(),
    metrics=("accuracy", "macro_f1"),
    selection_metric="accuracy",
    recipe=Recipe(learning_rate=2e-5, batch_size=32, steps=938, warmup_steps=94, train_rows=10000),
)
TASK = replace(
    _CLASSES,
    regression=replace(
        _CLASSES, problem="regression", metrics=("pearson", "spearman", "rmse"), selection_metric="rmse"
    ),
    multi_label=replace(
        _CLASSES,
        problem="multi_label",
        metrics=("micro_f1", "macro_f1", "subset_accuracy"),
        selection_metric="micro_f1",
    ),
)
