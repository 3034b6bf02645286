"""What the files beside a vocabulary say of its ids: honoured as transformers has it, or refused by name."""

import dataclasses
import json

import corruptions
import making
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import TINY

from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.errors import AlbertError
from converters.tokenizers.files import AddedToken
from converters.tokenizers.keys import BY_FILE, CONFIG, PIPELINE, SPECIAL_MAP, TOKENIZER_KEYS, USUAL
from converters.tokenizers.sentencepiece_model import make_model, parse_model

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abc!',.<>1天我e", "cat", "dog", "the", "un", "##aff", "##able",
         "cafe", "café", "##s", "##1", "##a", "##e", "##c", "한국", "##어", "Cat", "我们", "##们",
         "x", "##t", "[C]", "[S]", "[M]", "[P]", "[U]"]  # fmt: skip
PIECES = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "(", ")", '"', "-", ".", "▁", *"abcdehinstxyé1<>,", "▁the",
          "▁cat", "▁a", "ing", "▁9,", "9"]  # fmt: skip
TEXTS = [
    "the <e1> cat covidvaccine",
    "COVIDvaccines, covidvaccine! xcovidvaccine covidvaccine1",
    "<e1><e1> the<e1>cat a <e1>",
    "café CAFÉ 한국어 我们天 unaffable",
    "  the  <sp>  cat  ",
    "THE cat's un affable",
    "",
]


def write(folder, *, words=WORDS, **files):
    """A directory with a WordPiece list and JSON files beside it."""
    folder.mkdir(exist_ok=True)
    if words:
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def sentencepiece(folder, **files):
    """A directory with a small SentencePiece model and JSON files beside it."""
    scores = [0.0 if number < 10 else -2.0 - number / 50 for number in range(len(PIECES))]
    write(folder, words=(), **files)
    (folder / "spiece.model").write_bytes(make_model(list(zip(PIECES, scores, strict=True))))
    return folder


