"""A setting is declared once: the command line, files of settings and the pages of docs follow from its field."""

import inspect
import re

import pytest

from albert_cli.declared import faults_of, read_settings, settings_of
from albert_cli.errors import TrainingError
from albert_cli.main import app
from albert_cli.pretraining.settings import PretrainSettings
from albert_cli.training.settings import Settings

RUN = """
[task]
name = "sst2"
kind = "classification"
labels = ["no", "yes"]
no_answer = false

[settings]
task = "sst2"
model = "built-in"
learning_rate = 1
batch_size = 8
max_length = 16

[hashes]
train = "0"
"""


def command(name):
    groups = [group.typer_instance for group in app.registered_groups]
    found = [item for group in groups for item in group.registered_commands]
    return next(item.callback for item in found if (item.name or item.callback.__name__) == name)


@pytest.mark.parametrize(("name", "declared"), [("finetune", Settings), ("pretrain", PretrainSettings)])
def test_a_command_has_the_options_of_its_settings(name, declared):
    parameters = inspect.signature(command(name)).parameters
    optional = [item.name for item in settings_of(declared).values() if item.option is not None]
    assert [item for item in parameters if item in optional] == optional
    assert all(parameters[item].default is None for item in optional)
    assert "given" not in parameters


COUNT = "not from 1 to 2**63 - 1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune", "csv", "--lr", "0"], "Invalid value for '--lr': 0.0 is not above 0"),
        (["finetune", "csv", "--dropout=-0.1"], "Invalid value for '--dropout': -0.1 is not from 0 to below 1"),
        (["finetune", "csv", "--clip", "nan"], "Invalid value for '--clip': nan is not at least 0"),
        (["pretrain", "--steps", str(2**63)], f"Invalid value for '--steps': {2**63} is not from 1 to 2**63 - 1"),
        (["pretrain", "--seed", str(2**64)], f"Invalid value for '--seed': {2**64} is not from 0 to 2**64 - 1"),
        (["pretrain", "--local-heads", "5"], "Invalid value for '--local-heads': 5 is not from 0 to 4"),
        (["pretrain", "--mask-rate", "1"], "Invalid value for '--mask-rate': 1.0 is not above 0 and below 1"),
    ],
)
def test_a_number_out_of_its_range_is_wrong_usage(albert, words, message):
    code, out, err = albert(*words)
    assert (code, out) == (2, "")
    assert message in err


