"""The tokenizer: Google's ids on everything at hand, exact spans, and what it says of bad files."""

import itertools
import sys
import unicodedata
from random import Random

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizer_oracle import glue_texts, golden, google_ids

from albert_cli.errors import TextError, TokenizerError
from albert_cli.tables.lines import read_lines
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.errors import AlbertError, CorruptError
from converters.tokenizers.files import TokenizerFiles

CLS, SEP, MASK, PAD, UNK = 2, 3, 4, 0, 1

# Text as it comes: everything, and above all what the rules are about.
AWKWARD = "aeé̀ 9,,.(-)\"ﬁ½™ﷺ各각İΣς🇪🇺\t\x00\x0b\x1c\u200b\ufeff▁`'A1"
texts = st.one_of(st.text(), st.text(alphabet=AWKWARD), st.text(alphabet=st.characters(codec=None), max_size=20))


@pytest.fixture(scope="session")
def model_file(shared_data):
    return shared_data / "tokenizer/spiece.model"


@pytest.fixture(scope="session")
def tokenizer(model_file):
    return Tokenizer.from_pretrained(model_file)


@pytest.fixture(scope="session")
def rebuilt(shared_data):
    return Tokenizer.from_pretrained(shared_data / "tokenizer/30k-clean.vocab")


@pytest.fixture(scope="session")
def cased(model_file):
    return Tokenizer.from_pretrained(model_file, lowercase=False)


@pytest.fixture(scope="session")
def julia(model_file):
    return Tokenizer.from_pretrained(model_file, raw=True)


@pytest.fixture(scope="session")
def processor(model_file):
    return sentencepiece.SentencePieceProcessor(model_file=str(model_file))


# --- Google's ids ---


@pytest.mark.parametrize("source", ["spiece.model", "30k-clean.vocab"])
@pytest.mark.parametrize(("key", "lowercase"), [("ids", True), ("ids_cased", False)])
def test_golden_ids(shared_data, source, key, lowercase):
    tokenizer = Tokenizer.from_pretrained(shared_data / "tokenizer" / source, lowercase=lowercase)
    lines = golden(shared_data)
    assert len(lines) == 2073
    given_texts = [line["text"] for line in lines]
    wanted = [line[key] for line in lines]
    assert tokenizer.ids(given_texts) == wanted
    assert [tokenizer.encode(text, special_tokens=False).ids for text in given_texts] == wanted
    batch = tokenizer.encode_batch(given_texts)
    assert [batch[row].tolist() for row in range(len(batch))] == [[CLS, *ids, SEP] for ids in wanted]


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_ids_of_all_of_glue(shared_data, tokenizer, rebuilt, processor, every):
    everything = glue_texts(shared_data)[::every]
    assert len(everything) > 120_000 // every
    wanted = google_ids(processor, everything)
    assert tokenizer.ids(everything) == wanted
    assert rebuilt.ids(everything) == wanted


def test_cased_ids_of_some_of_glue(shared_data, cased, processor):
    some = glue_texts(shared_data)[::10]
    assert cased.ids(some) == google_ids(processor, some, lower=False)


@given(text=texts)
def test_ids_of_any_text_follow_the_rules(text, tokenizer, cased, processor):
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
    assert tokenizer.ids([text]) == google_ids(processor, [text])
    assert cased.ids([text]) == google_ids(processor, [text], lower=False)


@pytest.mark.parametrize("code", range(128))
def test_every_ascii_character_follows_the_rules(code, tokenizer, processor):
    some = [chr(code), f"a{chr(code)}b", f"{chr(code)} x{chr(code)}", f"é{chr(code)}b"]
    assert tokenizer.ids(some) == google_ids(processor, some)


