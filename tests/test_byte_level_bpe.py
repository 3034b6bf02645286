"""Byte-level BPE of RoBERTa: the ids of fairseq on everything, and exact spans."""

import dataclasses
import json
import unicodedata

import pytest
import relatives
from bpe_oracle import BytePairs
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizer_oracle import glue_texts

from albert_cli.errors import TokenizerError
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.tokenizers.bpe import byte_symbols
from converters.tokenizers.files import TokenizerFiles

AWKWARD = "aA1é'sdvt \t\n\r\x0b\x1c\x85\u00a0\u200b\u2028\u3000\ufffd²Ⅷ一各각\u0301\U0001f600\U0001d165▁Ġ.,!<s>"
texts = st.one_of(st.text(), st.text(alphabet=AWKWARD), st.text(alphabet=st.characters(codec=None), max_size=20))


@pytest.fixture(scope="session")
def files(shared_data):
    vocabulary, merges = (relatives.unpacked(shared_data, name) for name in ("roberta-vocab.json", "vocab.bpe"))
    return TokenizerFiles.of("x", vocab_json=vocabulary, merges=merges)


@pytest.fixture(scope="session")
def tokenizer(files):
    return Tokenizer.from_files(files)


@pytest.fixture(scope="session")
def oracle(files):
    return BytePairs(json.loads(files.vocab_json), files.merges.decode())


