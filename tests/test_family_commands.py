"""The commands with models of families other than ALBERT: what they compute, and what they refuse in one line."""

import json

import pytest

from converters import convert
from converters.families import families, heads_of, presets


@pytest.mark.parametrize(
    ("preset", "parameters", "heads"),
    [
        ("bert-tiny", 4_433_468, {"mlm", "nsp"}),
        ("electra-small", 13_549_057, {"rtd"}),
        ("electra-small-generator", 13_546_682, {"mlm"}),
    ],
)
def test_init_makes_a_model_of_every_family(albert, tmp_path, preset, parameters, heads):
    """With the heads of its pre-training, as many parameters as transformers counts."""
    code, out, err = albert("init", tmp_path / "m", "--preset", preset)
    assert (code, err) == (0, "")
    assert out == f"{tmp_path / 'm'} (safetensors): {parameters:,} parameters, random, seed 42\n"
    assert heads == set(convert.load(tmp_path / "m").components) - {"embeddings", "projection", "encoder", "pooler"}


def test_presets_of_every_family_are_the_published_shapes():
    assert {config.family for config in presets().values()} == set(families())
    assert heads_of("electra-large-generator") == ("mlm",)
    assert heads_of("roberta-base") == ("mlm",)
    assert heads_of("tiny") == ("pooler", "mlm", "sop")


def test_init_takes_the_size_of_a_word_list(albert, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b"]) + "\n")
    assert albert("init", tmp_path / "m", "--preset", "bert-tiny", "--tokenizer", tmp_path / "vocab.txt")[0] == 0
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert (config["model_type"], config["vocab_size"]) == ("bert", 7)
    assert (tmp_path / "m/vocab.txt").read_bytes() == (tmp_path / "vocab.txt").read_bytes()


def test_presets_are_checked(albert, tmp_path):
    code, _, err = albert("init", tmp_path / "m", "--preset", "bert-bse")
    assert code == 2
    assert "did you mean 'bert-base'?" in err
    code, _, err = albert("pretrain", "--corpus", tmp_path, "--steps", 1, "--preset", "bert-tiny")
    assert code == 2
    assert "bert-tiny is no ALBERT, and others are not pretrained here: tiny, base, large, xlarge, xxlarge" in err
