"""squad: the span of a text that answers a question; SQuAD v1 and v2 JSON (v2: some questions have no answer).

Where questions without an answer are in the training data, hyper-parameters are those of SQuAD 2.0, else those of
SQuAD 1.1 (table 14 of the ALBERT paper; two and three epochs). Windows overlap by 128 tokens, where Google's begin 128
after one another.
"""

from albert_cli.tasks.layouts.squad import Squad
from albert_cli.tasks.task import Recipe, Task

TASK = Task(
    name="squad",
    problem="question_answering",
    layout=Squad(),
    metrics=("exact", "f1"),
    selection_metric="f1",
    recipe=Recipe(
        name="SQuAD 1.1",
        learning_rate=5e-5,
        batch_size=48,
        steps=3649,
        warmup_steps=365,
        train_rows=87599,
        dropout=0.0,
        eval_every=500,
        max_length=384,
    ),
    no_answer_recipe=Recipe(
        name="SQuAD 2.0",
        learning_rate=3e-5,
        batch_size=48,
        steps=8144,
        warmup_steps=814,
        train_rows=130319,
        dropout=0.0,
        eval_every=500,
        max_length=512,
    ),
)
