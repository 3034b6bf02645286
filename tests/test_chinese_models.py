"""Google's Chinese models: a BERT WordPiece list in place of a SentencePiece model."""

import json
import shutil

import making
import pytest

from converters import convert

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "中",
    "文",
    "模",
    "型",
    "##型",
    "al",
    "##bert",
    "。",
    "a",
    "1",
    "##2",
]
TEXTS = ["中文模型", "ALBERT 中文", "Á1。12型", "[MASK]模", "  \n", "未知"]


@pytest.fixture
def google(tmp_path):
    """A checkpoint directory as Google published albert_base_zh."""
    folder = making.tf1(tmp_path / "albert_base", making.TINY)
    for name in ("30k-clean.model", "30k-clean.vocab"):
        (folder / name).unlink()
    (folder / "vocab_chinese.txt").write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    return folder


@pytest.mark.parametrize("middle", ["safetensors", "torch", "npz"])
def test_there_and_back(google, tmp_path, albert, middle):
    there = tmp_path / ("x.npz" if middle == "npz" else "hf")
    for source, target, form in ((google, there, middle), (there, tmp_path / "back", "tf")):
        code, _, err = albert("convert", source, target, "--to", form)
        assert (code, err) == (0, "")
    for name in ("vocab_chinese.txt", "albert_config.json"):
        one, other = ((folder / name).read_bytes() for folder in (google, tmp_path / "back"))
        assert json.loads(one) == json.loads(other) if name.endswith("json") else one == other
    assert albert("diff", google, tmp_path / "back")[0] == 0
    if middle != "npz":
        assert (there / "vocab.txt").read_bytes() == (google / "vocab_chinese.txt").read_bytes()
        assert not (there / "spiece.model").exists()


def test_from_the_archive_to_ids(google, tmp_path, albert):
    """The ids are those of transformers' BertTokenizer, in our tokenizer and in AutoTokenizer's alike."""
    from transformers import AutoTokenizer, BertTokenizer

    archive = shutil.make_archive(str(tmp_path / "albert_base_zh"), "gztar", tmp_path, "albert_base")
    code, out, err = albert("convert", archive, tmp_path / "hf", "--to", "safetensors")
    assert (code, err) == (0, "")
    assert "vocab_chinese.txt, copied" in out
    bert = BertTokenizer(str(google / "vocab_chinese.txt"))
    auto = AutoTokenizer.from_pretrained(tmp_path / "hf")
    for text in TEXTS:
        assert auto(text)["input_ids"] == bert(text)["input_ids"], text
        code, out, err = albert("tokenize", text, "--model", tmp_path / "hf", "--format", "ids")
        if "[MASK]" not in text:  # which is plain text to ours
            assert [int(word) for word in out.split()] == bert(text)["input_ids"], text


def test_what_it_is_called_on_the_hub(google, tmp_path):
    """A vocab.txt beside config.json, as people uploaded them."""
    convert.convert(google, tmp_path / "hf", target_as="torch")
    assert {path.name for path in (tmp_path / "hf").iterdir()} == {
        "config.json",
        "pytorch_model.bin",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "hf" / name).unlink()
    assert convert.load(tmp_path / "hf").tokenizer.wordpiece == (google / "vocab_chinese.txt").read_bytes()