def same_ids(folder, theirs, texts=TEXTS):
    ours = Tokenizer.from_pretrained(folder)
    wanted = [theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert [ours.encode(text, special_tokens=False).ids for text in texts] == wanted
    assert ours.ids(texts) == wanted
    assert len(ours) == len(theirs)
    return ours


def error(folder):
    with pytest.raises(AlbertError) as caught:
        Tokenizer.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Added tokens


ADDED = [
    ("plain", {}),
    ("single word", {"single_word": True}),
    ("blanks", {"lstrip": True, "rstrip": True}),
    ("as written", {"normalized": False}),
    ("special", {"special": True, "normalized": False}),
]


@pytest.mark.parametrize("kind", ["Bert", "Albert"])
@pytest.mark.parametrize(("name", "flags"), ADDED)
@pytest.mark.parametrize("saved", [False, True])
def test_added_tokens_are_found_as_transformers_finds_them(kind, name, flags, saved, tmp_path):
    import transformers

    make = {"Bert": write, "Albert": sentencepiece}[kind]
    make(tmp_path / "m")
    theirs = getattr(transformers, f"{kind}Tokenizer").from_pretrained(tmp_path / "m")
    theirs.add_tokens([transformers.AddedToken(token, **flags) for token in ("<e1>", "covidvaccine", "<sp>")])
    if saved:  # by transformers 5: in tokenizer.json alone
        theirs.save_pretrained(tmp_path / "m")
        (tmp_path / "m" / ("vocab.txt" if kind == "Bert" else "spiece.model")).unlink()
    else:  # as transformers 4 did
        added = {str(number): token for number, token in theirs.added_tokens_decoder.items()}
        flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
        decoder = {n: {flag: getattr(token, flag) for flag in flags} for n, token in added.items()}
        write(tmp_path / "m", words=(), tokenizer_config={"added_tokens_decoder": decoder})
    ours = same_ids(tmp_path / "m", theirs)
    encoding = ours.encode("the  <sp>  cat")
    at = encoding.pieces.index("<sp>")
    assert (encoding.kinds[at], encoding.offsets[at]) == ("added", (5, 9))


@given(
    parts=st.lists(
        st.sampled_from(["<e1>", "covid", "Covid", "the", "cat", "s", "ø", " ", "  ", ",", "!", "\t", "天", "1"])
    )
)
def test_texts_with_added_tokens_have_the_ids_of_transformers(parts, tmp_path_factory):
    import transformers

    text = "".join(parts)
    for kind, make in (("Bert", write), ("Albert", sentencepiece)):
        folder = tmp_path_factory.getbasetemp() / f"added-{kind}"
        if not folder.exists():
            make(folder)
            write(folder, words=(), added_tokens={"<e1>": 100, "covid": 101, "ø": 102})
        size = len(WORDS if kind == "Bert" else PIECES)
        theirs = getattr(transformers, f"{kind}Tokenizer").from_pretrained(folder)
        renumbered = [n + 100 - size if n >= size else n for n in theirs(text, add_special_tokens=False)["input_ids"]]
        ours = Tokenizer.from_pretrained(folder)
        assert ours.ids([text]) == [renumbered]
        for start, end in ours.encode(text, special_tokens=False).offsets:
            assert text[start:end] == text[start:end].strip()


def test_special_tokens_beside_the_usual_ones_are_added(tmp_path):
    import transformers

    for key, value in (
        ("additional_special_tokens", ["<e1>", "cat"]),
        ("extra_special_tokens", ["<e1>", {"__type": "AddedToken", "content": "cat", "special": True}]),
        ("extra_special_tokens", {"entity_token": "<e1>"}),
        ("entity_token", "<e1>"),
        ("bos_token", "<e1>"),
        ("eos_token", {"__type": "AddedToken", "content": "<e1>", "special": True, "normalized": False}),
    ):
        write(tmp_path / "m", tokenizer_config={key: value})
        ours = same_ids(tmp_path / "m", transformers.BertTokenizer.from_pretrained(tmp_path / "m"))
        number = ours.segmenter.id_of("<e1>")
        assert number == len(WORDS)
        assert ours.decode([number, WORDS.index("dog")]) == "dog"
        assert ours.decode([number, WORDS.index("dog")], skip_special_tokens=False) == "<e1> dog"
    write(tmp_path / "m", tokenizer_config={}, special_tokens_map={"additional_special_tokens": ["<e1>"]})
    assert Tokenizer.from_pretrained(tmp_path / "m").ids(["the<e1>"]) == [[WORDS.index("the"), len(WORDS)]]


def test_ids_with_gaps_are_those_of_the_file(tmp_path):
    write(tmp_path / "m", added_tokens={"<e1>": 60, "<e2>": 50})
    ours = Tokenizer.from_pretrained(tmp_path / "m")
    assert ours.ids(["<e2> cat <e1>"]) == [[50, WORDS.index("cat"), 60]]
    assert len(ours) == 61
    assert ours.segmenter.piece(55) == ""


@pytest.mark.parametrize("format", ["safetensors", "torch", "npz", "bson"])
@pytest.mark.parametrize("make", [write, sentencepiece])
def test_conversion_carries_added_tokens_and_settings(make, format, tmp_path):
    from transformers import AutoTokenizer

    tokens = {"<e1>": 100, "covidvaccine": 101, "<sp>": 102}
    size = len(WORDS if make is write else PIECES)
    tokens = {token: number - 100 + size for token, number in tokens.items()}
    make(tmp_path / "from", added_tokens=tokens, tokenizer_config={"additional_special_tokens": ["<e1>"]})
    write(tmp_path / "from", words=(), tokenizer_config={"additional_special_tokens": ["<e1>"], "do_lower_case": False})
    files = Tokenizer.from_pretrained(tmp_path / "from")
    from converters.tokenizers.settings import read_tokenizer

    checkpoint = dataclasses.replace(
        making.model(dataclasses.replace(making.TINY, vocab_size=size + 3)), tokenizer=read_tokenizer(tmp_path / "from")
    )
    convert.save(checkpoint, tmp_path / "first")
    report = convert.convert(tmp_path / "first", tmp_path / "second", target_as=format)
    told = [note for note in report.notes if "3 added tokens (<e1> covidvaccine <sp>) have no place" in note]
    assert len(told) == (format in ("npz", "bson"))
    convert.convert(tmp_path / "second", tmp_path / "third")
    assert convert.load(tmp_path / "third").tokenizer == dataclasses.replace(checkpoint.tokenizer, origin="spiece.model"
        if make is sentencepiece else "vocab.txt")  # fmt: skip
    theirs = AutoTokenizer.from_pretrained(tmp_path / "third")
    for text in TEXTS:
        assert theirs(text, add_special_tokens=False)["input_ids"] == files.ids([text])[0], text


def test_normalized_tokens_survive_a_lower_casing_pipeline(tmp_path):
    from transformers import AutoTokenizer

    from converters.tokenizers.settings import read_tokenizer

    sentencepiece(tmp_path / "from", added_tokens={"Covid": len(PIECES)})
    files = read_tokenizer(tmp_path / "from")
    config = dataclasses.replace(making.TINY, vocab_size=len(PIECES) + 1)
    convert.save(dataclasses.replace(making.model(config), tokenizer=files), tmp_path / "to")
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path / "to"), Tokenizer.from_pretrained(tmp_path / "to")
    for text in ("the COVID cat", "covid", " a covids, Covid  the [MASK]", "[MASK] the", "the cat,  x", "<unk>a [CLS]"):
        wanted = ours.encode(text, special_tokens=False, special_in_text=["[MASK]"]).ids
        assert theirs(text, add_special_tokens=False)["input_ids"] == wanted, text


