"""WordPiece of BERT, ELECTRA and SpanBERT: the ids of Google's own tokenizers on everything, and exact spans."""

import functools

import pytest
import relatives
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizer_oracle import glue_texts
from wordpiece_oracle import WordPiece

from albert_cli.tokenization.pieces import Piece
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.tokenizers.files import TokenizerFiles

# What the rules are about: controls, blanks, accents, capitals that depend on their place, marks, Chinese, long words.
AWKWARD = (
    "aA1é#[]\u0301\u0345\u0327\u03a3\u03c3ßİǅﬁÅ각各\U0002b91f々 \t\n\x00\x0b\x1c\x85\xad\u200b\u2028\ufffd"
    "\ue000\u0378\u302e\U0001d165.,_$≠·"
)
texts = st.one_of(st.text(), st.text(alphabet=AWKWARD), st.text(alphabet=st.characters(codec=None), max_size=20))
SETTINGS = {
    "bert_uncased": {"lower": True},
    "bert_cased": {"lower": False},
    "electra": {"lower": True, "electra": True},
}


@pytest.fixture(scope="session")
def vocabularies(shared_data):
    return {kind: relatives.unpacked(shared_data, f"bert-{kind}-vocab.txt") for kind in ("uncased", "cased")}


def vocabulary_of(name, vocabularies):
    return vocabularies["cased" if name == "bert_cased" else "uncased"]


@pytest.fixture(scope="session")
def tokenizers(vocabularies):
    made = {}
    for name, setting in SETTINGS.items():
        words = vocabulary_of(name, vocabularies)
        settings = {"do_lower_case": setting["lower"], "drop_category_c": setting.get("electra", False)}
        made[name] = Tokenizer.from_files(TokenizerFiles.of("x", wordpiece=words, settings=settings))
    return made


@pytest.fixture(scope="session")
def oracles(vocabularies):
    return {
        name: WordPiece(vocabulary_of(name, vocabularies).decode().split("\n")[:-1], **setting)
        for name, setting in SETTINGS.items()
    }


# --- Google's ids ---


@pytest.mark.parametrize("name", SETTINGS)
def test_golden_ids(name, shared_data, tokenizers, oracles):
    lines = relatives.golden(shared_data)
    assert len(lines) == 1565
    given_texts = [line["text"] for line in lines]
    wanted = [line.get(name, line["bert_uncased"]) for line in lines]
    assert [oracles[name](text) for text in given_texts] == wanted
    assert tokenizers[name].ids(given_texts) == wanted
    assert [tokenizers[name].encode(text, special_tokens=False).ids for text in given_texts] == wanted


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("every", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_ids_of_all_of_glue(name, every, shared_data, tokenizers, oracles):
    some = glue_texts(shared_data)[::every]
    assert len(some) > 120_000 // every
    assert tokenizers[name].ids(some) == list(map(oracles[name], some))


@pytest.mark.parametrize("name", SETTINGS)
def test_ids_of_random_unicode(name, tokenizers, oracles):
    some = relatives.random_texts(5000, seed=1)
    assert tokenizers[name].ids(some) == list(map(oracles[name], some))


@pytest.mark.parametrize("name", SETTINGS)
@given(text=texts)
@example(text="ΟΔΥΣΣΕΥΣ Σ\x00Γ ΓΣ各 ΓΣ\u0301.")
@example(text="a\x0bb\x1cc\x85d\u2028e")
@example(text=f"{'a' * 200} {'a' * 201} {'é' * 101}")
def test_ids_of_any_text_follow_the_rules(name, text, tokenizers, oracles):
    wanted = oracles[name]("".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text))
    assert tokenizers[name].ids([text]) == [wanted]
    check_spans(text, tokenizers[name].segmenter.pieces(text), wanted)


@pytest.mark.parametrize("strip", [None, True, False])
@pytest.mark.parametrize("lower", [True, False])
@given(text=texts)
def test_every_setting_follows_the_rules(lower, strip, text, vocabularies):
    text = "".join(c for c in text if not 0xD800 <= ord(c) <= 0xDFFF)
    tokenizer, oracle = of_settings(vocabularies["uncased"], lower, strip)
    assert tokenizer.ids([text]) == [oracle(text)]
    check_spans(text, tokenizer.segmenter.pieces(text), oracle(text))


@functools.cache
def of_settings(vocabulary, lower, strip):
    settings = {"do_lower_case": lower, "strip_accents": strip, "tokenize_chinese_chars": False}
    settings["max_input_chars_per_word"] = 7
    files = TokenizerFiles.of("x", wordpiece=vocabulary, settings=settings)
    lines = vocabulary.decode().split("\n")[:-1]
    return Tokenizer.from_files(files), WordPiece(lines, lower=lower, strip=strip, chinese=False, limit=7)


