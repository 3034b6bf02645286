"""Numbers on the command line: every option of every command, far out of range or none at all."""

import shutil

import pytest
import tuning
import typer
from typer.testing import CliRunner

from albert_cli.main import app
from converters.errors import AlbertError

FEW = ("-1", "1e23", "nan", "junk")
MANY = ("0", str(10**23), str(2**31), str(2**63), "inf", "-inf", "", "1e-400", "0x10", "٣")
COMMANDS = {
    "embed": ["--in", "t.txt", "--model", "model", "--out", "o.parquet", "--force"],
    "similarity": ["a film", "a dog", "--model", "model"],
    "tokenize": ["a good film", "--model", "model"],
    "fill-mask": ["a [MASK] film", "--model", "model"],
    "score": ["a good film", "--model", "model"],
    "sop": ["a film", "a dog", "--model", "model"],
    "predict": ["run", "a film"],
    "evaluate": ["run", "--data", "dev.csv"],
    "answer": ["run", "q", "c"],
    "init": ["made", "--model-config", "model/config.json", "--force"],
    "convert": ["model", "out.npz", "--force"],
    "inspect": ["model"],
    "diff": ["model", "model"],
    "models": [],
    "finetune": ["csv", "--train", "train.csv", "--dev", "dev.csv", "--model", "model", "--steps", "1", "--max-length",
                 "16", "--out", "fresh", "--force"],
    "pretrain": ["--corpus", "corpus.txt", "--init", "model", "--steps", "1", "--max-length", "16", "--hold-out", "4",
                 "--tokens-per-update", "64", "--out", "pretrained", "--force"],
}  # fmt: skip
# Those that take longer: in slow tests alone.
SLOW = ("answer", "embed", "evaluate", "finetune", "predict", "pretrain", "score", "similarity", "sop")
# Options that take numbers as a text, which has a form of its own.
NUMBERS_IN_TEXT = ("batch_tokens", "seeds", "shard", "layers", "layer", "head", "weights", "decode")


def numeric_options(name):
    command = typer.main.get_command(app).commands[name]
    for option in command.params:
        kind = getattr(option, "type_descriptor", None)
        annotation = str(kind and kind.annotation)
        if option.param_type_name == "option" and (
            "int" in annotation or "float" in annotation or option.name in NUMBERS_IN_TEXT
        ):
            yield option.opts[0]


def invoked(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, a run of it, and files to read."""
    folder = tmp_path_factory.mktemp("numbers")
    tuning.write_model(folder / "model")
    tuning.write_csv(folder / "train.csv", tuning.reviews(12))
    tuning.write_csv(folder / "dev.csv", tuning.reviews(6, seed=9))
    lines = [f"{text} {number}." for number, (text, _) in enumerate(tuning.reviews(40, seed=4))]
    paragraphs = [f"{line}\n" if number % 4 == 3 else line for number, line in enumerate(lines)]
    (folder / "corpus.txt").write_text("\n".join(paragraphs))
    (folder / "t.txt").write_text("a good film\na bad film\n")
    made = invoked("finetune", "csv", "--train", folder / "train.csv", "--dev", folder / "dev.csv", "--model",
                   folder / "model", "--steps", 1, "--max-length", 16, "--out", folder / "run")  # fmt: skip
    assert made.exit_code == 0, made.output
    return folder


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
            result = invoked(name, *COMMANDS[name], f"{option}={value}")
            case = f"{name} {option}={value}"
            assert result.exception is None or isinstance(result.exception, (SystemExit, AlbertError)), (
                case,
                repr(result.exception),
            )
            assert result.exit_code in (0, 1, 2), case
            assert "Traceback" not in result.output, case
