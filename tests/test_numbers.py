"""Numbers on the command line: every option of every command, far out of range or none at all."""

import shutil

import pytest
import typer
from every_command import COMMANDS, invoked, make_world

from albert_cli.main import app
from converters.errors import AlbertError

FEW = ("-1", "1e23", "nan", "junk")
MANY = ("0", str(10**23), str(2**31), str(2**63), "inf", "-inf", "", "1e-400", "0x10", "٣")
# Those that take longer: in slow tests alone.
SLOW = ("answer", "embed", "evaluate", "finetune", "predict", "pretrain", "score", "search", "similarity", "sop")
# Options for how long to train: of these values, the one that is in range would keep a test for years.
LONG = ("--steps", "--epochs", "--minutes")
# Options that take numbers as a text, which has a form of its own.
NUMBERS_IN_TEXT = ("batch_tokens", "seeds", "shard", "layers", "layer", "head", "weights", "decode", "learning_rate")


def numeric_options(name):
    command = typer.main.get_command(app).commands[name]
    for option in command.params:
        kind = getattr(option, "type_descriptor", None)
        annotation = str(kind and kind.annotation)
        if option.param_type_name == "option" and (
            "int" in annotation or "float" in annotation or option.name in NUMBERS_IN_TEXT
        ):
            yield option.opts[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("numbers"))


def test_every_command_is_tried():
    assert set(COMMANDS) == set(typer.main.get_command(app).commands)
    assert sum(len(list(numeric_options(name))) for name in COMMANDS) > 60


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *(pytest.param(name, FEW, marks=[pytest.mark.slow] * (name in SLOW), id=f"{name}-few") for name in COMMANDS),
        *(pytest.param(name, MANY, marks=pytest.mark.slow, id=f"{name}-many") for name in COMMANDS),
    ],
)
def test_a_number_out_of_range_is_one_line_or_a_result(world, tmp_path, monkeypatch, name, values):
    """Exit code 0, or 1 or 2 with our own error: no traceback, whatever the number."""
    shutil.copytree(world, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    for option in numeric_options(name):
        for value in values:
            if option in LONG and value == str(2**31):
                continue
            result = invoked(name, *COMMANDS[name], f"{option}={value}")
            case = f"{name} {option}={value}"
            assert result.exception is None or isinstance(result.exception, (SystemExit, AlbertError)), (
                case,
                repr(result.exception),
            )
            assert result.exit_code in (0, 1, 2), case
            assert "Traceback" not in result.output, case
