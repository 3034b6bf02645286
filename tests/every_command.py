"""A small world in which every command of `albert` has something to do, and the words that have it done in a moment."""

import tuning
from typer.testing import CliRunner

from albert_cli.main import app

# Each in the folder of the world. Outputs are written there, and written again when it is run again.
COMMANDS = {
    "embed": ["--in", "t.txt", "--model", "model", "--out", "o.parquet", "--force"],
    "search": ["a film", "--in", "t.txt", "--model", "model"],
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
    # No address, so that it ends at once.
    "serve": ["--model", "model", "--host", "a" * 64],
    "finetune": ["csv", "--train", "train.csv", "--dev", "dev.csv", "--model", "model", "--steps", "1", "--max-length",
                 "16", "--out", "fresh", "--force"],
    "pretrain": ["--corpus", "corpus.txt", "--init", "model", "--steps", "1", "--max-length", "16", "--hold-out", "4",
                 "--tokens-per-update", "64", "--out", "pretrained", "--force"],
}  # fmt: skip
# What a command leaves; and those that are refused, for the run answers no questions and the address is none.
WRITTEN = {
    "embed": "o.parquet",
    "init": "made/config.json",
    "convert": "out.npz",
    "finetune": "fresh/summary.json",
    "pretrain": "pretrained/summary.json",
}
REFUSED = ("answer", "serve")


def invoked(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def make_world(folder):
    """A model, a run of it, and files to read."""
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
