"""squad: the span of a text that answers a question; SQuAD v1 and v2 JSON (v2: some questions have no answer).

Two epochs in batches of 48, rate 5e-5, a tenth of warm-up, windows of 384 tokens: the example in the README of
google-research/albert. Windows overlap by 128 tokens, where Google's begin 128 after one another.
"""

from albert_cli.tasks import Recipe, Task
from albert_cli.training.questions import read_squad_split

TASK = Task(
    name="squad",
    kind="answers",
    read=read_squad_split,
    metrics=("exact", "f1"),
    best="f1",
    recipe=Recipe(
        learning_rate=5e-5,
        batch_size=48,
        steps=3650,
        warmup_steps=365,
        train_rows=87599,
        eval_every=500,
        max_length=384,
    ),
)
