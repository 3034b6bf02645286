"""imdb: film reviews in folders, `train/pos/*.txt`, `train/neg/*.txt` and the same under `test` (or `dev`).

Any folders of that shape will do; the names of the inner ones are the labels. Without `dev`, `test` is evaluated on, as
is usual for IMDB. Hyper-parameters: those of SST-2, the other sentiment task, for four epochs (this project's choice).
"""

from albert_cli.tasks.layouts.folders import Folders
from albert_cli.tasks.task import Recipe, Task

TASK = Task(
    name="imdb",
    layout=Folders("imdb"),
    metrics=("accuracy", "macro_f1"),
    selection_metric="accuracy",
    recipe=Recipe(learning_rate=1e-5, batch_size=32, steps=3125, warmup_steps=187, train_rows=25000),
)