def test_published_ids(tokenizer, rebuilt, julia):
    plain = [28823, 25, 136, 16, 9111, 17, 4769, 9]
    for each in (tokenizer, rebuilt):
        assert each.ids(["kathmandu is city of temples and gods."]) == [plain]
        assert each.encode("Kathmandu is city of Temples and Gods.").ids == [CLS, *plain, SEP]
    long = (
        "If all their conversations in the three months he had been coming to the diner were put together, "
        "it was doubtful that they would make a respectable paragraph."
    )
    rows = julia.ids(
        ["God is Great! I won a lottery.", "She had the job she had planned for the last three years.", long]
    )
    one_based = [[number + 1 for number in row] for row in rows]
    assert one_based[0] == [14, 2, 5649, 26, 14, 2, 100, 722, 188, 14, 2, 231, 22, 17519, 10]
    assert one_based[1] == [14, 2, 439, 42, 15, 1206, 40, 42, 2036, 27, 15, 237, 133, 123, 10]
    assert len(one_based[2]) == 32
    assert one_based[2][-11:] == [33, 24, 22569, 31, 60, 84, 234, 22, 22740, 20600, 10]


def test_special_tokens_in_a_text_are_plain_text(tokenizer):
    encoding = tokenizer.encode("[MASK] and [CLS]", special_tokens=False)
    assert not {CLS, SEP, MASK, PAD} & set(encoding.ids)
    assert sum(encoding.special_tokens_mask) == 0


def test_special_tokens_in_a_text_on_demand(tokenizer):
    text = "Paris is [MASK]. x[MASK]y [SEP]"
    encoding = tokenizer.encode(text, special_tokens=False, special_in_text=True)
    assert encoding.pieces == ["▁paris", "▁is", "[MASK]", ".", "▁x", "[MASK]", "y", "[SEP]"]
    assert encoding.special_tokens_mask == [0, 0, 1, 0, 0, 1, 0, 1]
    assert [text[start:end] for start, end in encoding.offsets] == [
        "Paris", "is", "[MASK]", ".", "x", "[MASK]", "y", "[SEP]",
    ]  # fmt: skip


@given(words=st.lists(st.sampled_from(["[MASK]", "<pad>", "[CLS]", " ", "a", "is", "9,", "é"]), max_size=8))
def test_special_tokens_in_a_text_are_all_found(words, tokenizer):
    text = "".join(words)
    encoding = tokenizer.encode(text, special_tokens=False, special_in_text=True)
    found = [piece for piece, special in zip(encoding.pieces, encoding.special_tokens_mask, strict=True) if special]
    assert found == [word for word in words if word in ("[MASK]", "<pad>", "[CLS]")]
    check_spans(text, encoding)


# --- spans ---


def check_spans(text, encoding, is_blank=str.isspace):
    """Spans are monotone, begin and end in text, and together cover every word that has a piece."""
    spans = encoding.offsets
    covered = set()
    for before, after in zip([(0, 0), *spans], spans, strict=False):
        assert before[0] <= after[0] <= after[1] <= len(text)
        assert before[1] <= after[1]
    for piece, (start, end) in zip(encoding.pieces, spans, strict=True):
        assert start < end or not piece.strip("▁")
        if start < end:
            assert not is_blank(text[start])
            assert not is_blank(text[end - 1])
        covered.update(range(start, end))
    word = []
    for place, character in enumerate([*text, " "]):
        if not (character.isspace() or character == "▁"):
            word.append(place)
            continue
        # A word is covered whole, or is nothing after preparation.
        assert covered.issuperset(word) or not covered.intersection(word)
        word = []
    return covered


@given(text=texts)
@example(text="\x85")
@example(text="a \x85\x1c b\x85")
def test_spans_of_any_text(text, tokenizer, cased, julia):
    for each in (tokenizer, cased, julia):
        encoding = each.encode(text, special_tokens=False)
        # Raw, some characters that are white space to Python are pieces to SentencePiece.
        covered = check_spans(text, encoding, is_blank=" \t\n\r".__contains__ if each is julia else str.isspace)
        assert encoding.ids == each.ids([text])[0]
        for place, character in enumerate(text):
            if character.isalnum() and character.isascii():
                assert place in covered


def test_spans_of_glue_spell_the_pieces(shared_data, tokenizer):
    for text in glue_texts(shared_data)[::200]:
        encoding = tokenizer.encode(text, special_tokens=False)
        check_spans(text, encoding)
        for piece, (start, end) in zip(encoding.pieces, encoding.offsets, strict=True):
            if text.isascii():
                assert piece.removeprefix("▁") == text[start:end].lower()