# --- Settings


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": False},
        {"strip_accents": False},
        {"strip_accents": True, "do_lower_case": False},
        {"strip_accents": None},
        {"tokenize_chinese_chars": False},
        {"unk_token": "[U]"},
        {"cls_token": "[C]", "sep_token": "[S]", "mask_token": "[M]", "pad_token": "[P]"},
    ],
)
@pytest.mark.parametrize("saved", [False, True])
def test_settings_of_wordpiece(settings, saved, tmp_path):
    import transformers

    write(tmp_path / "m", tokenizer_config=settings)
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path / "m")
    if saved:
        theirs.save_pretrained(tmp_path / "m")
        (tmp_path / "m/vocab.txt").unlink()
    ours = same_ids(tmp_path / "m", theirs)
    assert (ours.cls_id, ours.sep_id, ours.mask_id, ours.pad_id, ours.unk_id) == (
        theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id, theirs.pad_token_id, theirs.unk_token_id,
    )  # fmt: skip
    assert ours.encode("café", "cafe").ids == theirs("café", "cafe")["input_ids"]


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": False}, {"keep_accents": True}, {"cls_token": "ing"}])
def test_settings_of_sentencepiece(settings, tmp_path):
    import transformers

    sentencepiece(tmp_path / "m", tokenizer_config=settings)
    theirs = transformers.AlbertTokenizer.from_pretrained(tmp_path / "m")
    ours = same_ids(tmp_path / "m", theirs, ["the cats", "A Cat ate", "é caé"])
    theirs.save_pretrained(tmp_path / "m")
    (tmp_path / "m/spiece.model").unlink()
    again = Tokenizer.from_pretrained(tmp_path / "m")
    for text in [*TEXTS, "the 9,9 (cat)"]:
        assert again.encode(text).ids == ours.encode(text).ids, text


def test_lengths_and_sides(tmp_path):
    import transformers

    write(tmp_path / "m", tokenizer_config={"truncation_side": "left", "model_max_length": 5})
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path / "m")
    ours = Tokenizer.from_pretrained(tmp_path / "m")
    wanted = theirs("the cat dog a b", truncation=True)["input_ids"]
    assert ours.encode("the cat dog a b", max_length=5).ids == wanted
    assert ours.encode_batch(["the cat dog a b"], max_length=5)[0].tolist() == wanted
    pair = theirs("the cat dog a b", "c a t", truncation=True, max_length=7)["input_ids"]
    assert ours.encode("the cat dog a b", "c a t", max_length=7).ids == pair
    assert ours.encode_batch(["the cat dog a b"], ["c a t"], max_length=7)[0].tolist() == pair
    with pytest.raises(AlbertError, match="truncation_side is left"):
        ours.encode("the cat dog a b", max_length=5, stride=0)
    write(tmp_path / "m", tokenizer_config={"model_input_names": ["input_ids", "attention_mask"]})
    ours = Tokenizer.from_pretrained(tmp_path / "m")
    assert set(ours.encode("a", "b").token_type_ids) == {0}
    assert not ours.encode_batch(["a"], ["b"]).token_type_ids.any()


def test_split_special_tokens(tmp_path):
    import transformers

    write(tmp_path / "m", tokenizer_config={"split_special_tokens": True, "additional_special_tokens": ["<e1>"]})
    ours = same_ids(tmp_path / "m", transformers.BertTokenizer.from_pretrained(tmp_path / "m"))
    assert ours.ids(["<e1>"]) != [[len(WORDS)]]


REFUSED = [
    ({key: value}, key)
    for key, value in {
        "do_basic_tokenize": False,
        "never_split": ["<e1>"],
        "remove_space": False,
        "sp_model_kwargs": {"enable_sampling": True},
        "add_prefix_space": False,
        "add_bos_token": True,
        "add_eos_token": True,
        "auto_map": {"AutoTokenizer": ["x.Y", None]},
        "split_by_punct": True,
        "init_inputs": ["x"],
        "clean_text": False,
        "wordpieces_prefix": "@@",
        "do_split_on_punc": False,
        "do_lower_case": "false",
        "strip_accents": 1,
        "truncation_side": "top",
        "model_max_length": "long",
        "tokenizer_class": "BertJapaneseTokenizer",
        "added_tokens_decoder": {"5": {"content": "<e1>"}},
        "additional_special_tokens": [5],
        "extra_special_tokens": "<e1>",
        "model_specific_special_tokens": 7,
        "bos_token": {"content": 3},
        "model_input_names": 3,
    }.items()
]