PUBLISHED = {
    "John Johanson's house": ("2198 13093 3385 1005 1055 2160", "1287 13402 2142 112 188 1402"),
    "UNwantéd,running": ("18162 1010 2770", "7414 5491 14608 1181 117 1919"),
    "naïve café": ("15743 7668", "9468 28203 2707 20583"),
    "unaffable": ("14477 20961 3468", "8362 9823 8057 2165"),
    "Who was Jim Henson ? Jim Henson was a puppeteer": (
        "2040 2001 3958 27227 1029 3958 27227 2001 1037 13997 11510",
        None,
    ),
    "The quick brown fox jumps over the lazy dog": ("1996 4248 2829 4419 14523 2058 1996 13971 3899", None),
    "What is machine learning?": (None, "1327 1110 3395 3776 136"),
}


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_ids(text, tokenizers):
    for name, wanted in zip(("bert_uncased", "bert_cased"), PUBLISHED[text], strict=True):
        if wanted is not None:
            ids = list(map(int, wanted.split()))
            assert tokenizers[name].encode(text).ids == [101, *ids, 102]
            assert tokenizers[name].encode_batch([text])[0].tolist() == [101, *ids, 102]


@pytest.mark.parametrize("strict", ["x[MASK]y", "[CLS] [SEP] [PAD]"])
def test_special_tokens_in_a_text_are_plain_text(strict, tokenizers, oracles):
    for name, tokenizer in tokenizers.items():
        assert tokenizer.encode(strict, special_tokens=False).ids == oracles[name](strict)
        marked = tokenizer.encode("x[MASK]y", special_tokens=False, special_in_text=True)
        assert marked.pieces == ["x", "[MASK]", "y"]
        assert marked.offsets == [(0, 1), (1, 7), (7, 8)]


def test_ordinary_ids_are_those_of_transformers(shared_data, vocabularies, tokenizers, tmp_path):
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_bytes(vocabularies["uncased"])
    theirs = BertTokenizer.from_pretrained(tmp_path)
    some = [text for text in glue_texts(shared_data)[::100] if text]
    wanted = theirs(some, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizers["bert_uncased"].ids(some) == wanted


# --- spans ---


def check_spans(text, pieces: list[Piece], wanted):
    """Spans are monotone, begin and end in text, and together cover every word that has a piece."""
    assert [piece.id for piece in pieces] == wanted
    covered = set()
    least = most = 0
    for piece in pieces:
        assert least <= piece.start < piece.end <= len(text)
        assert most <= piece.end
        assert not text[piece.start].isspace()
        assert not text[piece.end - 1].isspace()
        covered.update(range(piece.start, piece.end))
        least, most = piece.start, piece.end
    word = []
    for place, character in enumerate([*text, " "]):
        if not character.isspace():
            word.append(place)
            continue
        # A word is covered whole, or is nothing to the rules.
        assert covered.issuperset(word) or not covered.intersection(word)
        word = []


def test_spans_spell_the_pieces(shared_data, tokenizers):
    for text in glue_texts(shared_data)[::200]:
        for name in ("bert_uncased", "bert_cased"):
            for piece in tokenizers[name].segmenter.pieces(text):
                if text.isascii() and piece.kind == "normal":
                    shown = text[piece.start : piece.end]
                    assert piece.piece.removeprefix("##") == (shown.lower() if name == "bert_uncased" else shown)


def test_spans_through_the_preparation(tokenizers):
    text = " Café\u00a0ﬁne e\u0301\u0302x\u200b≠각 各各 \x00▁"
    pieces = tokenizers["bert_uncased"].segmenter.pieces(text)
    assert [(piece.piece, text[piece.start : piece.end], piece.kind) for piece in pieces] == [
        ("cafe", "Café", "normal"),
        ("ﬁ", "ﬁ", "normal"),
        ("##ne", "ne", "normal"),
        ("ex", "e\u0301\u0302x\u200b", "normal"),
        ("=", "≠", "normal"),
        ("ᄀ", "각", "normal"),
        ("##ᅡ", "각", "normal"),
        ("##ᆨ", "각", "normal"),
        ("[UNK]", "各", "unknown"),
        ("[UNK]", "各", "unknown"),
        ("[UNK]", "\x00▁", "unknown"),
    ]


def test_decoding(tokenizers):
    ids = tokenizers["bert_uncased"].encode("Unaffable, isn't it?").ids
    assert tokenizers["bert_uncased"].decode(ids) == "unaffable , isn ' t it ?"
    assert tokenizers["bert_uncased"].prepare("Unaffable,\tisn't it?") == "unaffable , isn ' t it ?"


def test_many_words_are_forgotten_and_found_again(tokenizers, oracles, monkeypatch):
    monkeypatch.setattr("albert_cli.tokenization.lookups._WORDS", 10)
    some = relatives.random_texts(100, seed=2)
    assert tokenizers["bert_cased"].ids(some) == list(map(oracles["bert_cased"], some))
