"""ner: names in a text (persons, places, …), of words with tags: CoNLL's columns, or rows of `tokens` and `ner_tags`.

Tags mark spans: B- begins one and I- continues it (IOB2; IOB1 and BIOES are read as well), O is none. Hyper-parameters:
of those that BERT's paper searches (appendix A.3: batch 16 or 32, 5e-5 to 2e-5, 2 to 4 epochs) batch 32, 5e-5 and three
epochs, on CoNLL-2003's 14,041 sentences; a tenth of the steps is warm-up.
"""

from albert_cli.tasks.layouts.conll import Conll
from albert_cli.tasks.task import Recipe, Task

TASK = Task(
    name="ner",
    problem="token_classification",
    layout=Conll(),
    metrics=("f1", "precision", "recall", "accuracy"),
    selection_metric="f1",
    recipe=Recipe(learning_rate=5e-5, batch_size=32, steps=1316, warmup_steps=132, train_rows=14041),
)