def test_spans_through_the_preparation(tokenizer):
    text = " Café  ﬁne\u00a0½ e\u0301\u0302x in 1992, he\u200b"
    encoding = tokenizer.encode(text, special_tokens=False)
    shown = [(piece, text[start:end]) for piece, (start, end) in zip(encoding.pieces, encoding.offsets, strict=True)]
    assert shown == [
        ("▁cafe", "Café"),
        ("▁fine", "ﬁne"),
        ("▁1", "½"),
        ("\u2044", "½"),
        ("2", "½"),
        ("▁ex", "e\u0301\u0302x"),
        ("▁in", "in"),
        ("▁1992", "1992"),
        (",", ","),
        ("▁he", "he\u200b"),
    ]
    assert [kind for kind in encoding.kinds if kind != "normal"] == ["unknown", *["digit-comma split"] * 2]


@given(text=texts)
def test_decoding_gives_the_prepared_text(text, tokenizer, cased, processor):
    for each in (tokenizer, cased):
        ids = each.encode(text).ids
        if UNK in ids:
            continue
        prepared = processor.normalize(each.prepare(text)).replace("▁", " ").removeprefix(" ")
        assert each.decode(ids) == prepared


def test_decoding(tokenizer):
    ids = tokenizer.encode("in 1992, he").ids
    assert tokenizer.decode(ids) == "in 1992, he"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "[CLS] in 1992, he [SEP]"
    with pytest.raises(TokenizerError, match=r"^id 30000 at position 1 is not in the vocabulary \(0 to 29999\)$"):
        tokenizer.decode([5, 30000])


def test_accents_are_kept_on_demand(model_file, tokenizer):
    keeping = Tokenizer.from_pretrained(model_file, keep_accents=True)
    assert tokenizer.encode("é", special_tokens=False).pieces == ["▁", "e"] or tokenizer.ids(["é"]) == tokenizer.ids(
        ["e"]
    )
    assert keeping.prepare(" É\tx ") == "é x"
    assert keeping.ids(["É"]) == keeping.ids(["é"]) != tokenizer.ids(["é"])


# --- pairs, truncation, windows, padding ---


@given(pairs=st.lists(st.tuples(texts, texts), max_size=5), length=st.integers(4, 40))
def test_a_batch_is_row_by_row_the_single_encodings(pairs, length, tokenizer):
    firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
    for second_texts in (None, seconds):
        batch = tokenizer.encode_batch(firsts, second_texts, max_length=length)
        assert len(batch) == len(pairs)
        for row in range(len(pairs)):
            one = tokenizer.encode(firsts[row], second_texts and second_texts[row], max_length=length)
            assert batch[row].tolist() == one.ids
            assert batch.token_type_ids[batch.starts[row] : batch.starts[row + 1]].tolist() == one.token_type_ids
            assert batch.truncated[row] == one.truncated


def truncated_one_by_one(first, second, limit):
    """Google's _truncate_seq_pair (run_classifier)."""
    while first + second > limit:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


@given(first=st.integers(0, 30), second=st.integers(0, 30), length=st.integers(4, 40))
def test_truncated_pairs_keep_their_special_tokens(first, second, length, tokenizer):
    encoding = tokenizer.encode("a " * first, "b " * second, max_length=length)
    kept = truncated_one_by_one(first, second, length - 3)
    assert (encoding.sequence_ids.count(0), encoding.sequence_ids.count(1)) == kept
    assert encoding.truncated == first + second - sum(kept)
    assert encoding.ids[0] == CLS
    assert encoding.ids.count(SEP) == 2
    assert encoding.ids[-1] == encoding.ids[1 + kept[0]] == SEP
    assert encoding.token_type_ids == [0] * (2 + kept[0]) + [1] * (1 + kept[1])
    assert len(encoding) <= length


def test_truncation_of_one_side(tokenizer):
    settings = {"max_length": 9, "truncation": "only_first"}
    assert tokenizer.encode("a " * 9, "b b", **settings).sequence_ids.count(0) == 4
    settings["truncation"] = "only_second"
    assert tokenizer.encode("a a", "b " * 9, **settings).sequence_ids.count(1) == 4
    with pytest.raises(
        TokenizerError, match="the first text alone has 9 tokens of 6; nothing of the second would be left"
    ):
        tokenizer.encode("a " * 9, "b", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 2}, "a maximal length of 2 leaves no room for text beside 2 special tokens"),
        ({"truncation": "only_second"}, "truncation only_second needs a pair of texts"),
        ({"truncation": "both"}, "truncation is 'both', not one of longest_first, only_first, only_second"),
        ({"max_length": 5, "stride": 3}, "a stride of 3 tokens does not fit windows of 3; choose 0 to 2"),
        ({"pad_to": 3}, "10 tokens do not fit a length of 3; truncate first"),
    ],
)
def test_lengths_that_cannot_be_met(settings, message, tokenizer):
    with pytest.raises(TokenizerError) as caught:
        tokenizer.encode("a b c d e f", **settings)
    assert str(caught.value) == message


