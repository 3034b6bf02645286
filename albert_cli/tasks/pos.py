"""pos: a tag for each word that stands for itself, as a part of speech; files as those of ner.

Of CoNLL-U's columns `--text-column 2 --label-column 4` are the words and their universal parts of speech.
Hyper-parameters: those of ner.
"""

from dataclasses import replace

from albert_cli.tasks.ner import TASK as NER

TASK = replace(NER, name="pos", metrics=("accuracy", "macro_f1"), selection_metric="accuracy")