@pytest.mark.parametrize(("settings", "word"), REFUSED)
def test_what_is_not_computed_is_refused_by_name(settings, word, tmp_path):
    folder = write(tmp_path / "m", tokenizer_config=settings)
    message = error(folder)
    assert str(folder) in message
    assert word in message or "'<e1>'" in message
    for usual in USUAL.get(word, ()):
        Tokenizer.from_pretrained(write(tmp_path / "m", tokenizer_config={word: usual}))


def test_contradictions_are_refused(tmp_path):
    folder = tmp_path / "m"
    write(folder, added_tokens={"cat": 100})
    assert f"the added token 'cat' has the id 100, but the id {WORDS.index('cat')} in the vocabulary" in error(folder)
    write(folder, added_tokens={"<e1>": 5})
    assert "the added token '<e1>' has the id 5, but 'a' is 5 in the vocabulary" in error(folder)
    write(folder, added_tokens={"<e1>": 50, "<e2>": 50})
    assert "the added token '<e2>' has the id 50, but '<e1>' has that id too" in error(folder)
    (folder / "added_tokens.json").unlink()
    write(folder, tokenizer_config={"cls_token": "cat"}, special_tokens_map={"cls_token": "dog"})
    assert "cls_token is 'cat', in special_tokens_map.json 'dog'" in error(folder)
    write(folder, special_tokens_map=[])
    assert "special_tokens_map.json: holds a JSON list, not an object of settings" in error(folder)


def pipeline(tmp_path, change, kind="Bert"):
    """A saved tokenizer whose tokenizer.json was changed, beside its vocabulary."""
    import transformers

    folder = tmp_path / "p"
    {"Bert": write, "Albert": sentencepiece}[kind](folder)
    getattr(transformers, f"{kind}Tokenizer").from_pretrained(folder).save_pretrained(folder)
    data = json.loads((folder / PIPELINE).read_text(encoding="utf-8"))
    change(data)
    write(folder, words=(), tokenizer=data, tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast"})
    return folder


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        ("Bert", ("normalizer",), {"type": "NFC"}, "the normalizer is 'NFC', not BertNormalizer"),
        ("Bert", ("normalizer", "clean_text"), False, "clean_text of the normalizer is False"),
        ("Bert", ("pre_tokenizer",), {"type": "Whitespace"}, "the pre_tokenizer is 'Whitespace', not BertPreTokenizer"),
        ("Bert", ("model", "type"), "WordLevel", "a model of type is 'WordLevel', not WordPiece, Unigram or BPE"),
        ("Bert", ("model", "continuing_subword_prefix"), "@", "the continuing_subword_prefix is '@', not ##"),
        ("Bert", ("model", "vocab", "cat"), 300, "has 301 pieces, vocab.txt"),
        ("Bert", ("post_processor",), None, "the post_processor puts the ids None around a text"),
        ("Bert", ("post_processor", "special_tokens", "[CLS]", "ids"), [7], "the post_processor puts the ids (7, 3)"),
        ("Bert", ("post_processor", "pair"), [], "the post_processor"),
        ("Bert", ("post_processor",), {"type": "BertProcessing", "cls": []}, "is no sound BertProcessing"),
        ("Bert", ("post_processor",), {"type": "TemplateProcessing", "single": 3}, "is no sound TemplateProcessing"),
        ("Bert", ("post_processor", "single"), [], "the post_processor"),
        ("Bert", ("added_tokens",), [{"id": 5}], "is no added token of id, content and true or false flags"),
        ("Bert", ("added_tokens",), 5, "added_tokens is no list"),
        ("Bert", ("model",), [], "no model is in it"),
        ("Bert", ("model", "vocab"), [], "has no vocabulary from token to id"),
        ("Albert", ("model", "vocab"), {}, "has no vocabulary of pieces and scores"),
        ("Albert", ("normalizer",), {"type": "Nmt"}, "the normalizer is 'Nmt', not AlbertTokenizer's"),
        ("Albert", ("pre_tokenizer",), {"type": "ByteLevel"}, "the pre_tokenizer is 'ByteLevel'"),
        ("Albert", ("model", "byte_fallback"), True, "byte_fallback is True, not false"),
        ("Albert", ("model", "unk_id"), 99999, "unk_id is 99999"),
        ("Albert", ("model", "vocab", 20), ["zz", -1.0], "piece 20 is 'zz', in spiece.model"),
    ],
)
def test_another_pipeline_is_refused_by_name(kind, path, value, message, tmp_path):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    assert message in error(pipeline(tmp_path, change, kind))


