"""Texts of BERT, ELECTRA, RoBERTa and SpanBERT directories: the ids that their own code made, and what shows them."""

import json

import numpy as np
import pytest

from albert_cli.tokenization.tokenizer import Tokenizer

# What the rows of BERT's and ELECTRA's expected inputs were made of (the sample data's README).
PAIRS = [
    ("She had the best of all possible reasons.", "It was a very great pleasure to him, 1234!"),
    ("Mr. Knightley, naïve café résumé", "中文 字 (unaffable) don't"),
    ("The second of the two ladies", "[MASK] unknown ☃ word"),
    ("I am not at all sure that this is so;", None),
]


@pytest.fixture(scope="module")
def samples(shared_data):
    folder = shared_data / "relatives"
    return lambda name: (folder / name, np.load(folder / f"{name}.expected.npz", allow_pickle=False))


@pytest.fixture(scope="module")
def roberta(shared_data):
    return shared_data / "relatives/hf-roberta"


@pytest.mark.filterwarnings("ignore:.*says whether text is lower-cased")
@pytest.mark.parametrize("name", ["tf1-bert-uncased", "tf1-bert-cased", "tf1-electra"])
def test_pairs_have_the_ids_and_types_of_their_own_code(name, samples):
    model, expected = samples(name)
    tokenizer = Tokenizer.from_pretrained(model)
    inputs = expected["input_ids"].copy()
    for row, (places, ids) in enumerate(zip(expected["masked_lm_positions"], expected["masked_lm_ids"], strict=True)):
        at = places > 0
        inputs[row, places[at]] = ids[at]  # before they were masked
    for row, (first, second) in enumerate(PAIRS):
        encoding = tokenizer.encode(first, second, max_length=inputs.shape[1])
        length = int(expected["input_mask"][row].sum())
        assert encoding.ids == inputs[row, :length].tolist()
        assert encoding.token_type_ids == expected["segment_ids"][row, :length].tolist()


def test_texts_pairs_and_masks_have_the_ids_of_fairseq(shared_data, roberta):
    expected = np.load(shared_data / "relatives/roberta.expected.npz", allow_pickle=False)
    rows = [
        row[mask.astype(bool)].tolist()
        for row, mask in zip(expected["input_ids"], expected["attention_mask"], strict=True)
    ]
    tokenizer = Tokenizer.from_pretrained(roberta)
    texts, masked = expected["texts"].tolist(), expected["mask_texts"].tolist()
    pairs = list(zip(expected["pair_first"].tolist(), expected["pair_second"].tolist(), strict=True))
    made = [tokenizer.encode(text) for text in texts] + [tokenizer.encode(*pair) for pair in pairs]
    made += [tokenizer.encode(text, special_in_text=("<mask>",)) for text in masked]
    assert [encoding.ids for encoding in made] == rows
    assert not any(any(encoding.token_type_ids) for encoding in made)
    batch = tokenizer.encode_batch(texts)
    assert [batch[row].tolist() for row in range(len(batch))] == rows[: len(texts)]


def test_fill_mask_has_the_probabilities_of_fairseq(shared_data, roberta, albert):
    expected = np.load(shared_data / "relatives/roberta.expected.npz", allow_pickle=False)
    texts = expected["mask_texts"].tolist()
    code, out, err = albert("fill-mask", *texts, "--model", roberta, "--top", 337, "--json", "--precision", "fp32")
    assert (code, err) == (0, "")
    ids = expected["input_ids"][-len(texts) :]
    for row, found in enumerate(json.loads(out)):
        logits = expected["lm_logits"][-len(texts) + row][ids[row] == 336].astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        assert len(found["masks"]) == len(shares)
        for candidates, wanted in zip(found["masks"], shares, strict=True):
            by_id = {candidate["id"]: candidate["probability"] for candidate in candidates}
            np.testing.assert_allclose([by_id[number] for number in range(337)], wanted, atol=1e-5)


def test_words_that_fill_a_mask(roberta, albert):
    def filled(text, targets, *, piece):
        code, out, err = albert("fill-mask", text, "--model", roberta, "--targets", targets, "--json")
        assert (code, err) == (0, "")
        (candidate,) = json.loads(out)[0]["masks"][0]
        assert candidate["piece"] == piece
        return candidate["filled"]

    assert filled("you are the <mask>.", "her", piece="Ġher") == "you are the her."
    assert filled("you are the <mask> ", "her", piece="Ġher") == "you are the her "
    assert filled("you are g<mask>.", "ou", piece="ou") == "you are gou."
    assert filled("<mask> is it", "he", piece="he") == "he is it"