def test_help_shows_the_range_of_every_number(albert, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    for name, declared in (("finetune", Settings), ("pretrain", PretrainSettings)):
        page = albert(name, "--help")[1]
        for item in settings_of(declared).values():
            assert (item.type in (int, float)) == (item.bounds is not None), item.name
            if item.bounds is not None and item.option is not None:
                line = re.search(rf"(?m)^  {item.option.default} .*(?:\n {{20}}.*)*", page)
                assert re.search(rf"(\[|; ){re.escape(item.bounds.short)}\]", " ".join(line[0].split())), line[0]


TYPES = [
    ('steps = "10"', "steps is '10', not a whole number"),
    ("steps = 10.5", "steps is 10.5, not a whole number"),
    ("steps = true", "steps is True, not a whole number"),
    ("learning_rate = '1'", "learning_rate is '1', not a number"),
    ("precision = 'fp8'", "precision is 'fp8', not one of auto, fp32, bf16, fp16"),
    ("precision = ['fp32']", "precision is ['fp32'], not one of auto, fp32, bf16, fp16"),
    ("settings = 3", "settings is 3, not a table"),
    ("settings = ['a']", "settings is ['a'], not a table"),
    ("seed = 2000-01-01", "seed is datetime.date(2000, 1, 1), not a whole number"),
    ("seed = [1]\nlearning_rate = {}", "seed is [1], not a whole number; learning_rate is {}, not a number"),
    (f"seed = '{'a' * 1000}'", f"seed is '{'a' * 79}…, not a whole number"),
    ("learning_rate = 0\nwarmup = -1", "learning_rate is 0, not above 0; warmup is -1, not at least 0"),
    ("learning_rate = inf\nwarmup = nan", "learning_rate is inf, not above 0; warmup is nan, not at least 0"),
    (f"steps = {2**63}\neval_every = 0", f"steps is {2**63}, {COUNT}; eval_every is 0, {COUNT}"),
]
FINETUNE = [
    ("regression = 1", "regression is 1, not true or false"),
    ("train = ['a.csv']", "train is ['a.csv'], not a text in quotes"),
    ("skip_bad = 'no'\ndropout = false", "skip_bad is 'no', not true or false; dropout is False, not a number"),
    ("beta2 = 1\nlayer_decay = 0", "beta2 is 1, not from 0 to below 1; layer_decay is 0, not above 0 and at most 1"),
    (f"seed = {2**63}", f"seed is {2**63}, not from 0 to 2**63 - 1"),
]
PRETRAIN = [
    ("whole_words = 0", "whole_words is 0, not true or false"),
    ("corpus = 'texts'", "corpus is 'texts', not a list of texts"),
    ("corpus = ['a', 2]\nunordered = [[]]", "corpus[1] is 2, not {text}; unordered[0] is [], not {text}"),
    ("[weights]\na = 1\nb = 'often'\nc = true", "weights.b is 'often', not a number; weights.c is True, not a number"),
    ("weights = [1]", "weights is [1], not a table of numbers"),
    ("optimizer = 'sgd'", "optimizer is 'sgd', not one of adamw, lamb, muon"),
    ("share = true", "share is True, not one of all, attention, ffn, none"),
    ("mask_rate = 1\nlocal_heads = 5", "mask_rate is 1, not above 0 and below 1; local_heads is 5, not from 0 to 4"),
]  # fmt: skip


@pytest.mark.parametrize(("toml", "message"), TYPES + FINETUNE)
def test_a_wrong_type_in_settings_of_finetune_is_one_line(tmp_path, refused, toml, message):
    (tmp_path / "s.toml").write_text(toml + "\n")
    assert refused("finetune", "sst2", "--config", tmp_path / "s.toml", "--out", tmp_path / "r") == (
        f"{tmp_path}/s.toml: {message}"
    )


@pytest.mark.parametrize(("toml", "message"), TYPES + PRETRAIN)
def test_a_wrong_type_in_settings_of_pretrain_is_one_line(tmp_path, refused, toml, message):
    (tmp_path / "s.toml").write_text(toml + "\n")
    assert refused("pretrain", "--config", tmp_path / "s.toml", "--out", tmp_path / "r") == (
        f"{tmp_path}/s.toml: {message.replace('{text}', 'a text in quotes')}"
    )


@pytest.mark.parametrize(
    ("declared", "toml", "near"),
    [
        (Settings, "lr = 1", "lr: no such setting; the settings are .*; did you mean 'learning_rate'?"),
        (Settings, "max_lenght = 1", "max_lenght: no such setting; the settings are .*; did you mean 'max_length'?"),
        (PretrainSettings, "weight = {a = 1}", "weight: no such setting; the settings are .*; did you mean 'weights'?"),
        (
            PretrainSettings,
            "x = 1\nvocab-size = 2",
            "x, vocab-size: no such setting; the settings are .*; did you mean 'vocab_size'?",
        ),
    ],
)
def test_an_unknown_setting_is_put_right(tmp_path, declared, toml, near):
    (tmp_path / "s.toml").write_text(toml + "\n")
    with pytest.raises(TrainingError, match=f"^{re.escape(f'{tmp_path}/s.toml: ')}{near.replace('?', '[?]')}$"):
        read_settings(tmp_path / "s.toml", declared)


def test_a_whole_number_is_a_number_and_an_empty_file_is_no_fault(tmp_path):
    (tmp_path / "s.toml").write_text("learning_rate = 1\nweights = {a = 2, b = 0.5}\ncorpus = []\n")
    assert read_settings(tmp_path / "s.toml", PretrainSettings) == {
        "learning_rate": 1,
        "weights": {"a": 2, "b": 0.5},
        "corpus": (),
    }
    (tmp_path / "s.toml").write_text("")
    assert read_settings(tmp_path / "s.toml", Settings) == {}


DAMAGE = [
    ('name = "sst2"\nkind', "name = 3\nkind", "task.name is 3, not a text in quotes"),
    ('kind = "classification"', 'kind = "essay"', "task.kind is 'essay', not one of "),
    ('labels = ["no", "yes"]', 'labels = ["no", 1]', "task.labels[1] is 1, not a text in quotes"),
    ("no_answer = false\n", "no_answer = 0\n", "task.no_answer is 0, not true or false"),
    ("max_length = 16", "max_length = '16'", "settings.max_length is '16', not a whole number"),
    ("max_length = 16", "head = 'mlp:x'\nmax_length = 16", "settings.head is 'mlp:x', not linear or mlp:"),
    ("max_length = 16\n", "", "settings.max_length is missing"),
    ("[hashes]\ntrain = ", "hashes = ", "settings.hashes"),
    ('train = "0"', "train = 0", "hashes.train is 0, not a text in quotes"),
    ("[task]", "task = 1\n[tasks]", "task is 1, not a table"),
    ("no_answer = false\n", "mean = 'x'\n", "task.mean is 'x', not a number; task.no_answer is missing"),
]


@pytest.mark.parametrize("words", [["predict", "{}", "a text"], ["evaluate", "{}"], ["answer", "{}", "a?", "b"]])
@pytest.mark.parametrize(("old", "new", "message"), DAMAGE)
def test_a_damaged_run_is_one_line(tmp_path, refused, words, old, new, message):
    assert old in RUN
    (tmp_path / "run.toml").write_text(RUN.replace(old, new))
    told = refused(*(word.format(tmp_path) for word in words))
    if message.startswith("settings.hashes"):
        message = "hashes is missing"
    assert told.startswith(f"{tmp_path}/run.toml: damaged: {message}")


def test_a_damaged_run_is_not_resumed(tmp_path, refused):
    (tmp_path / "run.toml").write_text(RUN.replace("max_length = 16", "max_length = '16'"))
    assert refused("finetune", "sst2", "--out", tmp_path, "--resume") == (
        f"{tmp_path}/run.toml: max_length is '16', not a whole number"
    )
    (tmp_path / "run.toml").write_text("[settings]\nsteps = '1'\n")
    assert (
        refused("pretrain", "--out", tmp_path, "--resume") == f"{tmp_path}/run.toml: steps is '1', not a whole number"
    )


def test_a_table_within_a_table_is_named_with_it():
    from albert_cli.training.run_directory import _RunFile

    assert faults_of({"task": [], "hashes": {}}, _RunFile, complete=True) == [
        "task is [], not a table",
        "settings is missing",
    ]


def test_earlier_names_of_settings_are_still_read(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[settings]\nbatch_tokens = 512\n[settings.config]\nhidden_size = 8\n")
    assert read_settings(path, PretrainSettings) == {"tokens_per_update": 512, "model_config": {"hidden_size": 8}}
    path.write_text("batch_tokens = '1'\nconfig = 3\n")
    with pytest.raises(TrainingError, match=r": batch_tokens is '1', not a whole number; config is 3, not a table$"):
        read_settings(path, PretrainSettings)
    path.write_text("batch_tokens = 1\ntokens_per_update = 1\n")
    with pytest.raises(TrainingError, match="batch_tokens and tokens_per_update are the same setting; leave the first"):
        read_settings(path, PretrainSettings)