@given(words=st.integers(0, 60), length=st.integers(4, 20), data=st.data())
def test_windows_cover_the_text(words, length, data, tokenizer):
    stride = data.draw(st.integers(0, length - 3))
    text = " ".join("abcdefghij"[n % 10] for n in range(words))
    whole = tokenizer.encode(text, special_tokens=False).ids
    windows = list(tokenizer.encode(text, max_length=length, stride=stride).windows())
    rows = [window.ids[1:-1] for window in windows]
    assert all(len(window) <= length and not window.truncated for window in windows)
    joined = rows[0] + [number for row in rows[1:] for number in row[stride:]]
    assert joined == whole
    for before, after in itertools.pairwise(rows):
        assert before[len(before) - stride :] == after[:stride]


def test_windows_over_a_pair_slide_over_one_text(tokenizer):
    windows = list(
        tokenizer.encode("who?", "the of and in to is it", max_length=9, truncation="only_second", stride=1).windows()
    )
    # Four tokens of the second text stay beside the first text's two and three special tokens.
    assert [[p for p, s in zip(w.pieces, w.sequence_ids, strict=True) if s == 1] for w in windows] == [
        ["▁the", "▁of", "▁and", "▁in"],
        ["▁in", "▁to", "▁is", "▁it"],
    ]
    with pytest.raises(TokenizerError, match="windows over a pair need truncation only_first or only_second"):
        tokenizer.encode("who?", "the of and in to is it", max_length=9, stride=1)


def test_padding(tokenizer):
    encoding = tokenizer.encode("a b", pad_to=6)
    assert encoding.ids[-2:] == [PAD, PAD]
    assert encoding.attention_mask == [1, 1, 1, 1, 0, 0]
    assert encoding.special_tokens_mask == [1, 0, 0, 1, 1, 1]
    batch = tokenizer.encode_batch(["a", "b c d", ""], ["x", "", "y z"])
    padded = batch.padded([2, 0], multiple_of=4)
    assert padded["input_ids"].shape == (2, 8)
    for row, number in enumerate([2, 0]):
        one = tokenizer.encode(["a", "b c d", ""][number], ["x", "", "y z"][number], pad_to=8)
        assert padded["input_ids"][row].tolist() == one.ids
        assert padded["token_type_ids"][row].tolist() == one.token_type_ids
        assert padded["attention_mask"][row].tolist() == one.attention_mask
    assert padded["input_ids"].dtype == np.int64
    with pytest.raises(TokenizerError, match="a row of 7 tokens does not fit a width of 4; truncate first"):
        batch.padded(length=4)
    with pytest.raises(IndexError):
        batch[3]


def test_an_empty_batch(tokenizer):
    batch = tokenizer.encode_batch([])
    assert (len(batch), batch.ids.size, batch.starts.tolist()) == (0, 0, [0])
    assert batch.padded()["input_ids"].shape == (0, 0)
    with pytest.raises(TokenizerError, match="2 first texts but 1 second ones"):
        tokenizer.encode_batch(["a", "b"], ["c"])


