"""An option that has no effect in a call is refused, and so is a number out of range, in every command."""

import inspect
import shlex
from typing import get_args, get_type_hints

import pytest
from test_options import commands

from albert_cli.arguments import Kind, marks_of

IDLE = [
    ("similarity a b --delimiter ';'", "--delimiter has no effect without --in; leave it out"),
    ("similarity a b --embedding-column x", "--embedding-column has no effect without a file of vectors; leave it out"),
    ("similarity a b --force", "--force has no effect without --plot; leave it out"),
    (
        "similarity v.parquet --model m --threads 2",
        "--model and --threads have no effect where all vectors are ready; leave them out",
    ),
    (
        "fill-mask [MASK] --text-column x --input-format csv",
        "--input-format and --text-column have no effect without --in; leave them out",
    ),
    ("fill-mask [MASK] --force", "--force has no effect without --out; leave it out"),
    ("sop a b --text-pair-column x", "--text-pair-column has no effect without --in; leave it out"),
    ("score a --odd 2 --totals", "--odd has no effect with --totals, which shows no tokens; leave it out"),
    ("score a --force", "--force has no effect without --out or --plot; leave it out"),
    ("predict run --in t.txt --force", "--force has no effect without --out; leave it out"),
    ("evaluate run --delimiter ';'", "--delimiter has no effect without --data; leave it out"),
    ("evaluate run --force", "--force has no effect without --curves; leave it out"),
    ("tokenize a --text-column x", "--text-column has no effect without --in; leave it out"),
    ("tokenize a --alpha 1 --seed 2", "--alpha and --seed have no effect without --sample; leave them out"),
    ("tokenize a --stride 2", "--stride has no effect without --max-length; leave it out"),
    ("tokenize a --stats --max-length 4", "--max-length has no effect with --stats; leave it out"),
    ("tokenize --decode 1,2 --cased", "--cased has no effect with --decode; leave it out"),
    ("tokenize a --raw --no-special", "--no-special has no effect with --raw; leave it out"),
    ("tokenize a --max-length 4 --truncation only_first", "--truncation has no effect without --pair; leave it out"),
    ("tokenize a --nbest 2 --no-special", "--no-special has no effect with --nbest or --sample; leave it out"),
    (
        "embed --merge --in a --out b.parquet --model m --threads 1",
        "--model and --threads have no effect with --merge, which copies vectors; leave them out",
    ),
    (
        "embed --in t.txt --out x.csv --vector-type list",
        "--vector-type has no effect on .csv, which has no types of lists; leave it out",
    ),
    (
        "embed --in t.txt --out x.npy --embedding-column e",
        "--embedding-column has no effect on .npy, which holds the vectors alone; leave it out",
    ),
    ("embed text --keep-text", "--keep-text has no effect on a TEXT, whose vector is printed; leave it out"),
    (
        "finetune sst2 --text-column x --regression",
        "--text-column and --regression have no effect on sst2, whose columns and labels are known; leave them out",
    ),
    ("finetune csv --test x", "--test has no effect on csv, which has no server that takes predictions; leave it out"),
    ("finetune glue --compare x", "--compare has no effect on glue, which is several tasks; leave it out"),
    ("finetune rte --seeds 1,2 --compare x", "--compare has no effect with --seeds; leave it out"),
    (
        "pretrain --corpus t.txt --steps 2 --teacher-sentences 4",
        "--teacher-sentences has no effect without --teacher; leave it out",
    ),
]


@pytest.mark.parametrize(("words", "message"), IDLE, ids=[words for words, _ in IDLE])
def test_an_option_without_effect_is_refused(albert, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("a text\n")
    (tmp_path / "v.parquet").write_bytes(b"")
    code, out, err = albert(*shlex.split(words))
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"Error: Invalid value: {message}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.txt", "v.parquet"]


@pytest.mark.parametrize("words", ["similarity a b --in t.txt --delimiter ,", "evaluate r --data t.txt --delimiter ,"])
def test_an_option_with_effect_is_taken(albert, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("a text\n")
    assert "no effect" not in albert(*shlex.split(words))[2]


def test_layers_of_a_frozen_encoder_have_no_rates(refused, tmp_path):
    where = ("--data", tmp_path, "--model", tmp_path, "--out", tmp_path / "run")
    words = ("finetune", "rte", *where, "--freeze-encoder", "--layer-decay", "0.5")
    message = "--layer-decay has no effect on a frozen encoder, which does not learn; leave it out"
    assert refused(*words) == message


def test_a_working_directory_that_is_gone(refused, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for words in (["embed", "a"], ["--version"], ["tokenize", "a"]):
        assert refused(*words) == "the working directory is gone; cd to another"
    monkeypatch.chdir(tmp_path)


def numbers():
    """Every option of every command that is a number: (command, option, its type)."""
    for command, callback in commands().items():
        hints = get_type_hints(callback, include_extras=True)
        for name in inspect.signature(callback).parameters:
            info, _ = marks_of(hints[name])
            kind = get_args(hints[name])[0]
            kinds = {int, float} & {kind, *get_args(kind)}
            flags = [text for text in (getattr(info, "default", ""), *(getattr(info, "param_decls", ()) or ())) if text]
            flag = next((text for text in flags if str(text).startswith("--")), None)
            if kinds and flag and getattr(info, "parser", None) is None:
                yield command, flag, kinds.pop()


def arguments_of(command):
    """A value for each argument and option that the command cannot do without."""
    callback = commands()[command]
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        info, marks = marks_of(hints[name])
        if parameter.default is inspect.Parameter.empty:
            option = [info.default or info.param_decls[0]] if Kind.STREAM_IN in marks else []
            yield from [*option, "x"]


@pytest.mark.parametrize(("command", "option", "kind"), list(numbers()))
def test_a_number_beyond_all_arrays_is_refused(albert, tmp_path, monkeypatch, command, option, kind):
    monkeypatch.chdir(tmp_path)
    values = ["nan", "inf", "-inf", "1e999"] if kind is float else [str(10**30), str(-(10**30)), "9" * 5000]
    for value in values:
        code, out, err = albert(command, *arguments_of(command), f"{option}={value}")
        assert (code, out) == (2, ""), (value, err)
        assert option in err.splitlines()[-1]
        assert "Traceback" not in err
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [name for name, option, _ in numbers() if option == "--threads"])
def test_more_threads_than_any_processor_has_are_refused(albert, command):
    code, _, err = albert(command, *arguments_of(command), "--threads", "99999999999")
    assert code == 2
    assert "--threads" in err.splitlines()[-1]
    assert "1024" in err.splitlines()[-1]


@pytest.mark.parametrize("shard", ["9/9", "0/0", "1/9999999", f"0/{10**30}", "-1/4", "1", "0/4/4", "a/b"])
def test_a_shard_out_of_range_is_refused(albert, tmp_path, shard):
    (tmp_path / "t.txt").write_text("a text\n")
    code, _, err = albert("embed", "--in", tmp_path / "t.txt", f"--shard={shard}")
    assert code == 2
    wanted = "give I/N with I from 0 to N-1, such as 0/4, and N of at most 100,000"
    assert err.splitlines()[-1] == f"Error: Invalid value: --shard {shard}: {wanted}"
