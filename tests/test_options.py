"""An option means the same in every command: one name, one type, one default, one help."""

import inspect
from collections import defaultdict
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

import pytest
import typer

from albert_cli.arguments import Formerly, Kind, marks_of
from albert_cli.main import app

# (option, command): why it is declared otherwise there than in the other commands.
EXCEPTIONS = {
    ("--compare", "tokenize"): "one tokenizer; finetune compares runs",
    ("--data", "evaluate"): "a file of labelled rows will do; finetune needs the splits of a task",
    ("--embedding-column", "embed"): "the column that is written; others read one, mostly the only one",
    ("--head", "convert"): "which of the heads there are; finetune makes a new one",
    ("--in", "embed"): "the place where all kinds of input are listed",
    ("--in", "search"): "vectors, too",
    ("--in", "predict"): "SQuAD's questions, too",
    ("--layer", "search"): "cosines are those of one layer",
    ("--layer", "similarity"): "cosines are those of one layer",
    ("--max-length", "embed"): "Sentence-Transformers files decide the default",
    ("--max-length", "search"): "Sentence-Transformers files decide the default",
    ("--max-length", "similarity"): "Sentence-Transformers files decide the default",
    ("--max-length", "pretrain"): "of a packed sequence, not of a text",
    ("--model", "tokenize"): "a tokenizer's file will do",
    ("--model-config", "convert"): "completes a model without a config of its own",
    ("--model-config", "inspect"): "completes a model without a config of its own",
    ("--part", "convert"): "both, each in a directory of its own",
    ("--on-truncate", "embed"): "windows, too",
    ("--on-truncate", "sop"): "the longer text of a pair is cut",
    ("--out", "embed"): "vectors, not a table",
    ("--out", "predict"): "answers are written as JSON, too",
    ("--out", "tokenize"): "tokens, not a table",
    ("--out", "finetune"): "a directory",
    ("--out", "pretrain"): "a directory",
    ("--plot", "score"): "bars, not a heat map",
    ("--preset", "pretrain"): "of an ALBERT: no other family is pretrained",
    ("--pooling", "search"): "vectors of tokens are not compared",
    ("--pooling", "similarity"): "vectors of tokens are not compared",
    ("--label-column", "evaluate"): "as in training by default, score, or negatives",
    ("--max-length", "convert"): "what is written for sentence-transformers",
    ("--normalize", "convert"): "what is written for sentence-transformers",
    ("--pooling", "convert"): "what is written for sentence-transformers",
    ("--max-length", "evaluate"): "Sentence-Transformers files decide the default",
    ("--plot", "evaluate"): "a scatter or a curve, not a heat map",
    ("--pooling", "evaluate"): "vectors of tokens are not compared",
    ("--precision", "evaluate"): "of a run or of vectors",
    ("--text-column", "evaluate"): "as in training by default, sentence1, or query",
    ("--text-pair-column", "evaluate"): "as in training by default, sentence2, or positive",
    ("--layer", "evaluate"): "cosines are those of one layer",
    ("--precision", "embed"): "vectors have int8 and no fp16",
    ("--precision", "search"): "vectors have int8 and no fp16",
    ("--precision", "similarity"): "vectors have int8 and no fp16",
    ("--text-column", "predict"): "as in training by default",
    ("--top", "search"): "of all rows of a file",
    ("--top", "similarity"): "another output, not another length",
    ("--top", "answer"): "of the 20 that Google lists",
    ("--top", "predict"): "of the 20 that Google lists",
    ("--layer", "serve"): "a text has one vector",
    ("--max-length", "serve"): "Sentence-Transformers files decide the default",
    ("--on-truncate", "serve"): "windows, too",
    ("--pooling", "serve"): "a text has one vector",
    ("--precision", "serve"): "vectors have int8 and no fp16",
    ("--lr", "finetune"): "the task's recipe decides the default, and several are swept",
    ("--pooling", "finetune"): "of a head, or of vectors",
    ("--warmup", "finetune"): "the task's recipe decides the default",
    ("--eval-every", "finetune"): "the task's recipe decides the default",
}  # fmt: skip


def commands():
    """The callback of each command, by name."""
    found = [command for group in app.registered_groups for command in group.typer_instance.registered_commands]
    return {item.name or item.callback.__name__: item.callback for item in found}


def options(callback):
    """Of each option shown: its names, type, default, what stands for its value, and its help."""
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        info, marks = marks_of(hints[name])
        if not isinstance(info, typer.models.OptionInfo) or info.hidden:
            continue
        flags = [text for text in (info.default, *(info.param_decls or ())) if str(text).startswith("-")]
        hint = get_args(hints[name])[0]
        if get_origin(hint) in (Union, UnionType):
            hint = next(item for item in get_args(hint) if item is not type(None))
        default = info.show_default if isinstance(info.show_default, str) else parameter.default
        shown = None if default is False else default if default is None else str(default)
        kind = Path if hint is str and Kind.PATH in marks else hint
        yield flags[0].partition("/")[0], (flags, str(kind), shown, info.metavar, info.help)


def matrix():
    """(option: command: declaration)"""
    found = defaultdict(dict)
    for command, callback in commands().items():
        for option, declaration in options(callback):
            found[option][command] = declaration
    return found


def test_an_option_means_the_same_in_every_command():
    different = []
    for option, by_command in matrix().items():
        usual = [item for command, item in by_command.items() if (option, command) not in EXCEPTIONS]
        different += [f"{option}: {item} is not {usual[0]}" for item in usual[1:] if item != usual[0]]
    assert not different


@pytest.mark.parametrize(("option", "command"), EXCEPTIONS)
def test_every_exception_is_one(option, command):
    by_command = matrix()[option]
    others = [item for name, item in by_command.items() if (option, name) not in EXCEPTIONS]
    assert by_command[command] not in others
    assert others or len({str(item) for item in by_command.values()}) > 1


def test_every_option_has_its_name_written_out_and_a_help():
    for callback in commands().values():
        for option, (flags, *_, meaning) in options(callback):
            assert flags
            assert meaning, option
            assert meaning.endswith("."), option


def test_no_earlier_name_is_one_of_today_in_the_same_command():
    for callback in commands().values():
        names = {name for _, (flags, *_) in options(callback) for flag in flags for name in flag.split("/")}
        hints = get_type_hints(callback, include_extras=True)
        marks = [mark for name in inspect.signature(callback).parameters for mark in marks_of(hints[name])[1]]
        assert not names & {mark.name for mark in marks if isinstance(mark, Formerly)}