@pytest.mark.parametrize("size", [250_000, pytest.param(10**6, marks=pytest.mark.slow)])
def test_a_line_of_a_megabyte(tokenizer, size):
    """A megabyte of text quickly, of what has no spaces a quarter of it, and all in time."""
    for text in ("the quick fox, 1999, Café " * 40_000, "x" * size, "各" * (size // 3), "é\u0301" * (size // 4)):
        encoding = tokenizer.encode(text, special_tokens=False)
        assert encoding.ids == tokenizer.ids([text])[0]
        assert encoding.offsets[-1][1] == len(text.rstrip())


# --- alternatives ---


def test_alternatives_begin_with_the_best_and_have_its_score(shared_data, tokenizer):
    segmenter = tokenizer.segmenter
    for line in golden(shared_data)[100:160]:
        ways = segmenter.nbest(line["text"], 5)
        assert [piece.id for piece in ways[0][1]] == line["ids"] or ways[0][0] == pytest.approx(ways[1][0])
        scores = [score for score, _ in ways]
        assert scores == sorted(scores, reverse=True)


def test_sampling_draws_by_likelihood(tokenizer):
    segmenter = tokenizer.segmenter
    text = "tokenization of (zq) 各"
    ways = segmenter.nbest(text, 16)
    weights = np.exp([0.5 * score for score, _ in ways])
    random = Random(1)
    drawn = [segmenter.sample(text, random, alpha=0.5, nbest=16) for _ in range(1000)]
    for weight, way in zip(weights / weights.sum(), ways, strict=True):
        assert drawn.count(way) / 1000 == pytest.approx(weight, abs=0.06)
        check_spans(text, tokenizer.assemble(way[1], special_tokens=False))


# --- where tokenizers come from ---


def test_any_format_the_hub_reads(shared_data, tokenizer, tmp_path):
    checkpoint = shared_data / "checkpoints/tf1-google"
    convert.convert(checkpoint, tmp_path / "hf")
    convert.convert(checkpoint, tmp_path / "albert.npz")
    line = ["in 1992, he paid £9,000 (Café)"]
    for path in (
        checkpoint,
        tmp_path / "hf",
        tmp_path / "albert.npz",
        shared_data / "checkpoints/tf1-google/30k-clean.model",
    ):
        assert Tokenizer.from_pretrained(path).ids(line) == tokenizer.ids(line)


def test_a_directory_of_tokenizer_files_alone(model_file, tmp_path):
    (tmp_path / "spiece.model").write_bytes(model_file.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = Tokenizer.from_pretrained(tmp_path)
    assert cased.prepare("Ab") == "Ab"
    assert Tokenizer.from_pretrained(tmp_path / "spiece.model", lowercase=True).prepare("Ab") == "ab"


CHINESE = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"我爱北京天安门", "hello", "wor", "##ld", "##s", "a", "e",
           ",", "。", "(", ")", "2", "##0"]  # fmt: skip


@pytest.fixture
def chinese(tmp_path):
    (tmp_path / "vocab_chinese.txt").write_text("\n".join(CHINESE) + "\n", encoding="utf-8")
    return Tokenizer.from_pretrained(tmp_path / "vocab_chinese.txt")


def test_chinese_wordpiece(chinese):
    text = "我爱北京。 Hello (Worlds) é[MASK]"
    encoding = chinese.encode(text)
    assert encoding.pieces == ["[CLS]", "我", "爱", "北", "京", "。", "hello", "(", "wor", "##ld", "##s", ")", "e",
                               "[UNK]", "[UNK]", "[UNK]", "[SEP]"]  # fmt: skip
    assert [text[start:end] for start, end in encoding.offsets[1:9]] == [
        "我",
        "爱",
        "北",
        "京",
        "。",
        "Hello",
        "(",
        "Wor",
    ]
    assert chinese.encode_batch([text])[0].tolist() == encoding.ids
    assert chinese.encode("我[MASK]", special_in_text=True).ids == [2, 5, 4, 3]
    assert chinese.decode(encoding.ids[1:7]) == "我 爱 北 京 。 hello"


def test_a_wordpiece_list_has_no_raw_way(tmp_path, chinese):
    with pytest.raises(TokenizerError, match="a WordPiece list cannot be used raw; only SentencePiece models can"):
        Tokenizer.from_pretrained(tmp_path / "vocab_chinese.txt", raw=True)


# --- bad files ---


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("spiece.model", b"", "{path}: the file is empty"),
        ("spiece.model", b"no model at all", "{path}: not a SentencePiece model (truncated or another file)"),
        ("30k.vocab", b"<unk>\t0\na\t-1\na\t-2\n", "{path}: line 3 of the vocabulary repeats the piece 'a'"),
        ("30k.vocab", b"<unk>\t0\nabc\n", "{path}: line 2 of the vocabulary is 'abc', not piece<TAB>score"),
        ("30k.vocab", b"<unk>\t0\nabc\tx\n", "{path}: line 2 of the vocabulary is 'abc\\tx', not piece<TAB>score"),
        ("30k.vocab", b"<unk>\t0\n\xff\t0\n", "{path}: line 2 of the vocabulary is not UTF-8"),
        ("30k.vocab", b"a\t0\n", "{path}: the vocabulary has no <unk> piece, so it is not a SentencePiece one"),
        ("vocab.txt", b"a\n", "{path}: the list has no [UNK] token, so it is not a WordPiece one"),
        ("vocab.txt", b"[UNK]\n\xff\n", "{path}: line 2 of the WordPiece list is not UTF-8"),
    ],
)
def test_damaged_files_are_explained(name, content, message, tmp_path, capfd):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CorruptError) as caught:
        Tokenizer.from_pretrained(path)
    assert str(caught.value) == message.format(path=path)
    assert capfd.readouterr() == ("", "")


