"""The tokenizer.json written beside a Hugging Face model: transformers gives Google's ids with it."""

import json

import making
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_oracle import glue_texts, golden
from transformers import AutoTokenizer

from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.tokenizers.files import TokenizerFiles
from converters.tokenizers.sentencepiece_model import parse_model
from converters.tokenizers.tokenizer_json import tokenizer_json

# transformers' users write [MASK] to have a word filled in; to Google it is plain text.
GOLDEN_EXCEPTIONS = ["[MASK] in the text"]
# Two ways to cut these have the same score, and ties are broken by rounding: "66 6" or "6 66", "ee e" or "e ee".
GLUE_TIES = ["a greater metropolitan area of 2.666 million", "the aaa of action , xxx is a blast of adrenalin"]


@pytest.fixture(scope="module")
def theirs(google_model):
    return AutoTokenizer.from_pretrained(google_model)


@pytest.fixture(scope="module")
def ours(google_model):
    return Tokenizer.from_pretrained(google_model)


def test_golden_ids_under_transformers(shared_data, theirs):
    lines = golden(shared_data)
    rows = theirs([line["text"] for line in lines], add_special_tokens=False)["input_ids"]
    differing = [line["text"] for line, ids in zip(lines, rows, strict=True) if ids != line["ids"]]
    assert differing == GOLDEN_EXCEPTIONS
    assert len(differing) / len(lines) <= 0.001


def test_golden_ids_of_a_cased_model_under_transformers(shared_data, tmp_path):
    import dataclasses

    checkpoint = convert.load(shared_data / "checkpoints/tf1-google")
    cased = dataclasses.replace(checkpoint.tokenizer, lowercase=False)
    convert.save(dataclasses.replace(checkpoint, tokenizer=cased), tmp_path / "cased")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "cased")
    lines = golden(shared_data)
    rows = theirs([line["text"] for line in lines], add_special_tokens=False)["input_ids"]
    differing = [line["text"] for line, ids in zip(lines, rows, strict=True) if ids != line["ids_cased"]]
    assert differing == GOLDEN_EXCEPTIONS


def test_glue_under_transformers(shared_data, ours, theirs):
    texts = glue_texts(shared_data)[::4]
    texts += [text for text in glue_texts(shared_data) if any(tie in text for tie in GLUE_TIES) and text not in texts]
    rows = theirs(texts, add_special_tokens=False)["input_ids"]
    wanted = ours.ids(texts)
    differing = [text for text, ids, google in zip(texts, rows, wanted, strict=True) if ids != google]
    assert len(texts) > 30_000
    assert all(any(tie in text for tie in GLUE_TIES) for text in differing), differing


def test_special_tokens_pairs_and_lengths(theirs):
    assert (theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id) == (2, 3, 4)
    assert (theirs.pad_token_id, theirs.unk_token_id, theirs.model_max_length) == (0, 1, 512)
    encoded = theirs("Who wrote it?", "Jane Austen", padding="max_length", max_length=12)
    assert encoded["input_ids"] == [2, 72, 738, 32, 60, 3, 3175, 25650, 3, 0, 0, 0]
    assert encoded["token_type_ids"] == [0] * 6 + [1] * 3 + [0] * 3
    assert encoded["attention_mask"] == [1] * 9 + [0] * 3


def test_masks_to_be_filled(theirs):
    assert theirs.tokenize("Paris is [MASK].") == ["▁paris", "▁is", "[MASK]", "."]
    assert theirs.tokenize("[MASK] x[MASK]y [mask]") == ["[MASK]", "▁x", "[MASK]", "y", "▁[", "mask", "]"]
    assert theirs.tokenize("\U0010fffd") == ["▁", "\U0010fffc"]


@given(text=st.text(alphabet=st.characters(codec="utf-8", max_codepoint=0x24F)))
def test_any_latin_text_under_transformers(text, ours, theirs):
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.ids([text])[0]


def test_decoding_under_transformers(theirs):
    assert theirs.decode(theirs("in 1992, (he)")["input_ids"], skip_special_tokens=True) == "in 1992, (he)"


