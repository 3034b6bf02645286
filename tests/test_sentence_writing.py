"""convert --to sentence-transformers: runs and models that the library loads, with the vectors of albert embed."""

import json

import numpy as np
import pytest

from albert_cli.embedding.embedder import Embedder
from albert_cli.embedding.settings import Settings
from converters import convert
from converters.sentence_keys import MODEL, MODULES, POOLING, TRANSFORMER

# Loading models through the libraries leaves warnings of theirs.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("undrawn")]
TEXTS = ["a cat", "", "the quick brown fox jumps over the lazy dog, the end.", "Who Are You? 42!", "b"]
TO = ("--to", "sentence-transformers")


def library(directory, texts=TEXTS):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(directory), device="cpu").encode(texts, show_progress_bar=False)


def vectors(model, **settings):
    return Embedder.from_pretrained(str(model), Settings(**settings), threads=1).embed(TEXTS)


def read(directory, file):
    return json.loads((directory / file).read_text())


def test_a_run_of_finetune(letter_model, albert, tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n" + "a cat,yes\nthe dog,no\n" * 4)
    run, out = tmp_path / "run", tmp_path / "st"
    options = ["--train", tmp_path / "train.csv", "--dev", tmp_path / "train.csv", "--epochs", 1, "--threads", 1]
    code, _, err = albert("finetune", "csv", "--model", letter_model, *options, "--out", run)
    assert code == 0, err
    code, said, err = albert("convert", run, out, *TO)
    assert code == 0, err
    assert "dropped    2 tensors of heads: classification head\n" in said
    assert "note       mean pooling, as albert embed has it by default; --pooling names another\n" in said
    expected = vectors(run)
    assert np.abs(library(out) - expected).max() < 1e-5
    assert np.abs(vectors(out) - expected).max() < 1e-6
    assert np.abs(expected - vectors(letter_model)).max() > 1e-4
    assert read(out, "config.json")["architectures"] == ["AlbertModel"]
    assert not (out / "run.toml").exists()
    assert "pooling mean, at most 64 tokens\n" in albert("inspect", out)[1]


def test_a_run_that_learnt_a_teacher_s_vectors(letter_model, albert, tmp_path):
    from test_sentence_vectors import make

    teacher = make("bert", tmp_path / "teacher")
    (tmp_path / "corpus").mkdir()
    lines = ["the cat sat on the mat.", "a dog ran to the park.", "who are you?", "it rains today."] * 5
    documents = ["\n".join(lines[number % 4 :]) for number in range(60)]
    (tmp_path / "corpus/a.txt").write_text("\n\n".join(documents) + "\n")
    run, out = tmp_path / "run", tmp_path / "st"
    code, _, err = albert(
        "pretrain", "--corpus", tmp_path / "corpus", "--init", letter_model, "--teacher", teacher,
        "--steps", 2, "--tokens-per-update", 256, "--max-length", 32, "--threads", 1, "--out", run,
    )  # fmt: skip
    assert code == 0, err
    code, said, err = albert("convert", run, out, *TO)
    assert code == 0, err
    assert "note       mean pooling, as the run's --teacher had it trained\n" in said
    assert "masked-word head (MLM), sentence-order head (SOP)" in said
    assert "absent" not in said
    assert np.abs(library(out) - vectors(run)).max() < 1e-5


@pytest.mark.parametrize("family", ["bert", "electra", "roberta"])
def test_models_of_every_family(albert, tmp_path, family):
    from test_sentence_vectors import make

    model = make(family, tmp_path / "model")
    code, _, err = albert("convert", model, tmp_path / "st", *TO, "--normalize", "--pooling", "cls")
    assert code == 0, err
    assert np.abs(library(tmp_path / "st") - vectors(model, pooling="cls", normalize=True)).max() < 1e-5


@pytest.mark.parametrize(
    "pooling", ["lasttoken", "weighted", "max+mean", "mean+cls", "cls+max+mean+mean_sqrt_len_tokens+weighted+lasttoken"]
)
def test_poolings_lengths_and_normalization(letter_model, albert, tmp_path, pooling):
    options = ["--pooling", pooling, "--max-length", 9, "--normalize"]
    code, said, err = albert("convert", letter_model, tmp_path / "st", *TO, *options)
    assert code == 0, err
    assert "mean pooling," not in said
    expected = vectors(letter_model, pooling=pooling, max_length=9, normalize=True)
    assert np.abs(library(tmp_path / "st") - expected).max() < 1e-5
    assert np.abs(vectors(tmp_path / "st") - expected).max() < 1e-6


def test_the_files_are_read_by_every_version(letter_model, albert, tmp_path):
    """Names of classes, of settings and flags that versions 3 to 5 know."""
    out = tmp_path / "st"
    assert albert("convert", letter_model, out, *TO, "--normalize")[0] == 0
    kinds = [(item["path"], item["type"]) for item in read(out, MODULES)]
    named = "sentence_transformers.models."
    assert kinds == [
        ("", f"{named}Transformer"),
        ("1_Pooling", f"{named}Pooling"),
        ("2_Normalize", f"{named}Normalize"),
    ]
    assert read(out, POOLING)["pooling_mode_mean_tokens"] is True
    assert read(out, POOLING)["word_embedding_dimension"] == 16
    assert read(out, TRANSFORMER) == {"max_seq_length": 64, "do_lower_case": False}
    assert read(out, MODEL) == {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}


def test_a_sentence_model_keeps_its_files(letter_model, albert, refused, tmp_path):
    assert albert("convert", letter_model, tmp_path / "a", *TO, "--pooling", "cls")[0] == 0
    assert albert("convert", tmp_path / "a", tmp_path / "b", *TO)[0] == 0
    for file in (MODULES, MODEL, TRANSFORMER, POOLING):
        assert (tmp_path / "b" / file).read_bytes() == (tmp_path / "a" / file).read_bytes()
    fault = refused("convert", tmp_path / "a", tmp_path / "c", *TO, "--normalize")
    assert fault == (
        f"{tmp_path / 'a'}: a Sentence-Transformers model already, whose files are kept as they are; leave out "
        "--pooling, --normalize and --max-length"
    )


def test_what_cannot_be_written(letter_model, albert, refused, tmp_path):
    fault = refused("convert", letter_model, tmp_path / "st", *TO, "--pooling", "pooler")
    assert fault.startswith("--pooling pooler: sentence-transformers has but cls, max, mean, ")
    fault = refused("convert", letter_model, tmp_path / "st", *TO, "--max-length", 65)
    assert fault == f"--max-length 65: {letter_model} takes 64 tokens"
    fault = refused("convert", letter_model, tmp_path / "st.npz", *TO)
    assert "a Sentence-Transformers model is a directory, not a .npz file" in fault
    convert.convert(letter_model, tmp_path / "bare")
    for file in ("spiece.model", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare" / file).unlink(missing_ok=True)
    fault = refused("convert", tmp_path / "bare", tmp_path / "st", *TO)
    assert fault == f"{tmp_path / 'bare'}: has no tokenizer, which sentence-transformers asks for"
    code, _, err = albert("convert", letter_model, tmp_path / "st", "--to", "sentence_transformers")
    assert code == 2
    assert "'sentence_transformers' is no format here; did you mean 'sentence-transformers'?" in err
    for given in (["--pooling", "cls"], ["--no-normalize"], ["--max-length", 9]):
        code, _, err = albert("convert", letter_model, tmp_path / "st", *given)
        assert code == 2
        said = " ".join(err.replace("│", " ").split())
        assert "has no effect without --to sentence-transformers" in said
