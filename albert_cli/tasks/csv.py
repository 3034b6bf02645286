"""csv: your own rows (CSV, TSV, JSON lines or Parquet) with a text column, perhaps a second one, and a label column.

The labels are those of the training file, sorted. Hyper-parameters: this project's choice, three epochs at 2e-5.
"""

from albert_cli.tasks import Recipe, Task
from albert_cli.training.data import read_table_split

TASK = Task(
    name="csv",
    read=read_table_split,
    metrics=("accuracy", "macro_f1"),
    best="accuracy",
    recipe=Recipe(learning_rate=2e-5, batch_size=32, steps=938, warmup_steps=94, train_rows=10000),
)
