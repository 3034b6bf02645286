"""pos: a tag for each word that stands for itself, as a part of speech; files as those of ner.

Of CoNLL-U's columns `--text-column 2 --label-column 4` are the words and their universal parts of speech; of
rows `pos_tags`, where there are such, or `upos`. Hyper-parameters: those of ner.
"""

from dataclasses import replace

from albert_cli.tasks.layouts.conll import TAGS, Conll
from albert_cli.tasks.ner import TASK as NER

_TAGS = ("pos_tags", "upos", *(name for name in TAGS if name != "pos_tags"))
TASK = replace(NER, name="pos", layout=Conll(tags=_TAGS), metrics=("accuracy", "macro_f1"), selection_metric="accuracy")