def known(text):
    """The text without what Python's Unicode does not know, and the `regex` library's may."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cn", "Cs") else c for c in text)


# --- fairseq's ids ---


def test_golden_ids(shared_data, tokenizer, oracle):
    lines = relatives.golden(shared_data)
    given_texts = [line["text"] for line in lines]
    wanted = [line["roberta"] for line in lines]
    assert [oracle(text) for text in given_texts] == wanted
    assert tokenizer.ids(given_texts) == wanted
    assert [tokenizer.encode(text, special_tokens=False).ids for text in given_texts] == wanted


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_ids_of_all_of_glue(every, shared_data, tokenizer, oracle):
    some = glue_texts(shared_data)[::every]
    assert len(some) > 120_000 // every
    assert tokenizer.ids(some) == list(map(oracle, some))


def test_ids_of_random_unicode(tokenizer, oracle):
    some = list(map(known, relatives.random_texts(5000, seed=3)))
    assert tokenizer.ids(some) == list(map(oracle, some))


@given(text=texts)
@example(text="a\n \nb  \t c\x1c \x1d\u3000 d")
@example(text="  'there's it'll 'LL I'd")
def test_ids_of_any_text_follow_the_rules(text, tokenizer, oracle):
    text = known(text)
    assert tokenizer.ids([text]) == [oracle(text)]
    check_spans(text, tokenizer.segmenter.pieces(text), oracle.pieces(text))
    assert tokenizer.decode(tokenizer.ids([text])[0]) == text


@given(text=st.text(alphabet="ab c", max_size=40), merges=st.permutations(["a b", "ab ab", "ab a", "b c", "abab ab"]))
def test_merges_in_any_order_follow_the_rules(text, merges):
    symbols = [*byte_symbols().values(), "ab", "abab", "aba", "bc", "ababab"]
    vocabulary = {piece: number for number, piece in enumerate([*symbols, "<s>", "</s>", "<mask>", "<pad>", "<unk>"])}
    lines = "\n".join(merges)
    files = TokenizerFiles.of("x", vocab_json=json.dumps(vocabulary).encode(), merges=lines.encode())
    assert Tokenizer.from_files(files).ids([text]) == [BytePairs(vocabulary, lines)(text)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world!", [0, 31414, 232, 328, 2]),
        ("Hello world", [0, 31414, 232, 2]),
        (" world", [0, 232, 2]),
        ("world", [0, 8331, 2]),
        ("  'there", [0, 1437, 128, 8585, 2]),
        ("", [0, 2]),
    ],
)
def test_published_ids(text, ids, tokenizer):
    assert tokenizer.encode(text).ids == ids
    assert tokenizer.encode_batch([text])[0].tolist() == ids
    assert set(tokenizer.encode(text).token_type_ids) == {0}


def test_published_pieces(tokenizer):
    encoding = tokenizer.encode("You are a beautiful person.")
    assert encoding.pieces == ["<s>", "You", "Ġare", "Ġa", "Ġbeautiful", "Ġperson", ".", "</s>"]
    assert encoding.offsets == [(0, 0), (0, 3), (4, 7), (8, 9), (10, 19), (20, 26), (26, 27), (0, 0)]


def test_a_pair_has_two_tokens_between_and_no_types(tokenizer):
    encoding = tokenizer.encode("Hello world", "world")
    assert encoding.ids == [0, 31414, 232, 2, 2, 8331, 2]
    assert encoding.token_type_ids == [0] * 7
    assert encoding.sequence_ids == [None, 0, 0, None, None, 1, None]
    batch = tokenizer.encode_batch(["Hello world", "a b c d"], ["world", "a b c d"], max_length=8)
    assert batch[0].tolist() == encoding.ids
    assert batch[1].tolist() == tokenizer.encode("a b c d", "a b c d", max_length=8).ids
    assert not batch.token_type_ids.any()
    cut = tokenizer.encode("a b c d", "a b c d", max_length=8)
    assert (cut.sequence_ids.count(0), cut.sequence_ids.count(1), cut.truncated) == (2, 2, 4)
    with pytest.raises(TokenizerError, match="a maximal length of 4 leaves no room for text beside 4 special tokens"):
        tokenizer.encode("a", "b", max_length=4)


# --- special tokens ---


def test_special_tokens_in_a_text_are_plain_text(tokenizer, oracle):
    for text in ("x<mask>y", "<s> </s> <pad> <unk>", "a beautiful <mask>."):
        assert tokenizer.encode(text, special_tokens=False).ids == oracle(text)


@pytest.mark.parametrize("mask", ["<mask>", "[MASK]"])
def test_a_mask_takes_the_blank_before_it(tokenizer, mask):
    text = f"you are a beautiful {mask}."
    encoding = tokenizer.encode(text, special_in_text=(mask,))
    assert encoding.ids == [0, 6968, 32, 10, 2721, 50264, 4, 2]
    assert [text[start:end] for start, end in encoding.offsets[4:-1]] == ["beautiful", mask, "."]
    assert tokenizer.encode("<mask> <mask>\n<mask>x", special_in_text=True).ids == [0, *[50264] * 3, 1178, 2]
    assert tokenizer.encode("a </s> b", special_in_text=True).pieces == ["<s>", "a", "Ġ", "</s>", "Ġb", "</s>"]


def test_a_space_before_the_first_word(files, oracle):
    tokenizer = Tokenizer.from_files(dataclasses.replace(files, prefix_space=True))
    assert tokenizer.ids(["Hello", " Hello", "", "\nx"]) == [[20920], [20920], [], oracle(" \nx")]
    for text in ("Hello world", "éa", " a", ""):
        pieces = tokenizer.segmenter.pieces(text)
        assert [piece.id for piece in pieces] == tokenizer.ids([text])[0]
        check_spans(text, pieces, [piece.piece for piece in pieces])


# --- spans ---


def check_spans(text, pieces, wanted):
    """Spans are monotone, begin and end in text, and together cover everything but white space."""
    assert [piece.piece for piece in pieces] == wanted
    covered = set()
    least = most = 0
    for piece in pieces:
        assert least <= piece.start <= piece.end <= len(text)
        assert most <= piece.end
        least, most = piece.start, piece.end
        if piece.start < piece.end:
            assert not text[piece.start].isspace()
            assert not text[piece.end - 1].isspace()
        covered.update(range(piece.start, piece.end))
    assert covered.issuperset(place for place, character in enumerate(text) if not character.isspace())


def test_spans_of_glue_spell_the_pieces(shared_data, tokenizer):
    for text in glue_texts(shared_data)[::200]:
        for piece in tokenizer.segmenter.pieces(text):
            if piece.kind == "normal":
                shown = tokenizer.decode([piece.id])
                assert shown.strip() == text[piece.start : piece.end]


def test_spans_of_parts_of_characters(tokenizer):
    text = "naïve 각\u3000😀!\n"
    pieces = tokenizer.segmenter.pieces(text)
    assert [(piece.piece, text[piece.start : piece.end], piece.kind) for piece in pieces] == [
        ("na", "na", "normal"),
        ("Ã¯ve", "ïve", "normal"),
        ("Ġ", "", "normal"),
        ("ê", "각", "byte"),
        ("°", "각", "byte"),
        ("ģ", "각", "byte"),
        ("ãĢ", "", "byte"),
        ("Ģ", "", "byte"),
        ("ðŁĺ", "😀", "byte"),
        ("Ģ", "😀", "byte"),
        ("!", "!", "normal"),
        ("Ċ", "", "normal"),
    ]


def test_decoding(tokenizer):
    ids = tokenizer.encode("Hello world! café 😀").ids
    assert tokenizer.decode(ids) == "Hello world! café 😀"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<s>Hello world! café 😀</s>"
    assert tokenizer.decode(ids[-2:-1]) == "\ufffd"


def test_a_long_line(tokenizer):
    for text in ("the quick fox, 1999, Café " * 4_000, "x" * 100_000, "各" * 20_000):
        encoding = tokenizer.encode(text, special_tokens=False)
        assert encoding.ids == tokenizer.ids([text])[0]
        assert encoding.offsets[-1][1] >= len(text.rstrip())


def test_it_cannot_be_used_raw(files):
    with pytest.raises(TokenizerError, match="a byte-level BPE cannot be used raw; only SentencePiece models can"):
        Tokenizer.from_files(files, raw=True)