def test_words_of_several_pieces_do_not_fill_a_mask(roberta, refused):
    assert refused("fill-mask", "a <mask> <mask>", "--targets", "zebra", "--model", roberta) == (
        "'zebra' is 6 pieces (Ġ z e b r a); a mask stands for one piece of the vocabulary"
    )
    assert refused("fill-mask", "a [mask]", "--model", roberta) == (
        "the text has no <mask>; write <mask> where a word is to be found"
    )


def test_embed_computes_with_the_ids_of_fairseq(shared_data, roberta, albert, tmp_path):
    expected = np.load(shared_data / "relatives/roberta.expected.npz", allow_pickle=False)
    texts = expected["texts"].tolist()
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    code, _, err = albert(
        "embed", "--in", tmp_path / "t.jsonl", "--model", roberta, "--pooling", "cls", "--out", tmp_path / "v.npy",
        "--precision", "fp32",
    )  # fmt: skip
    assert (code, err) == (0, "")
    np.testing.assert_allclose(
        np.load(tmp_path / "v.npy"), expected["sequence_output"][: len(texts), 0], rtol=0, atol=1e-5
    )


# --- albert tokenize ---


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_one_file_of_a_roberta_stands_for_all(name, shared_data, roberta, albert, tmp_path):
    for file in ("vocab.json", "merges.txt"):
        (tmp_path / file).write_bytes((roberta / file).read_bytes())
    for model in (tmp_path / name, roberta / name, shared_data / "relatives/fairseq-roberta/dict.txt"):
        code, out, err = albert("tokenize", "the best", "--model", model, "--format", "ids")
        assert (code, out, err) == (0, "0 6 29 44 81 2\n", "")


def test_tokens_of_a_roberta(roberta, albert):
    text = "He is naïve, 各!"
    code, out, err = albert("tokenize", text, "the best", "--pair", "--model", roberta, "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    assert found["tokens"][:3] == ["<s>", "H", "e"]
    assert found["tokens"].count("</s>") == 3
    assert set(found["token_type_ids"]) == {0}
    sources = {piece: text[slice(*span)] for piece, span in zip(found["tokens"], found["offset_mapping"], strict=True)}
    assert (sources["H"], sources["Ã"], sources["¯"]) == ("H", "ï", "ï")
    kinds = dict(zip(found["tokens"], found["kinds"], strict=True))
    assert (kinds["<s>"], kinds["H"], kinds["Ã"]) == ("control", "normal", "byte")
    code, out, err = albert("tokenize", "--decode", " ".join(map(str, found["input_ids"])), "--model", roberta)
    assert (code, out, err) == (0, f"{text}the best\n", "")


def test_figures_of_a_roberta(roberta, albert, tmp_path):
    (tmp_path / "t.txt").write_text("He is here\nthe best, naïve\n", encoding="utf-8")
    code, out, err = albert("tokenize", "--in", tmp_path / "t.txt", "--model", roberta, "--stats", "--json")
    assert (code, err) == (0, "")
    figures = json.loads(out)
    assert (figures["texts"], figures["unknown_tokens"], figures["special_tokens_per_text"]) == (2, 0, 2)


def test_a_page_of_a_roberta(roberta, albert, tmp_path):
    code, _, err = albert("tokenize", "naïve <b>", "--model", roberta, "--out", tmp_path / "page.html")
    assert (code, err) == (0, "")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&lt;s&gt;<small>0</small>" in page
    assert 'class="t h3 byte"' in page


def test_families_are_compared(shared_data, roberta, albert):
    spiece = shared_data / "tokenizer/spiece.model"
    code, out, err = albert("tokenize", "He is.", "--model", roberta, "--compare", spiece, "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    assert found["first"]["tokens"] == ["<s>", "H", "e", "Ġ", "is", ".", "</s>"]
    assert found["second"]["tokens"] == ["[CLS]", "▁he", "▁is", ".", "[SEP]"]
    code, out, err = albert("tokenize", "He is.", "--model", roberta, "--compare", spiece)
    assert (code, err) == (0, "")
    assert "1 of 1 texts differ (100.00%)" in out


def test_an_albert_is_not_pretrained_with_byte_pairs(roberta, refused, tmp_path):
    (tmp_path / "t.txt").write_text("One sentence.\n")
    options = ("--out", tmp_path / "run", "--steps", 1, "--tokenizer", roberta)
    assert refused("pretrain", "--corpus", tmp_path / "t.txt", *options) == (
        f"{roberta}: pretraining takes a SentencePiece model or a WordPiece list, not a byte-level BPE"
    )
