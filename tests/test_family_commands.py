"""The commands with models of families other than ALBERT: what they compute, and what they refuse in one line."""

import json

import numpy as np
import pytest
import torch
import transformers

from albert_cli.model import hidden_states
from albert_cli.model.loading import load_model
from albert_cli.model.packed import PackedEncoder
from albert_cli.model.plain import PlainEncoder
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.families import families, heads_of, presets

TEXTS = ["She had the best of all possible reasons.", "It was"]


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
    assert out == (
        f"{tmp_path / 'm'} (safetensors): {parameters:,} parameters, random, seed 42\n"
        "tokenizer none; --tokenizer FILE adds one\n"
    )
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


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("name", ["bert", "spanbert", "discriminator", "generator"])
def test_embed_gives_the_vectors_of_transformers(relatives, albert, tmp_path, name, pooling):
    (tmp_path / "t.txt").write_text("\n".join(TEXTS) + "\n")
    options = ("--pooling", pooling, "--model", relatives[name], "--out", tmp_path / "v.npy", "--threads", 1)
    assert albert("embed", "--in", tmp_path / "t.txt", *options)[0] == 0
    model = transformers.AutoModel.from_pretrained(relatives[name]).eval()
    tokenizer = Tokenizer.from_pretrained(relatives[name])
    for text, vector in zip(TEXTS, np.load(tmp_path / "v.npy"), strict=True):
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            states = model(ids).last_hidden_state[0]
        wanted = states[0] if pooling == "cls" else states.mean(0)
        assert np.abs(vector - wanted.numpy()).max() < 1e-5


@pytest.mark.parametrize("encoder", [PackedEncoder, PlainEncoder])
@pytest.mark.parametrize("even", [True, False])
def test_positions_of_a_roberta_follow_its_ids(relatives, encoder, even):
    """Also in a text that holds the id of padding, which is attended to all the same; and in rows of one length."""
    model = transformers.AutoModel.from_pretrained(relatives["roberta"]).eval()
    rows = [[0, 20, 1, 22, 2], [0, 7, 8, 9, 2] if even else [0, 9, 30, 1, 1, 5, 6, 2]]
    ours = encoder(load_model(relatives["roberta"]).encoder)
    for run in hidden_states.encode(ours, TokenBatch.of_rows(rows, pad_id=1), batch_tokens=64):
        for number, row in enumerate(run.rows):
            ids = torch.tensor([rows[row]])
            with torch.inference_mode():
                wanted = model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            found = run.layers[0][run.offsets[number] : run.offsets[number + 1]]
            assert (found - wanted).abs().max() < 1e-5


def test_sop_of_a_bert_is_its_next_sentence(relatives, albert):
    pair = ("She had the best.", "It was")
    code, out, _ = albert("sop", *pair, "--model", relatives["bert"], "--json")
    assert code == 0
    encoding = Tokenizer.from_pretrained(relatives["bert"]).encode(*pair)
    model = transformers.BertForNextSentencePrediction.from_pretrained(relatives["bert"]).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([encoding.ids]), token_type_ids=torch.tensor([encoding.token_type_ids])).logits
    assert json.loads(out)[0]["is_next"] == pytest.approx(float(logits.softmax(-1)[0, 0]), abs=1e-5)
    _, out, _ = albert("sop", *pair, "--model", relatives["bert"])
    asked, *answers = out.splitlines()
    assert asked == "next sentence: is the second segment next to the first, or of another text?"
    assert [line.rpartition("  ")[0].strip() for line in answers] == ["is next", "is not next"]


def test_masks_are_not_filled_by_a_head_that_a_model_has_not(relatives, refused):
    """SpanBERT's archives are encoders alone: other programs fill their masks with random weights."""
    model = relatives["spanbert"]
    for command in (["fill-mask", "[MASK]"], ["score", "a"]):
        assert refused(*command, "--model", model) == (
            f"{model}: has no masked-word head (MLM), so its weights would be random; take a model that has it, such "
            "as bert-base-uncased or spanbert_large_with_head.tar.gz"
        )