def test_a_pipeline_that_differs_in_settings_is_honoured(tmp_path):
    import transformers

    def change(data):
        data["normalizer"] |= {"lowercase": False, "strip_accents": True, "handle_chinese_chars": False}
        data["model"]["max_input_chars_per_word"] = 4
        data["truncation"] = {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0}

    folder = pipeline(tmp_path, change)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    ours = same_ids(folder, theirs)
    assert ours.encode("the cat a", max_length=4).ids == theirs("the cat a", truncation=True, max_length=4)["input_ids"]
    write(folder, words=(), tokenizer_config={"do_lower_case": True, "tokenizer_class": "PreTrainedTokenizerFast"})
    assert "do_lower_case is True, in tokenizer.json False" in error(folder)


# --- Which file


@pytest.mark.parametrize("name", ["vocab.txt", "vocab_chinese.txt", "bert_vocab.txt", "vocab-large.txt", "zh.vocab"])
def test_a_word_list_beside_googles_checkpoint_is_found_under_any_usual_name(name, tmp_path):
    making.tf1(tmp_path / "tf", dataclasses.replace(making.TINY, vocab_size=len(WORDS)))
    for path in (tmp_path / "tf").glob("30k*"):
        path.unlink()
    (tmp_path / "tf" / name).write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    files = convert.load(tmp_path / "tf").tokenizer
    assert files.origin == name
    assert Tokenizer.from_files(files).ids(["the cat"]) == [[WORDS.index("the"), WORDS.index("cat")]]


def test_several_vocabularies_are_refused_by_name(tmp_path):
    making.tf1(tmp_path / "tf")
    for path in (tmp_path / "tf").glob("30k*"):
        path.unlink()
    (tmp_path / "tf/spiece.model").write_bytes(making.spiece())
    (tmp_path / "tf/copy.model").write_bytes(making.spiece())
    assert convert.load(tmp_path / "tf").tokenizer.origin == "copy.model"
    (tmp_path / "tf/other.model").write_bytes(b"x")
    assert "holds several vocabularies, copy.model and other.model; remove all but" in error(tmp_path / "tf")
    for name in ("other.model", "copy.model"):
        (tmp_path / "tf" / name).unlink()
    (tmp_path / "tf/vocab.txt").write_text("[UNK]\na\n")
    assert "holds several vocabularies, spiece.model and vocab.txt" in error(tmp_path / "tf")