def test_reading_back_is_not_disturbed(shared_data, google_model):
    source, target = (
        convert.load(shared_data / "checkpoints/tf1-google").tokenizer,
        convert.load(google_model).tokenizer,
    )
    assert (target.spiece, target.vocab, target.wordpiece) == (source.spiece, source.vocab, source.wordpiece)
    assert (target.lowercase, target.keep_accents) == (True, False)
    again = Tokenizer.from_pretrained(google_model / "tokenizer.json")
    assert again.ids(["in 1992, (he)"]) == Tokenizer.from_pretrained(google_model).ids(["in 1992, (he)"])


def test_the_bytes_are_the_same_each_time(shared_data, google_model):
    files = convert.load(shared_data / "checkpoints/tf1-google").tokenizer
    assert tokenizer_json(files) == tokenizer_json(files) == (google_model / "tokenizer.json").read_bytes()
    config = json.loads((google_model / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    added = json.loads((google_model / "tokenizer.json").read_text())["added_tokens"]
    assert [token["content"] for token in added] == ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]


def test_a_model_that_is_not_unigram_has_none(shared_data):
    from sentencepiece import sentencepiece_model_pb2 as proto

    model = proto.ModelProto.FromString((shared_data / "tokenizer/spiece.model").read_bytes())
    model.trainer_spec.model_type = proto.TrainerSpec.BPE
    assert tokenizer_json(TokenizerFiles(spiece=model.SerializeToString(), origin="bpe.model")) is None
    assert tokenizer_json(TokenizerFiles()) is None


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("trainer_spec", "byte_fallback", True),
        ("trainer_spec", "treat_whitespace_as_suffix", True),
        ("normalizer_spec", "add_dummy_prefix", False),
        ("normalizer_spec", "escape_whitespaces", False),
    ],
)
def test_a_model_that_cuts_words_otherwise_has_none(part, name, value):
    """The pipeline would give other ids than the model."""
    model = parse_model(making.spiece(), "test")
    assert tokenizer_json(TokenizerFiles(spiece=model.SerializeToString(), origin="test")) is not None
    setattr(getattr(model, part), name, value)
    assert tokenizer_json(TokenizerFiles(spiece=model.SerializeToString(), origin="test")) is None


def test_chinese_models(shared_data, tmp_path):
    import dataclasses

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"我爱北京", "hello", "wor", "##ld", ",", "2", "##0"]
    wordpiece = "".join(f"{token}\n" for token in tokens).encode()
    checkpoint = convert.load(shared_data / "checkpoints/tf1-google")
    chinese = TokenizerFiles(wordpiece=wordpiece, origin="vocab_chinese.txt")
    convert.save(dataclasses.replace(checkpoint, tokenizer=chinese), tmp_path / "zh")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "zh")
    ours = Tokenizer.from_pretrained(tmp_path / "zh")
    for text in ("我爱北京,Hello worLD 20", "é 我 x", ""):
        encoding = ours.encode(text, "北京")
        encoded = theirs(text, "北京")
        assert encoded["input_ids"] == encoding.ids
        assert encoded["token_type_ids"] == encoding.token_type_ids
    assert theirs.tokenize("我爱[MASK]") == ["我", "爱", "[MASK]"]
    assert (theirs.pad_token_id, theirs.unk_token_id) == (0, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda found: found["post_processor"]["special_tokens"]["[CLS]"].update(ids=1),
            "the post_processor is no sound",
        ),
        (
            lambda found: found.update(normalizer={"type": "Sequence", "normalizers": 10**30}),
            "normalizers of the normalizer is no list of stages",
        ),
        (lambda found: found["model"].update(type=[[]]), "a model of type is [[]], not WordPiece, Unigram or BPE"),
        (lambda found: found["model"]["vocab"][9].__setitem__(0, "\ud800"), "holds half of a UTF-16 pair, which is no"),
    ],
    ids=["ids", "normalizers", "type", "half of a pair"],
)
def test_a_damaged_one_that_is_the_only_vocabulary_is_refused(letter_model, tmp_path, refused, change, said):
    found = json.loads((letter_model / "tokenizer.json").read_text())
    change(found)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((letter_model / name).read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps(found))
    assert f"tokenizer.json: {said}" in refused("fill-mask", "a [MASK]", "--model", tmp_path)