def test_what_a_family_cannot_do_is_refused_in_one_line(relatives, refused, tmp_path):
    electra, roberta, bert = (relatives[name] for name in ("discriminator", "roberta", "bert"))
    assert refused("fill-mask", "[MASK]", "--model", electra) == (
        f"{electra}: has no masked-word head (MLM), so its weights would be random (this is the discriminator); take a "
        "generator, such as electra-small-generator; of Google's checkpoint, albert convert SOURCE TARGET --part "
        "generator; or ask this one which words were replaced: albert score"
    )
    assert refused("sop", "a", "b", "--model", roberta) == (
        f"{roberta}: RoBERTa has no head for pairs of segments (it was trained without next-sentence prediction); take "
        "an ALBERT (sentence order) or a BERT (next sentence)"
    )
    assert refused("sop", "a", "b", "--model", electra) == (
        f"{electra}: ELECTRA has no head for pairs of segments (it was trained on masked and replaced tokens alone); "
        "take an ALBERT (sentence order) or a BERT (next sentence)"
    )
    for name in ("spanbert", "spanbert-with-heads"):
        assert refused("sop", "a", "b", "--model", relatives[name]) == (
            f"{relatives[name]}: has no next-sentence head (NSP), so its weights would be random (SpanBERT was "
            "trained without one); take a model that has it, such as bert-base-uncased"
        )
    (tmp_path / "t.txt").write_text("she\n")
    assert refused("embed", "--in", tmp_path / "t.txt", "--model", electra, "--pooling", "pooler") == (
        "--pooling pooler: the model has no pooler; choose mean, cls, max or weighted"
    )
    assert refused(
        "pretrain", "--corpus", tmp_path / "t.txt", "--init", bert, "--steps", 1, "--out", tmp_path / "r"
    ) == (f"{bert}: a model of the family bert; albert pretrain trains ALBERTs only; name one of those")


def test_a_generator_lacks_no_head_of_the_discriminators(relatives, albert, tmp_path):
    code, out, _ = albert("convert", relatives["generator"], tmp_path / "g.npz")
    assert code == 0
    assert "absent" not in out


def test_the_config_of_a_generator_makes_a_generator(relatives, albert, tmp_path):
    config = relatives["generator"] / "config.json"
    assert albert("init", tmp_path / "g", "--model-config", config)[0] == 0
    made, wanted = (convert.load(place) for place in (tmp_path / "g", relatives["generator"]))
    assert made.tensors.keys() == wanted.tensors.keys()
    assert "generator_predictions.dense.weight" in made.tensors


@pytest.mark.parametrize("name", ["bert", "spanbert", "discriminator", "roberta"])
def test_the_encoder_of_every_family_for_onnxruntime(relatives, albert, tmp_path, name):
    pytest.importorskip("onnxscript")
    code, out, _ = albert("convert", relatives[name], tmp_path / "m.onnx", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["max_abs_difference"] < 5e-5
    assert (len(report["left_out"]) == 0) == (name == "spanbert")


def test_inspect_says_what_a_missing_pooler_means(relatives, albert):
    """Which programs report as newly initialized, or as unexpected, as if it were a fault."""
    lines = {}
    for name, path in relatives.items():
        code, out, _ = albert("inspect", path)
        assert code == 0
        lines[name] = [line.split("  ", 1)[1].strip() for line in out.splitlines() if line.startswith("pooler")]
    assert lines.pop("spanbert-with-heads") == lines["spanbert"]
    assert lines == {
        "bert": [],
        "spanbert": ["none: embed with --pooling mean or cls; where transformers reports a new one, it is random"],
        "discriminator": ["none, as in every ELECTRA: the first token's vector is in its place"],
        "generator": ["none, as in every ELECTRA: the first token's vector is in its place"],
        "roberta": ["read by no head here, and RoBERTa trains none: probably noise, so take vectors by mean or cls"],
    }


@pytest.mark.parametrize("name", ["bert", "generator", "roberta"])
def test_diff_compares_models_of_every_family(relatives, albert, tmp_path, name):
    assert albert("convert", relatives[name], tmp_path / "m.npz")[0] == 0
    code, out, _ = albert("diff", relatives[name], tmp_path / "m.npz")
    assert code == 0, out
    assert out.startswith("equal: ")
    other = relatives["discriminator" if name == "generator" else "spanbert"]
    assert albert("diff", relatives[name], other)[0] == 1


def test_diff_of_two_families_says_so_and_lists_no_tensors(relatives, albert):
    code, out, _ = albert("diff", relatives["bert"], relatives["roberta"])
    assert code == 1
    assert out.splitlines()[1].split(None, 2)[2] == "bert against roberta, so no tensors are compared"
    assert ".weight" not in out
    total = len(convert.load(relatives["bert"]).tensors.keys() | convert.load(relatives["roberta"]).tensors.keys())
    assert out.splitlines()[-1] == f"0 of {total} tensors are equal"
    _, out, _ = albert("diff", relatives["bert"], relatives["roberta"], "--json")
    assert json.loads(out)["equal_tensors"] == 0