def test_a_truncated_model_is_explained(model_file, tmp_path):
    path = tmp_path / "spiece.model"
    path.write_bytes(model_file.read_bytes()[:-1000])
    with pytest.raises(CorruptError, match=f"^{path}: not a "):
        Tokenizer.from_pretrained(path)


def test_a_vocabulary_with_a_byte_order_mark_and_windows_line_ends(shared_data, tokenizer, tmp_path):
    lines = (shared_data / "tokenizer/30k-clean.vocab").read_bytes()
    (tmp_path / "x.vocab").write_bytes(b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n"))
    line = ["in 1992, he paid £9,000 (Café)"]
    assert Tokenizer.from_pretrained(tmp_path / "x.vocab").ids(line) == tokenizer.ids(line)


def test_a_missing_model_is_explained(tmp_path):
    with pytest.raises(AlbertError, match="no such file"):
        Tokenizer.from_pretrained(tmp_path / "nothing")
    with pytest.raises(TokenizerError, match="the model carries no tokenizer; copy its own beside it"):
        Tokenizer.from_files(TokenizerFiles())


def test_a_broken_tokenizer_json_is_explained(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptError, match=r"tokenizer\.json: not a tokenizer\.json that the tokenizers library reads"):
        Tokenizer.from_pretrained(tmp_path / "tokenizer.json")


# --- text files ---


def test_lines_of_a_text_file(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo\x00\nth\xc3\xa9 \xe2\x80\xa8end")
    assert list(read_lines(path)) == ["one", "", "two\x00", "thé \u2028end"]
    seen = []
    assert len(list(read_lines(path, progress=seen.append))) == 4
    assert sum(seen) == path.stat().st_size


def test_text_that_is_not_utf8(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"fine\ncaf\xe9 x\n")
    with pytest.raises(TextError) as caught:
        list(read_lines(path))
    assert str(caught.value) == (
        f"{path}: line 2 is not UTF-8: byte 0xe9 at offset 8; convert it to UTF-8, or pass --errors replace"
    )
    assert list(read_lines(path, errors="replace")) == ["fine", "caf\ufffd x"]


def test_an_empty_text_file(tmp_path):
    (tmp_path / "t.txt").touch()
    with pytest.raises(TextError, match=r"t\.txt: there is no text to read$"):
        list(read_lines(tmp_path / "t.txt"))


def test_a_line_that_is_no_line(tmp_path, monkeypatch):
    monkeypatch.setattr("albert_cli.tables.lines.LINE_BYTES", 1 << 20)
    (tmp_path / "t.bin").write_bytes(b"x\n" + bytes(3 << 20))
    with pytest.raises(TextError, match=r"t\.bin: line 2 is longer than 1 MiB; is this a text file\?"):
        list(read_lines(tmp_path / "t.bin"))


def test_preparation_follows_this_pythons_unicode(tokenizer):
    for code in (*range(0x80, 0x3000), 0x1F600, 0xAC01, 0xFB01):
        character = chr(code)
        decomposed = unicodedata.normalize("NFKD", character)
        wanted = "".join(c for c in decomposed if not unicodedata.combining(c)).lower()
        assert tokenizer.prepare(f"x{character}y") == " ".join(f"x{character}y".split()).replace(character, wanted)
    assert sys.maxunicode == 0x10FFFF