@pytest.mark.parametrize(
    ("data", "size", "ids"),
    [
        (b"[UNK]\na\n\xe3\x80\x80\n\xc2\xa0\n \nb\n", 6, [1, 5]),
        (b"[UNK]\na\nb\na\n", 4, [3, 2]),
        (b"[UNK]\r\na\r\nb", 3, [1, 2]),
        (b"[UNK]\na\na b\nb\n", 4, [1, 3]),
        (b"\xef\xbb\xbf[UNK]\na \nb\t\n", 3, [1, 2]),
        (b"[UNK] 9\na 8\nb 7\n", 3, [1, 2]),
    ],
)
def test_word_lists_with_odd_lines_are_read(data, size, ids, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(data)
    ours = Tokenizer.from_pretrained(tmp_path / "vocab.txt")
    assert ours.ids(["a b"]) == [ids]
    assert len(ours) == size
    assert all(isinstance(ours.segmenter.piece(number), str) for number in range(size))


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "--in", "texts.txt", "--model", "model", "--out", "out.parquet"),
        ("similarity", "a", "b", "--model", "model"),
        ("score", "a b", "--model", "model"),
        ("sop", "a", "b", "--model", "model"),
        ("fill-mask", "a [MASK]", "--model", "model"),
        ("finetune", "csv", "--train", "rows.csv", "--model", "model", "--out", "run"),
        ("pretrain", "--corpus", "texts.txt", "--init", "model", "--out", "run", "--steps", "1", "--max-length", "8"),
    ],
)
def test_more_pieces_than_rows_are_reported_before_any_work(arguments, albert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(making.TINY, vocab_size=8)
    from converters.tokenizers.files import TokenizerFiles

    words = "".join(f"{word}\n" for word in WORDS).encode()
    files = TokenizerFiles(wordpiece=words, origin="vocab.txt")
    convert.save(dataclasses.replace(making.model(config), tokenizer=files), tmp_path / "model")
    (tmp_path / "texts.txt").write_text("a b\n\nthe cat. a dog.\n" * 60)
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n")
    code, out, err = albert(*arguments)
    assert (code, out) == (1, "")
    assert f"the tokenizer has {len(WORDS)} pieces, the model only 8" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.parquet").exists()


# --- The table


def saved_directories(tmp_path):
    """What transformers writes for tokenizers made in many ways."""
    import transformers
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    settings = [
        {},
        {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
        {"additional_special_tokens": ["<e1>"], "padding_side": "left", "truncation_side": "left"},
        {"extra_special_tokens": {"image_token": "<i>"}, "model_max_length": 64, "chat_template": "x"},
        {"split_special_tokens": True, "clean_up_tokenization_spaces": True, "model_input_names": ["input_ids"]},
        {"keep_accents": True, "remove_space": True, "bos_token": "<s>"},
    ]
    write(tmp_path / "bert")
    sentencepiece(tmp_path / "albert")
    number = 0
    for source, kind in (
        ("bert", transformers.BertTokenizer),
        ("bert", BertTokenizerLegacy),
        ("albert", transformers.AlbertTokenizer),
    ):
        for said in settings:
            made = kind.from_pretrained(tmp_path / source, **said)
            made.add_tokens(["covid", transformers.AddedToken("<x>", lstrip=True)])
            number += 1
            made.save_pretrained(tmp_path / f"saved{number}")
            yield tmp_path / f"saved{number}"


def test_every_key_that_transformers_writes_is_in_the_table(tmp_path, recwarn):
    unknown = set()
    files = {key.file for key in TOKENIZER_KEYS}
    for folder in saved_directories(tmp_path):
        Tokenizer.from_pretrained(folder)
        for path in folder.iterdir():
            assert path.name in files, path.name
            if path.suffix != ".json" or path.name == "added_tokens.json":
                continue
            data = json.loads(path.read_text(encoding="utf-8"))
            keys = set(data) | {f"model.{key}" for key in data.get("model", ())}
            unknown |= {f"{path.name}: {key}" for key in keys - BY_FILE[path.name].keys() if key != "image_token"}
    assert not unknown
    assert not [str(warning.message) for warning in recwarn if "not known" in str(warning.message)]


def test_unknown_settings_are_reported(tmp_path, albert):
    write(tmp_path / "m", tokenizer_config={"shiny_new": 1, "do_lower_case": True})
    code, out, err = albert("tokenize", "the cat", "--model", tmp_path / "m", "--format", "ids")
    assert (code, out) == (0, f"2 {WORDS.index('the')} {WORDS.index('cat')} 3\n")
    assert err.count("shiny_new of tokenizer_config.json is not known here, so it has no effect") == 1


def test_the_table_lists_each_key_once_and_says_what_refused_values_are():
    pairs = [(key.file, key.key) for key in TOKENIZER_KEYS]
    assert len(pairs) == len(set(pairs))
    refused = {key.key for key in TOKENIZER_KEYS if key.file == CONFIG and key.treatment == "refused"}
    assert refused == USUAL.keys()
    assert all(key.note for key in TOKENIZER_KEYS)
    assert BY_FILE[SPECIAL_MAP].keys() <= BY_FILE[CONFIG].keys()


# A value for each honoured key that must change something that is computed.
CHANGES = {
    "tokenizer_class": "BertJapaneseTokenizer",
    "do_lower_case": False,
    "strip_accents": False,
    "tokenize_chinese_chars": False,
    "cls_token": "cat",
    "sep_token": "cat",
    "mask_token": "cat",
    "pad_token": "cat",
    "unk_token": "cat",
    "bos_token": "<e1>",
    "eos_token": "<e1>",
    "additional_special_tokens": ["<e1>"],
    "extra_special_tokens": ["<e1>"],
    "model_specific_special_tokens": {"x": "<e1>"},
    "added_tokens_decoder": {"100": {"content": "<e1>"}},
    "split_special_tokens": True,
    "truncation_side": "left",
    "model_max_length": 4,
    "max_len": 4,
    "model_input_names": ["input_ids"],
    "keep_accents": True,
    "drop_category_c": True,
}


@pytest.mark.parametrize(
    "key", [key.key for key in TOKENIZER_KEYS if (key.file, key.treatment) == (CONFIG, "honoured")]
)
def test_every_honoured_setting_changes_what_is_computed(key, tmp_path):
    make = sentencepiece if key == "keep_accents" else write
    before = {"additional_special_tokens": ["<e2>"]} if key == "split_special_tokens" else {}

    def computed(said):
        from converters.tokenizers.settings import read_tokenizer

        try:
            tokenizer = Tokenizer.from_pretrained(make(tmp_path / "m", tokenizer_config=before | said))
        except AlbertError as error:
            return str(error)
        text = "The café <e1> <e2> 我们 zzz ca\ue000t"
        encoding = tokenizer.encode(text, text, max_length=12, pad_to=14)
        special = [tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.pad_id, tokenizer.unk_id]
        length = read_tokenizer(tmp_path / "m").max_length
        return encoding.ids, encoding.token_type_ids, tokenizer.ids([text]), special, length

    assert computed({key: CHANGES[key]}) != computed({})


# --- The rest of the commands


def small_model(folder, *, pieces, **files):
    """A random model in a Hugging Face directory with other tokenizer files than the ones it was saved with."""
    convert.save(making.model(dataclasses.replace(making.TINY, vocab_size=pieces)), folder)
    for name in ("spiece.model", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    return write(folder, **files)


def test_a_tokenizer_that_is_not_computed_is_reported_where_no_ids_are_wanted(albert, tmp_path):
    said = {"tokenizer_class": "BertJapaneseTokenizer"}
    model = small_model(tmp_path / "m", pieces=len(WORDS), tokenizer_config=said)
    code, out, _ = albert("inspect", model, "--json")
    assert code == 0
    assert "tokenizer_class is 'BertJapaneseTokenizer'" in json.loads(out)["tokenizer"]
    code, out, _ = albert("convert", model, tmp_path / "to.npz")
    assert code == 0
    assert "the tokenizer is left out: " in out
    code, _, err = albert("embed", "--in", model / "vocab.txt", "--model", model, "--out", tmp_path / "o.parquet")
    assert (code, err.count("\n")) == (1, 1)
    assert "tokenizer_class is 'BertJapaneseTokenizer'" in err


def test_what_transformers_4_wrote_first_is_read(tmp_path):
    def change(data):
        del data["model"]["type"], data["model"]["byte_fallback"]
        data["normalizer"]["normalizers"].append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        data["pre_tokenizer"]["pretokenizers"][1] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
        for piece in data["model"]["vocab"]:
            piece[1] -= 100 * (piece[0] == "▁9,")
        data["added_tokens"].append({"id": 5, "content": "(", "single_word": False, "lstrip": False, "rstrip": False,
                                     "normalized": False, "special": False})  # fmt: skip

    folder = pipeline(tmp_path, change, "Albert")
    wanted = Tokenizer.from_pretrained(folder / "spiece.model").ids(["the (cat) 9, a"])
    assert Tokenizer.from_pretrained(folder).ids(["the (cat) 9, a"]) == wanted
    (folder / "spiece.model").unlink()
    assert Tokenizer.from_pretrained(folder).ids(["the (cat) 9, a"]) == wanted


def test_init_takes_the_settings_beside_the_vocabulary(albert, tmp_path):
    write(tmp_path / "t", added_tokens={"<e1>": len(WORDS)}, tokenizer_config={"do_lower_case": False})
    code, _, err = albert("init", tmp_path / "m", "--preset", "tiny", "--tokenizer", tmp_path / "t/vocab.txt")
    assert code == 0, err
    loaded = convert.load(tmp_path / "m")
    assert loaded.config.vocab_size == len(WORDS) + 1
    assert loaded.tokenizer.added == (AddedToken(len(WORDS), "<e1>"),)
    assert not loaded.tokenizer.lowercase


def test_added_tokens_among_the_pretraining_heads(albert, tmp_path):
    files = {"added_tokens": {"<e1>": len(WORDS), "covid": len(WORDS) + 1}}
    model = small_model(tmp_path / "m", pieces=len(WORDS) + 2, **files)
    code, out, err = albert("fill-mask", "the [MASK]", "--targets", "covid", "--model", model, "--json")
    assert code == 0, err
    assert '"the covid"' in out
    code, out, err = albert("score", "the <e1> cat", "--model", model, "--json")
    assert code == 0, err
    assert '"<e1>"' in out
    code, out, err = albert("tokenize", "the <e1>cat", "--model", model, "--json")
    assert code == 0, err
    assert "added" in out
    code, _, err = albert("tokenize", "the <e1>cat", "--model", model, "--nbest", "2")
    assert code == 1
    assert "alternatives need a SentencePiece model without added tokens" in err


def test_a_mask_of_another_name_is_filled_in(albert, refused, tmp_path):
    files = {"added_tokens": {"<mask>": len(WORDS)}, "special_tokens_map": {"mask_token": "<mask>"}}
    model = small_model(tmp_path / "m", pieces=len(WORDS) + 1, **files)
    code, out, err = albert("fill-mask", "the <mask> cat <mask>", "--model", model, "--json")
    assert (code, err) == (0, "")
    assert len(json.loads(out)[0]["masks"]) == 2
    assert refused("fill-mask", "the [MASK] cat", "--model", model) == (
        "the text has no <mask>; write <mask> where a word is to be found"
    )


@pytest.mark.parametrize("setting", ["remove_extra_whitespaces", "charsmap"])
def test_blanks_that_a_model_does_not_collapse(setting, tmp_path):
    """Many texts at once have the ids of each by itself."""
    folder = sentencepiece(tmp_path / "t")
    model = parse_model((folder / "spiece.model").read_bytes(), "test")
    if setting == "charsmap":
        model.normalizer_spec.precompiled_charsmap = b""
    else:
        model.normalizer_spec.remove_extra_whitespaces = False
    (folder / "spiece.model").write_bytes(model.SerializeToString())
    ours = Tokenizer.from_pretrained(folder)
    texts = ["  the  cat ", "\tthe\tcat\r", "the\n cat", "THE cat", "", "  "]
    assert ours.ids(texts) == [ours.encode(text, special_tokens=False).ids for text in texts]
    assert ours.ids(texts[:4]) == [ours.ids(["the cat"])[0]] * 4


def _no_unknown(model):
    model.pieces[1].type = model.pieces[1].NORMAL


def _two_unknown(model):
    model.pieces[-1].type = model.pieces[1].UNKNOWN


def _empty(model):
    model.pieces[-1].piece = ""


def _twice(model):
    model.pieces[-1].piece = model.pieces[-2].piece


def _no_number(model):
    model.pieces[-1].score = float("nan")


def _charsmap(change):
    """The normalisation table, changed: its size, its trie of four-byte units, its texts."""

    def damage(model):
        table = bytearray(model.normalizer_spec.precompiled_charsmap)
        model.normalizer_spec.precompiled_charsmap = bytes(change(table))

    return damage


def _units(value):
    def change(table):
        size = int.from_bytes(table[:4], "little")
        table[4 : 4 + size] = value * (size // 4)
        return table

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_unknown, "0 pieces are the unknown one, not 1"),
        (_two_unknown, "2 pieces are the unknown one, not 1"),
        (_empty, "piece <any> is empty"),
        (_twice, "the piece <any> occurs twice"),
        (_no_number, "the score of piece <any> is nan"),
        (_charsmap(lambda table: table[:3]), "the table of its normalizer: its trie has <any>"),
        (_charsmap(lambda table: b"\xff\xff\xff\x7f" + table[4:]), "the table of its normalizer: its trie has <any>"),
        (_charsmap(lambda table: table[:-1]), "the table of its normalizer: its texts have no end"),
        (_charsmap(lambda table: table[:-2] + b"\xff\0"), "the table of its normalizer: its texts are not UTF-8"),
        (_charsmap(_units(b"\0\xff\xff\x7f")), "the table of its normalizer: its trie leads out of the table"),
        (_charsmap(_units(b"\0\0\0\x90")), "the table of its normalizer: its trie leads beyond its texts"),
    ],
)
def test_what_sentencepiece_takes_on_trust_is_looked_at_by_every_command(tmp_path, refused, damage, said):
    """It would end the process, or give ids of nonsense: conversion refuses what tokenization does."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(making.spiece())
    damage(model)
    directory = tmp_path / "m"
    convert.save(making.model(TINY), directory, format="safetensors")
    (directory / "spiece.model").write_bytes(model.SerializeToString())
    for path, arguments in (
        (directory, ["convert", directory, tmp_path / "out", "--to", "torch"]),
        (directory, ["tokenize", "a", "--model", directory]),
        (directory / "spiece.model", ["tokenize", "a", "--model", directory / "spiece.model"]),
    ):
        wanted = f"$source: not a sound SentencePiece model: {said}"
        assert corruptions.agrees(refused(*arguments), wanted, path, path)


def test_half_of_a_utf_16_pair_is_no_token(tmp_path, refused):
    """Nothing can be written of it, and SentencePiece cannot be asked for it."""
    convert.save(making.model(), tmp_path / "hf")
    settings = tmp_path / "hf" / "tokenizer_config.json"
    settings.write_text('{"tokenizer_class": "AlbertTokenizer", "mask_token": "\\ud800"}')
    for command in (("convert", settings.parent, tmp_path / "out"), ("tokenize", "x", "--model", settings.parent)):
        assert refused(*command) == f"{settings}: holds half of a UTF-16 pair, which is no text"
