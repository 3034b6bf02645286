"""albert pretrain: corpus, sequences, masks, losses, optimizers, sharing, and runs that resume to the bit."""

import copy
import dataclasses
import gzip
import hashlib
import json
import lzma
import re
import shutil
import signal
import time
import unicodedata
from pathlib import Path

import making
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Program
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from albert_cli.errors import DataError, RunError, TrainingError
from albert_cli.model.loading import load_model
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining import corpus as corpora
from albert_cli.pretraining import (
    distillation,
    masking,
    optimizers,
    order_by_length,
    preparation,
    sequences,
    vocabulary,
)
from albert_cli.pretraining.local_heads import initialize_local_heads
from albert_cli.pretraining.masking import Vocabulary
from albert_cli.pretraining.objective import Batch, Objective, sentence_vectors, teacher_loss
from albert_cli.pretraining.pretrain import pretrain
from albert_cli.pretraining.random_streams import Stream, generator
from albert_cli.pretraining.sequences import IN_ORDER, NO_ORDER, SWAPPED
from albert_cli.pretraining.settings import PretrainSettings
from albert_cli.pretraining.teacher import Teacher
from albert_cli.pretraining.vocabulary import train_vocabulary
from albert_cli.runs.events import Evaluated, Note, PretrainingPlan
from albert_cli.runs.log import read_log
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert, spec
from converters.config import EncoderConfig
from converters.dialects import config_from_json, to_hf
from converters.errors import AlbertError
from converters.families.albert import PRESETS
from converters.tokenizers.files import TokenizerFiles
from converters.tokenizers.sentencepiece_model import parse_model

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("undrawn")
SHAPE = {
    "vocab_size": 100,
    "embedding_size": 16,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Frank"]
DEEDS = ["opened the door", "closed the window", "read a book", "wrote a letter", "drank some tea", "sat down"]


def story(number):
    """A document of three paragraphs of numbered, ordered sentences."""
    lines = []
    for part in range(3):
        told = [
            f"{['First', 'Then', 'Last'][part]} {NAMES[(number + n) % 6]} {DEEDS[(number * 5 + n) % 6]} at {n} o'clock."
            for n in range(4)
        ]
        lines.append(" ".join(told))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "stories.txt").write_text("\n\n".join(story(n) for n in range(60)) + "\n")
    with lzma.open(folder / "words.txt.xz", "wt") as file:
        file.write("\n".join(f"{name.lower()}: a person who {deed}." for name in NAMES for deed in DEEDS) + "\n")
    return folder


@pytest.fixture(scope="module")
def tokenizer_files(texts):
    found = (sentence for _, document in corpora.Files.find([texts]).documents() for sentence in document)
    return TokenizerFiles.of("the texts", spiece=train_vocabulary(found, 100), origin="spiece.model")


@pytest.fixture(scope="module")
def tokenizer(tokenizer_files):
    return Tokenizer.from_files(tokenizer_files)


@pytest.fixture(scope="module")
def corpus(texts, tokenizer, tmp_path_factory):
    return corpora.prepare(corpora.Files.find([texts]), tokenizer, "x", tmp_path_factory.mktemp("tokens") / "corpus")


def wanted(texts, **more):
    given = {
        "corpus": (str(texts),),
        "model_config": SHAPE,
        "vocab_size": 100,
        "steps": 12,
        "eval_every": 4,
        "tokens_per_update": 256,
        "max_length": 32,
        "hold_out": 10,
        "eval_sequences": 20,
    }
    return PretrainSettings(**(given | more))


# The vocabulary


def test_the_vocabulary_has_googles_layout_and_every_ascii_character(tokenizer_files, tokenizer):
    model = parse_model(tokenizer_files.spiece, "it")
    pieces = [piece.piece for piece in model.pieces]
    assert " ".join(pieces[:13]) == '<pad> <unk> [CLS] [SEP] [MASK] ( ) " - . – £ €'
    assert len(pieces) == 100
    assert (model.trainer_spec.model_type, model.trainer_spec.character_coverage) == (1, pytest.approx(0.99995))
    assert (model.trainer_spec.bos_id, model.trainer_spec.eos_id, model.normalizer_spec.name) == (-1, -1, "nmt_nfkc")
    for code in range(0x21, 0x7F):
        assert tokenizer.unk_id not in tokenizer.ids([chr(code)])[0], chr(code)
    assert all(len(re.findall(r"\d", piece)) <= 1 for piece in pieces)


def test_the_same_text_gives_the_same_vocabulary_and_too_little_text_is_reported(texts, tokenizer_files):
    sentences = [sentence for _, document in corpora.Files.find([texts]).documents() for sentence in document]
    assert train_vocabulary(sentences, 100) == tokenizer_files.spiece
    with pytest.raises(DataError) as error:
        train_vocabulary(sentences, 30000)
    begin = "no vocabulary of 30000 pieces can be made of this text: it yields "
    most = int(str(error.value).removeprefix(begin).partition(" ")[0])
    assert str(error.value) == f"{begin}{most} at most; lower --vocab-size to that, or pass more text"
    assert len(parse_model(train_vocabulary(sentences, most), "the largest").pieces) == most
    with pytest.raises(DataError, match=r"its characters and the special pieces alone are \d+; raise --vocab-size$"):
        train_vocabulary(sentences, 10)
    with pytest.raises(DataError, match="there is no text to train a vocabulary on"):
        train_vocabulary([" "], 100)


def test_what_is_no_text_or_too_little_is_not_reported_to_lower_the_size():
    with pytest.raises(DataError, match=r"there is no text to train a vocabulary on: 2 lines without one letter or di"):
        train_vocabulary(["...", "!!!"], 100)
    with pytest.raises(DataError, match=r"not one letter or digit; pass more text$"):
        train_vocabulary(["\u0301", ""], 100)
    with pytest.raises(DataError) as error:
        train_vocabulary(["hello"], 1000)
    assert str(error.value) == (
        "no vocabulary of 1000 pieces can be made of this text: it yields 77 at most, single characters and special "
        "pieces: it is too little to find a word in; pass more text"
    )


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 10**10])
def test_a_size_beyond_any_vocabulary_is_refused_with_the_possible_one(texts, size):
    sentences = [sentence for _, document in corpora.Files.find([texts]).documents() for sentence in document]
    with pytest.raises(
        DataError, match=rf"^no vocabulary of {size} pieces .* it yields \d+ at most; lower --vocab-size"
    ):
        train_vocabulary(sentences, size)


def fed_to_the_trainer(monkeypatch, sentences, **more):
    """What SentencePiece is given to read."""
    fed = []

    def train(*, sentence_iterator, **options):
        fed.extend(sentence_iterator)
        assert all(len(text.encode()) <= options["max_sentence_length"] for text in fed)

    monkeypatch.setattr(vocabulary.sentencepiece.SentencePieceTrainer, "train", train)
    train_vocabulary(sentences, 100, **more)
    return fed


@pytest.mark.parametrize("text", [
    "word " * 3000, "猫は庭で" * 2000, "a" * 9000, f"{'b' * 4191}é{'c' * 5000}", f"x {'長' * 1500} y {'長' * 1500}",
    "𝒳" * 1100,
])  # fmt: skip
def test_every_byte_of_a_long_line_reaches_the_trainer(monkeypatch, text):
    fed = fed_to_the_trainer(monkeypatch, [text], lowercase=False, keep_accents=True)
    assert len(fed) > 1
    assert "".join(fed).replace(" ", "") == text.replace(" ", "")
    if " " in text[:4000]:
        assert set(" ".join(fed).split()) <= {"word", "x", "y", *("長" * n for n in range(1, 1501))}


def test_every_byte_of_the_training_documents_reaches_the_trainer(monkeypatch, tmp_path):
    lines = [" ".join(f"{n}word{k}" for k in range(900 * (n % 2) + 3)) for n in range(30)]
    (tmp_path / "long.txt").write_text("\n\n".join(lines))
    (tmp_path / "block.txt").write_text("\n\n".join(["with \u2585 a block"] * 6))  # SentencePiece's own mark
    files = corpora.Files.find([tmp_path])
    fed = fed_to_the_trainer(monkeypatch, preparation._training_sentences(files, 10))
    documents = [" ".join(document) for n, (_, document) in enumerate(files.documents()) if n % 10 != 9]
    wanted = "".join(" ".join(documents).replace("\u2585", "").split())
    assert len("".join("".join(fed).split()).encode()) == len(wanted.encode()) > 30_000
    assert "a block" in " ".join(fed)


def test_no_language_of_a_mixed_corpus_becomes_unknown():
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("aeioubdgklmnrst"), 5)) for _ in range(60)]
    latin = [" ".join(random.choice(words, 9)) for _ in range(200)]
    kanji = ["".join(random.choice(list("猫犬鳥山川海空雨雪花木庭"), 3000)) for _ in range(4)]
    made = TokenizerFiles.of("mixed", spiece=train_vocabulary(latin + kanji, 130), origin="spiece.model")
    tokenizer = Tokenizer.from_files(made)
    assert tokenizer.unk_id not in tokenizer.ids(["猫山庭"])[0]


def test_a_sample_of_the_sentences_is_reported(monkeypatch):
    told = []
    assert len(fed_to_the_trainer(monkeypatch, [f"word {n}" for n in range(50)], most=20, note=told.append)) == 20
    assert told == ["the vocabulary is trained on 20 of 50 sentences, a uniform sample"]
    told.clear()
    fed_to_the_trainer(monkeypatch, [f"word {n}" for n in range(20)], most=20, note=told.append)
    assert not told


# The corpus


@pytest.mark.parametrize(
    ("paragraph", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Mrs. Ferrars died on the 17th. I was sent for.", ["Mrs. Ferrars died on the 17th.", "I was sent for."]),
        ("\u201cGo,\u201d he said. \u201cNow!\u201d She went.", None),
        ("version 3.5.0 is e.g. new", ["version 3.5.0 is e.g. new"]),
        ("  ", []),
        # Latin, Cyrillic, Greek, Armenian
        ("Ihr Haus ist groß. Äpfel sind rot.", ["Ihr Haus ist groß.", "Äpfel sind rot."]),
        ("Il est là. Étienne dort. « Où ? »", ["Il est là.", "Étienne dort.", "« Où ? »"]),
        ("Он пришёл домой. Она уже спала!", ["Он пришёл домой.", "Она уже спала!"]),
        ("А. С. Пушкин умер. Его нет.", ["А. С. Пушкин умер.", "Его нет."]),
        ("Ήρθε σπίτι. Όλοι κοιμούνταν.", ["Ήρθε σπίτι.", "Όλοι κοιμούνταν."]),
        ("Նա տուն եկավ։ Նա քնած էր։", ["Նա տուն եկավ։", "Նա քնած էր։"]),
        # Han, Kana, Hangul
        ("他回家了。她已经睡了。", ["他回家了。", "她已经睡了。"]),
        ("彼は「行こう。」さくらが咲いた！本当？", ["彼は「行こう。」", "さくらが咲いた！", "本当？"]),
        ("그는 집에 왔다. 그녀는 자고 있었다.", ["그는 집에 왔다.", "그녀는 자고 있었다."]),
        # Arabic, Devanagari, Bengali, Ethiopic, Khmer, Burmese; Thai has no marks
        ("هل جاء؟ نعم. ذهب إلى البيت.", ["هل جاء؟", "نعم.", "ذهب إلى البيت."]),
        ("वह घर आया। वह सो चुकी थी।", ["वह घर आया।", "वह सो चुकी थी।"]),
        ("সে বাড়ি এল। সে ঘুমিয়ে ছিল।", ["সে বাড়ি এল।", "সে ঘুমিয়ে ছিল।"]),
        ("ሰላም ነው። ደህና ነኝ።", ["ሰላም ነው።", "ደህና ነኝ።"]),
        ("គាត់មក។ នាងដេក។", ["គាត់មក។", "នាងដេក។"]),
        ("သူလာသည်။ သူအိပ်သည်။", ["သူလာသည်။", "သူအိပ်သည်။"]),
        ("เขากลับบ้าน เธอหลับแล้ว", ["เขากลับบ้าน เธอหลับแล้ว"]),
        # What Unicode's rules alone would cut, or leave whole
        (
            "\u201cWhat?\u201d he asked. Dr. Ünal said No. 5 was Mr. A. Smith\u2019s.",
            [
                "\u201cWhat?\u201d he asked.",
                "Dr. Ünal said No. 5 was Mr. A. Smith\u2019s.",
            ],
        ),
        (
            "It ended in 1950. 12 men came\u2026 Nobody left\u2026 or so.",
            [
                "It ended in 1950.",
                "12 men came\u2026",
                "Nobody left\u2026 or so.",
            ],
        ),
        ("... !!! One. ???", ["... !!! One. ???"]),
    ],
)
def test_paragraphs_are_cut_into_sentences(paragraph, parts):
    if parts is None:
        parts = ["\u201cGo,\u201d he said.", "\u201cNow!\u201d", "She went."]
    assert corpora.sentences(paragraph) == parts


@given(st.text())
def test_no_text_is_lost_between_sentences(paragraph):
    assert "".join("".join(corpora.sentences(paragraph)).split()) == "".join(paragraph.split())


def test_a_corpus_is_mapped_and_made_once(texts, corpus, tokenizer, tmp_path):
    files = corpora.Files.find([texts], {"words": 0.5}, ["words.txt.xz"])
    assert [path.name for path in files.paths] == ["stories.txt", "words.txt.xz"]
    assert (files.weights, files.ordered) == ((1.0, 0.5), (True, False))
    documents = list(files.documents())
    assert len(corpus) == len(documents) == 61
    for number, (source, sentences) in enumerate(documents):
        first, last = corpus.documents[number : number + 2]
        ids = [corpus.ids[corpus.sentences[n] : corpus.sentences[n + 1]].tolist() for n in range(first, last)]
        assert ids == tokenizer.ids(sentences)
        assert corpus.sources[number] == source
    assert isinstance(corpus.ids, np.memmap)
    train, held = corpus.split(10)
    assert held.tolist() == [9, 19, 29, 39, 49, 59]
    assert sorted([*train, *held]) == list(range(61))

    ticks = []
    again = corpora.prepare(files, tokenizer, "x", tmp_path / "c", progress=ticks.append)
    stories, words = files.paths
    assert sum(ticks) == stories.stat().st_size + len(lzma.decompress(words.read_bytes()))
    ticks.clear()
    corpora.prepare(files, tokenizer, "x", tmp_path / "c", progress=ticks.append)
    assert not ticks
    corpora.prepare(files, tokenizer, "y", tmp_path / "c", progress=ticks.append)
    assert ticks
    assert np.array_equal(again.ids, corpus.ids)


def _json(**changes):
    return lambda data: json.dumps(json.loads(data) | changes).encode()


def _flip(data):
    return data[:-1] + bytes([data[-1] ^ 1])


GONE = object()
DAMAGES = [
    ("corpus.json", lambda data: data[: len(data) // 2], "corpus.json: is not JSON: "),
    ("corpus.json", lambda data: b"\xff" + data, "corpus.json: is not UTF-8 text (byte 0)"),
    ("corpus.json", lambda data: b"[]", "corpus.json: damaged: [], no table; "),
    ("corpus.json", lambda data: data.replace(b'"ids"', b'"idx"'), "counts.ids is missing; sha256.ids is missing; "),
    ("corpus.json", _json(dtype="<f2"), "damaged: dtype is '<f2', not one of <u2, <i4; "),
    ("corpus.json", _json(dtype=["<u2"]), "damaged: dtype is ['<u2'], not one of <u2, <i4; "),
    ("corpus.json", _json(dtype="<i4"), "ids.bin: has "),
    ("corpus.json", _json(counts={}), "counts.ids is missing; counts.sentences is missing; counts.documents is "),
    ("corpus.json", _json(counts={"ids": -1, "sentences": 0, "documents": "1", "sources": 1.5}),
     "counts.sentences is 0, not at least 1; counts.documents is '1', not a whole number; counts.sources is 1.5, not "),
    ("corpus.json", _json(parts=None), "parts is None, not a whole number; "),
    ("ids.bin", lambda data: data[:-2], "ids.bin: has "),
    ("ids.bin", _flip, "ids.bin: its SHA-256 is not that in corpus.json; "),
    ("sentences.bin", _flip, "sentences.bin: its SHA-256 is not that in corpus.json; "),
    ("documents.bin", _flip, "documents.bin: its SHA-256 is not that in corpus.json; "),
    ("sources.bin", _flip, "sources.bin: its SHA-256 is not that in corpus.json; "),
    ("sources.bin", GONE, "sources.bin: no such file or directory"),
]  # fmt: skip
# Values that no corpus has, with the digest that belongs to them.
VALUES = [
    ("ids", lambda values: values + 60000, "ids.bin: holds 600"),
    ("sentences", lambda values: values[::-1], "sentences.bin: does not ascend from 0 to "),
    ("documents", lambda values: values * 2, "documents.bin: does not ascend from 0 to "),
    ("sources", lambda values: values - 1, "sources.bin: holds -1 to "),
]


def _refused(files, tokenizer, directory):
    with pytest.raises(AlbertError) as caught:
        corpora.prepare(files, tokenizer, "x", directory, resuming=True)
    again = corpora.prepare(files, tokenizer, "x", directory)
    assert again.ids.tobytes() == corpora.prepare(files, tokenizer, "x", directory.with_name("other")).ids.tobytes()
    return str(caught.value)


@pytest.mark.parametrize(("file", "damage", "message"), DAMAGES)
def test_a_damaged_corpus_is_refused(texts, tokenizer, tmp_path, file, damage, message):
    files = corpora.Files.find([texts])
    corpora.prepare(files, tokenizer, "x", tmp_path / "c")
    path = tmp_path / "c" / file
    if damage is GONE:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    said = _refused(files, tokenizer, tmp_path / "c")
    assert message in said
    assert damage is GONE or f"; remove {tmp_path / 'c'}, and the corpus is tokenized again" in said


@pytest.mark.parametrize(("name", "change", "message"), VALUES)
def test_a_corpus_of_other_values_is_refused(texts, tokenizer, tmp_path, name, change, message):
    files = corpora.Files.find([texts])
    made = corpora.prepare(files, tokenizer, "x", tmp_path / "c")
    values = getattr(made, name)
    data = change(np.array(values)).astype(values.dtype).tobytes()
    facts = json.loads((tmp_path / "c/corpus.json").read_bytes())
    facts["sha256"][name] = hashlib.sha256(data).hexdigest()
    (tmp_path / "c" / f"{name}.bin").write_bytes(data)
    (tmp_path / "c/corpus.json").write_text(json.dumps(facts))
    assert message in _refused(files, tokenizer, tmp_path / "c")


def test_faults_of_a_corpus_are_reported_in_one_line(texts, tokenizer_files, tmp_path, refused):
    (tmp_path / "spiece.model").write_bytes(tokenizer_files.spiece)

    def start(*more):
        given = ["--out", tmp_path / "run", "--steps", 1, "--tokenizer", tmp_path / "spiece.model"]
        return refused("pretrain", *given, *more)

    (tmp_path / "only.toml").write_text("seed = 1\n")
    assert start("--config", tmp_path / "only.toml") == (
        "no corpus is named; pass --corpus with a file or directory of text"
    )
    assert start("--corpus", tmp_path / "none") == f"{tmp_path}/none: no such file or directory"
    (tmp_path / "empty").mkdir()
    assert start("--corpus", tmp_path / "empty").startswith(f"{tmp_path}/empty: no text files (.txt, .txt.gz")
    assert start("--corpus", texts, "--weight", "poems=2") == (
        "poems: no such file in the corpus; its files are stories.txt, words.txt.xz"
    )
    (tmp_path / "blank.txt").write_text("\n \n")
    assert start("--corpus", tmp_path / "blank.txt").endswith("blank.txt: there is no text in it")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"Some text. " * 1000)[:-20])
    assert "cut.txt.gz: the compressed data is damaged or cut short" in start("--corpus", tmp_path / "cut.txt.gz")
    (tmp_path / "bad.txt").write_bytes(b"fine\n\xff\n")
    assert start("--corpus", tmp_path / "bad.txt").endswith(
        "bad.txt: line 2 is not UTF-8: byte 0xff at offset 5; convert it to UTF-8"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("bad.txt", "blank.txt", "cut.txt.gz"):
        shutil.copy(tmp_path / name, folder / name)
    (folder / "wide.txt").write_bytes("Some text.\n".encode("utf-16-le"))
    message = start("--corpus", folder, "--corpus", texts)  # all at once
    for said in (
        "bad.txt: line 2 is not UTF-8", "blank.txt: there is no text in it", "cut.txt.gz: the compressed data is dam",
        "wide.txt: full of zero bytes; if it is UTF-16, convert it",
    ):  # fmt: skip
        assert said in message
    message = start("--corpus", texts, "--minutes", 1, "--optimizer", "lamb", "--init", "built-in", "--share", "all")
    assert message == (
        "give either --steps or --minutes: how long to train; --init takes tokenizer, config and sharing from that "
        "model; leave them out"
    )


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([], "missing --corpus: a file or directory of text, and --steps or --minutes: how long to train"),
        (["--steps", "1"], "missing --corpus: a file or directory of text"),
        (["--corpus", "x"], "missing --steps or --minutes: how long to train"),
    ],
)
def test_what_a_run_cannot_do_without_is_wrong_usage(albert, arguments, missing):
    code, out, err = albert("pretrain", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ")
    assert missing in " ".join(err.replace("\u2502", "").split())


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('steps = "10"', "steps is '10', not a whole number"),
        ("steps = 10.5", "steps is 10.5, not a whole number"),
        ("steps = true", "steps is True, not a whole number"),
        ('learning_rate = "fast"', "learning_rate is 'fast', not a number"),
        ('corpus = "texts"', "corpus is 'texts', not a list of texts"),
        ("corpus = [1]", "corpus[0] is 1, not a text in quotes"),
        ("tokenizer = 3", "tokenizer is 3, not a text in quotes"),
        ("whole_words = 1", "whole_words is 1, not true or false"),
        ("cased = 'yes'", "cased is 'yes', not true or false"),
        ("weights = 2", "weights is 2, not a table of numbers"),
        ("weights = {a = 'x'}", "weights.a is 'x', not a number"),
        ("config = []", "config is [], not a table"),
        ("settings = 3", "settings is 3, not a table"),
        (f"steps = {10**30}", f"steps is {10**30}, not a whole number"),
        ("steps = 'a'\nseed = []", "steps is 'a', not a whole number; seed is [], not a whole number"),
    ],
)
def test_settings_of_another_type_are_reported_in_one_line(texts, tmp_path, refused, toml, message):
    (tmp_path / "run.toml").write_text(toml + "\n")
    told = refused("pretrain", "--corpus", texts, "--out", tmp_path / "run", "--config", tmp_path / "run.toml")
    assert told == f"{tmp_path}/run.toml: {message}"


def test_a_corpus_too_small_to_hold_out_of_is_refused_before_any_work(tmp_path, refused, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("a vocabulary is trained")

    monkeypatch.setattr(vocabulary, "train_vocabulary", never)
    (tmp_path / "few.txt").write_text("\n\n".join(story(n) for n in range(5)))
    (tmp_path / "more.txt").write_text("\n\n".join(story(n) for n in range(60)))

    def start(*more):
        return refused("pretrain", "--out", tmp_path / "run", "--steps", 1, *more)

    assert start("--corpus", tmp_path / "few.txt") == (
        "every 50th document is held out, which leaves none of 5; pass more text, or a lower --hold-out"
    )
    assert start("--corpus", tmp_path / "few.txt", "--hold-out", 22).startswith("every 22nd document is held out")
    assert start("--corpus", tmp_path, "--weight", "more=0") == (
        "every 50th document is held out, which leaves none of 65 in a file whose weight is not 0; pass more text, or "
        "a lower --hold-out"
    )
    assert start("--corpus", tmp_path / "more.txt", "--weight", "more=0").startswith("there is no document to train on")


def notes(heard):
    return [event.text for event in heard if isinstance(event, Note)]


def test_what_is_left_out_of_a_corpus_is_reported(tmp_path):
    folder = tmp_path / "texts"
    (folder / "inner").mkdir(parents=True)
    (folder / "stories.txt").write_bytes("\n\n".join(story(n) for n in range(40)).replace("\n", "\r").encode())
    (folder / "nul.txt").write_text("\n\n".join(story(n) for n in range(40)) + "\0 and more\0.\n")
    for name in (".hidden.txt", "table.csv", "picture.png"):
        (folder / name).write_bytes(b"\xff\x00")
    heard = []
    given = wanted(folder, corpus=(str(folder), str(folder / "nul.txt")), steps=1, vocab_size=90)
    pretrain(given, tmp_path / "run", report=heard.append)
    told = notes(heard)
    assert (
        "left out of the corpus, as they are hidden or no .txt, .txt.gz, .txt.xz, .txt.zst files: "
        + ", ".join(f"{folder}/{name}" for name in (".hidden.txt", "inner", "picture.png", "table.csv"))
    ) in told
    assert f"named twice, read once: {folder}/nul.txt" in told
    assert "2 NUL characters of the corpus are left out" in told
    [plan] = [event for event in heard if isinstance(event, PretrainingPlan)]
    assert plan.documents + plan.held_out_documents == 80  # a CR ends a line, too
    tokens = corpora.load(tmp_path / "run/corpus")
    tokenizer = Tokenizer.from_pretrained(tmp_path / "run")
    assert tokenizer.unk_id not in tokens.ids


def test_files_of_one_name_are_reported_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "text.txt").write_text(f"From {folder}.\n")
    files = corpora.Files.find([tmp_path / "a", tmp_path / "b"])
    before = corpora.fingerprint(files, "x")
    (tmp_path / "a/text.txt").write_text("Changed.\n")
    assert corpora.fingerprint(files, "x") != before


def test_long_documents_long_sentences_and_unknown_pieces_are_reported(tmp_path, tokenizer_files):
    long = " ".join(f"Anna sat down at {n} o'clock." for n in range(450))
    many = " ".join(["Anna sat down and Ben wrote a letter"] * 12)
    texts = [*(story(n) for n in range(8)), long, many, "人 " * 400]
    (tmp_path / "texts.txt").write_text("\n\n".join(texts))
    (tmp_path / "spiece.model").write_bytes(tokenizer_files.spiece)
    heard = []
    given = wanted(tmp_path / "texts.txt", tokenizer=str(tmp_path / "spiece.model"), vocab_size=None, steps=1)
    pretrain(given, tmp_path / "run", report=heard.append)
    told = "; ".join(notes(heard))
    assert "documents of more than 400 sentences are cut into parts, 1 of them of 400" in told
    assert re.search(r"\d+\.\d% of the tokens are beyond --max-length \(32\) of their sentence", told)
    assert re.search(r"\d+\.\d% of the tokens are unknown: the vocabulary has no pieces for them", told)


VIETNAMESE = [
    "Người đàn ông mở cửa sổ.",
    "Cô ấy đọc một quyển sách.",
    "Trời mưa suốt cả ngày hôm qua.",
    "Ông ấy đã về nhà.",
]


@pytest.fixture
def accented(tmp_path):
    path = tmp_path / "accented.txt"
    path.write_text("\n\n".join("\n".join(VIETNAMESE[n % 4 :] + VIETNAMESE) for n in range(40)))
    return path


def test_dropped_accents_are_reported_where_they_are_common(accented, texts, tmp_path):
    heard = []
    pretrain(wanted(accented, vocab_size=85, steps=1), tmp_path / "plain", report=heard.append)
    [note] = [text for text in notes(heard) if "accents" in text]
    marks = sum(len(unicodedata.normalize("NFD", text)) - len(text) for text in VIETNAMESE)
    letters = sum(len(text.replace(" ", "")) for text in VIETNAMESE)
    said = float(re.search(r"([\d.]+)% of the corpus's characters", note)[1])
    assert said == pytest.approx(100 * marks / letters, abs=3)
    assert note.endswith("--keep-accents keeps them")
    heard.clear()
    pretrain(wanted(accented, vocab_size=100, steps=1, keep_accents=True), tmp_path / "kept", report=heard.append)
    pretrain(wanted(texts, steps=1), tmp_path / "english", report=heard.append)
    assert not [text for text in notes(heard) if "accents" in text]


def test_accents_and_capitals_are_kept_by_every_command(accented, tmp_path, albert):
    (tmp_path / "config.json").write_text(json.dumps(SHAPE))
    out = tmp_path / "run"
    arguments = [
        "pretrain", "--corpus", accented, "--model-config", tmp_path / "config.json", "--steps", 2,
        "--tokens-per-update", 256, "--max-length", 32, "--hold-out", 10, "--eval-every", 1, "--out", out,
    ]  # fmt: skip
    code, _, err = albert(*arguments, "--vocab-size", 125, "--keep-accents", "--cased")
    assert code == 0, err
    settings = json.loads((out / "tokenizer_config.json").read_text())
    assert (settings["do_lower_case"], settings["keep_accents"]) == (False, True)
    assert "keep_accents = true\ncased = true\n" in (out / "run.toml").read_text()
    code, tokens, _ = albert("tokenize", "Người", "--model", out, "--format", "ids")
    tokenizer = Tokenizer.from_pretrained(out)
    assert tokenizer.decode([int(number) for number in tokens.split()]) == "Người"
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    assert theirs("Người đọc", add_special_tokens=False)["input_ids"] == tokenizer.ids(["Người đọc"])[0]
    held = convert.load(out).tokenizer
    assert (held.lowercase, held.keep_accents) == (False, True)
    code, _, err = albert(*arguments, "--vocab-size", 125, "--strip-accents", "--cased", "--resume")
    assert code == 1
    assert "keep_accents was True, now False" in err
    # The same tokenizer read otherwise gives other tokens, though its file is the same.
    again = [*arguments[:-1], tmp_path / "plain", "--tokenizer", out / "spiece.model"]
    assert albert(*again)[0] == 0
    assert (
        convert.load(tmp_path / "plain").tokenizer.lowercase,
        convert.load(tmp_path / "plain").tokenizer.keep_accents,
    ) == (
        False,
        True,
    )  # as tokenizer_config.json beside it says
    assert albert(*again, "--uncased", "--strip-accents", "--force")[0] == 0
    plain = convert.load(tmp_path / "plain").tokenizer
    assert (plain.lowercase, plain.keep_accents) == (True, False)
    ids = corpora.load(tmp_path / "plain/corpus").ids, corpora.load(out / "corpus").ids
    assert not np.array_equal(*ids)


def test_a_model_gone_on_from_prepares_text_as_it_was_made(texts, tmp_path, refused):
    message = refused(
        "pretrain", "--corpus", texts, "--out", tmp_path / "run", "--steps", 1, "--init", "built-in", "--cased"
    )
    assert message == "--init takes tokenizer, config and sharing from that model; leave them out"


# What lengths alone tell


def test_the_rule_by_length_is_the_best_threshold():
    def pairs(differences, swapped):
        spans = [(0, 50 + difference, 100, 150) for difference in differences]
        return [sequences.Sequences(np.array(spans), np.array(swapped))]

    rule = order_by_length.fit(pairs([-3, -2, 0, 4, 5, 9], [0, 0, 0, 1, 0, 1]))
    assert (rule.threshold, rule.longer) == (0.0, True)
    assert rule.accuracy(pairs([1, -1, 0, 9], [1, 0, 1, 0])) == 0.5
    other = order_by_length.fit(pairs([-3, -2, 0, 4, 5, 9], [1, 1, 0, 0, 0, 0]))
    assert (other.threshold, other.longer) == (-2.0, False)
    assert other.accuracy(pairs([-5, 5], [1, 0])) == 1
    assert order_by_length.fit(pairs([7, 7, 7], [1, 1, 0])).accuracy(pairs([7, 7], [1, 0])) == 0.5
    assert order_by_length.fit([]).accuracy([sequences.Sequences(np.zeros((0, 4), int), np.zeros(0, int))]) is None


@given(data=st.data(), count=st.integers(1, 30))
def test_no_threshold_is_better_than_the_rules(data, count):
    differences = np.array(data.draw(st.lists(st.integers(-9, 9), min_size=count, max_size=count)))
    swapped = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    spans = np.stack([np.zeros(count, int), 20 + differences, np.full(count, 50), np.full(count, 70)], axis=1)
    batches = [sequences.Sequences(spans, swapped.astype(int))]
    ours = order_by_length.fit(batches).accuracy(batches)
    each = [((differences > limit) == way) == swapped for limit in range(-10, 10) for way in (True, False)]
    assert ours == max(right.mean() for right in each)


# Sequences


def spread(corpus, number, **more):
    return sequences.of_document(corpus, number, 32, np.random.default_rng(number), **more)


def test_sequences_are_neighbouring_segments_half_of_them_swapped(corpus):
    orders = []
    for number in range(60):
        made = spread(corpus, number)
        low, high = corpus.sentences[corpus.documents[number]], corpus.sentences[corpus.documents[number + 1]]
        starts = set(corpus.sentences.tolist())
        for (a, b, c, d), order in zip(made.spans.tolist(), made.orders.tolist(), strict=True):
            orders.append(order)
            assert low <= a < b <= high
            if order == NO_ORDER:
                assert (c, d) == (0, 0)
                continue
            assert low <= c < d <= high
            first, second = ((a, b), (c, d)) if order == IN_ORDER else ((c, d), (a, b))
            assert first[1] <= second[0]  # what came first in the text
            between = [start for start in range(first[1], second[0] + 1) if start in starts]
            assert between  # the cut is at the end of a sentence, but for what did not fit
        assert made.lengths.max() <= 32
    judged = [order for order in orders if order != NO_ORDER]
    assert 0.4 < judged.count(SWAPPED) / len(judged) < 0.6


def test_lengths_of_cut_segments_do_not_tell_the_order(corpus):
    longer = {IN_ORDER: set(), SWAPPED: set()}
    for number in range(60):
        made = spread(corpus, number)
        for (a, b, c, d), order in zip(made.spans.tolist(), made.orders.tolist(), strict=True):
            if order != NO_ORDER and b - a + d - c == 29 and abs(b - a - (d - c)) == 1:  # all the room there is
                longer[order].add(b - a - (d - c))
    assert longer[IN_ORDER] == longer[SWAPPED] == {1}


def test_every_token_of_a_document_is_used_or_cut_to_fit(corpus):
    made = spread(corpus, 3)
    used = [n for a, b, c, d in made.spans.tolist() for n in [*range(a, b), *range(c, d)]]
    assert len(used) == len(set(used))
    first, last = corpus.documents[3:5]
    whole = int(corpus.sentences[last] - corpus.sentences[first])
    assert 0.5 * whole < len(used) <= whole


def test_unordered_text_makes_single_segments(corpus):
    made = spread(corpus, 60, ordered=False)
    assert set(made.orders.tolist()) == {NO_ORDER}
    assert not made.spans[:, 2:].any()
    assert made.lengths.max() <= 32


@given(sizes=st.tuples(st.integers(1, 50), st.integers(1, 50)), room=st.integers(2, 60), seed=st.integers(0, 1000))
def test_truncation_takes_from_the_longer_until_both_fit(sizes, room, seed):
    first, second = sizes
    a, b = sequences._truncate((0, first), (first, first + second), room, np.random.default_rng(seed))
    lengths = a[1] - a[0], b[1] - b[0]
    assert 0 <= a[0] <= a[1] <= first <= b[0] <= b[1] <= first + second
    assert sum(lengths) == min(room, first + second)
    if first + second > room and min(first, second) > room // 2:
        assert abs(lengths[0] - lengths[1]) <= 1


def test_a_seed_means_the_same_numbers_for_ever():
    assert {stream.name: stream.value for stream in Stream} == {
        "SEQUENCES": 1, "DISTILLATION": 2, "CHOICE": 3, "MASKS": 4,
    }  # fmt: skip
    drawn = generator(Stream.MASKS, 42, 3, 7).random(4)
    assert drawn.tolist() == np.random.default_rng((42, 3, 7, 4)).random(4).tolist()


def test_an_epoch_is_a_function_of_seed_and_epoch(corpus):
    def epoch(seed, number, weights=(1.0, 1.0)):
        batches = sequences.epoch_batches(
            corpus,
            np.arange(61),
            weights=np.array(weights),
            ordered=np.array([True, False]),
            max_length=32,
            batch_tokens=256,
            seed=seed,
            epoch=number,
        )
        return [(batch.spans.tolist(), batch.orders.tolist()) for batch in batches]

    assert epoch(1, 0) == epoch(1, 0) != epoch(1, 1)
    assert epoch(1, 0) != epoch(2, 0)
    words = set(range(int(corpus.sentences[corpus.documents[60]]), len(corpus.ids)))

    def times(weight):
        return sum(a in words for spans, _ in epoch(1, 0, (1.0, weight)) for a, _, _, _ in spans)

    assert times(0.0) == 0
    assert times(3.0) > 2 * times(1.0) > 0
    for spans, _ in epoch(1, 0):
        longest = max(b - a + d - c + 2 + (d > 0) for a, b, c, d in spans)
        assert longest * len(spans) <= 256


def test_tokens_are_framed_as_the_tokenizer_frames_pairs(corpus, tokenizer):
    made = spread(corpus, 5)
    batch = sequences.tokens(corpus, made, tokenizer)
    for row, (a, b, c, d) in enumerate(made.spans.tolist()):
        ids = [tokenizer.cls_id, *corpus.ids[a:b].tolist(), tokenizer.sep_id]
        types = [0] * len(ids)
        if d:
            ids += [*corpus.ids[c:d].tolist(), tokenizer.sep_id]
            types += [1] * (d - c + 1)
        length = int(batch.attention_mask[row].sum())
        assert (batch.input_ids[row, :length].tolist(), batch.token_type_ids[row, :length].tolist()) == (ids, types)
        assert (batch.input_ids[row, length:] == tokenizer.pad_id).all()


# Masks


def test_a_mask_worked_out_by_hand():
    # Words are (1, 2), (3), (4); the dice permute them to 1, 0, 2 and draw n = 2, 1, 1.
    class Dice:
        def choice(self, count, size, p):
            assert p.tolist() == pytest.approx([6 / 11, 3 / 11, 2 / 11])
            return np.array([1, 0, 0])

        def permutation(self, count):
            return np.array([1, 0, 2])

    begins = np.array([False, True, False, True, True, False])
    special = np.array([True, False, False, False, False, True])
    assert masking.choose(begins, special, 4, Dice()) == [3, 4]  # the n-gram (1, 2, 3) would cover 3 again
    assert masking.choose(begins, special, 3, Dice()) == [1, 2, 3]
    assert masking.choose(begins, special, 1, Dice()) == [3]


@given(data=st.data(), count=st.integers(1, 12), seed=st.integers(0, 10_000))
def test_masks_are_whole_words_within_a_segment(data, count, seed):
    length = data.draw(st.integers(3, 40))
    begins = np.array(data.draw(st.lists(st.booleans(), min_size=length, max_size=length)))
    special = np.zeros(length, bool)
    special[[0, length - 1, length // 2]] = True
    chosen = masking.choose(begins, special, count, np.random.default_rng(seed))
    assert len(chosen) == len(set(chosen)) <= count
    assert not special[chosen].any()
    for place in chosen:  # what goes on a chosen word is chosen, and so is what it goes on
        if place + 1 < length and not special[place + 1] and not begins[place + 1]:
            assert place + 1 in chosen
        if not begins[place] and not special[place - 1]:
            assert place - 1 in chosen


def test_masked_tokens_become_mask_another_or_stay(corpus, tokenizer):
    vocabulary = Vocabulary.of(tokenizer)
    rows = [sequences.tokens(corpus, spread(corpus, number), tokenizer) for number in range(60)]
    seen, kinds, lengths = 0, {"mask": 0, "other": 0, "same": 0}, 0
    for number, batch in enumerate(rows * 3):
        masked = masking.mask(batch, vocabulary, np.random.default_rng(number))
        places = masked.rows, masked.columns
        assert np.array_equal(batch.input_ids[places], masked.labels)
        untouched = np.ones(batch.input_ids.shape, bool)
        untouched[places] = False
        assert np.array_equal(masked.input_ids[untouched], batch.input_ids[untouched])
        now = masked.input_ids[places]
        kinds["mask"] += int((now == tokenizer.mask_id).sum())
        kinds["same"] += int((now == masked.labels).sum())
        kinds["other"] += int(((now != masked.labels) & (now != tokenizer.mask_id)).sum())
        assert not vocabulary.special[now[now != tokenizer.mask_id]].any()
        seen += len(masked.labels)
        lengths += int(batch.attention_mask.sum())
    assert 0.12 < seen / lengths < 0.16
    assert kinds["mask"] / seen == pytest.approx(0.8, abs=0.03)
    assert kinds["other"] / seen == pytest.approx(0.1, abs=0.03)
    assert kinds["same"] / seen == pytest.approx(0.1, abs=0.03)


def test_pieces_that_begin_words(tokenizer):
    vocabulary = Vocabulary.of(tokenizer)
    ids = {tokenizer.segmenter.piece(number): number for number in range(len(tokenizer))}
    assert all(vocabulary.begins[ids[piece]] for piece in ("\u2581", ",", ".", "("))
    assert not vocabulary.begins[ids["s"]]
    assert vocabulary.special.sum() == 4


# Losses


def test_losses_equal_the_reference_graphs(shared_data):
    model = load_model(shared_data / "checkpoints/tf1-google")
    expected = np.load(shared_data / "checkpoints/tf1-google/expected.npz")
    positions = torch.from_numpy(expected["masked_lm_positions"].astype(np.int64))
    rows = torch.arange(len(positions))[:, None].expand_as(positions)
    labels = torch.from_numpy(expected["masked_lm_ids"].astype(np.int64))

    def ints(name):
        return torch.from_numpy(expected[name].astype(np.int64))

    batch = Batch(
        ints("input_ids"),
        ints("token_type_ids"),
        ints("input_mask"),
        torch.stack([rows.flatten(), positions.flatten(), labels.flatten()]),
        ints("sentence_order_labels").flatten(),
    )
    with torch.inference_mode():
        found = Objective(model)(batch)
    assert float(found["mlm"]) / labels.numel() == pytest.approx(float(expected["mlm_loss"]), abs=1e-5)
    assert float(found["sop"]) / len(batch.orders) == pytest.approx(float(expected["sop_loss"]), abs=1e-5)


def test_losses_and_gradients_equal_transformers():
    torch.manual_seed(3)
    config = EncoderConfig(**(SHAPE | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    model = PreTrainingModel(config)
    theirs = transformers.AlbertForPreTraining(
        transformers.AlbertConfig(**(to_hf(config) | {"classifier_dropout_prob": 0.0}))
    )
    names = spec.canonical_names(model.config)
    theirs.load_state_dict({names[name]: item for name, item in model.state_dict().items()}, strict=False)
    ids = torch.randint(5, 100, (4, 20))
    mask = torch.ones_like(ids)
    mask[2, 15:] = 0
    types = (torch.arange(20) > 9).long().expand(4, 20).contiguous()
    places = torch.stack([torch.tensor([0, 0, 1, 2, 3]), torch.tensor([3, 4, 9, 2, 19]), torch.randint(5, 100, (5,))])
    orders = torch.tensor([0, 1, NO_ORDER, 1])
    labels = torch.full_like(ids, -100)
    labels[places[0], places[1]] = places[2]
    found = Objective(model)(Batch(ids, types, mask, places, orders))
    (found["mlm"] / 5 + found["sop"] / 3).backward()
    output = theirs(
        input_ids=ids, attention_mask=mask, token_type_ids=types, labels=labels, sentence_order_label=orders
    )
    output.loss.backward()
    assert (found["mlm"] / 5 + found["sop"] / 3).item() == pytest.approx(output.loss.item(), abs=1e-5)
    gradients = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, gradients[names[name]].grad, atol=1e-5), name
    assert found["sop_right"] == ((output.sop_logits.argmax(-1) == orders) & (orders >= 0)).sum()


def test_the_teachers_loss_worked_out_by_hand():
    ours = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    wanted = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # 1 - cosine: 0 and 0.2; similarities 0 against 0.6 in two of four places.
    assert float(teacher_loss(ours, wanted)) == pytest.approx(0.1 + 5 * 2 * 0.36 / 4)
    model = PreTrainingModel(EncoderConfig(**SHAPE)).eval()
    ids = torch.randint(5, 100, (3, 7))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 7])
    with torch.inference_mode():
        vectors = sentence_vectors(model, ids, mask)
        alone = sentence_vectors(model, ids[1:2, :4], None)
        states = model.encoder(ids[1:2, :4]).sequence_output.mean(1)
    assert torch.allclose(vectors[1:2], alone, atol=1e-6)
    assert torch.allclose(alone, F.normalize(states, dim=-1), atol=1e-6)


# Optimizers


def test_lamb_worked_out_by_hand():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    bias = torch.nn.Parameter(torch.tensor([30.0, 40.0]))
    model = torch.nn.Module()
    model.weight, model.bias = weight, bias
    lamb = optimizers.make("lamb", model, 0.1)
    weight.grad, bias.grad = torch.tensor([[1.0, -1.0]]), torch.tensor([2.0, 0.0])
    lamb.step()
    # First step: 0.1 of the gradient by the root of 0.001 of its square, plus 0.01 of the weight; then as long as it.
    step = 0.1 / (0.001**0.5 + 1e-6)
    update = np.array([step + 0.03, -step + 0.04])
    expected = np.array([3.0, 4.0]) - 0.1 * 5 / np.linalg.norm(update) * update
    assert weight.detach().numpy()[0] == pytest.approx(expected, abs=1e-5)
    assert bias.tolist() == pytest.approx([30 - 0.1 * step, 40], abs=1e-5)  # neither decay nor ratio


def googles_lamb(parameters, gradients, rates):
    """lamb_optimizer.py of google-research/albert, in numpy: (name -> array), a list of such of gradients."""
    moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in parameters.items()}
    for grads, rate in zip(gradients, rates, strict=True):
        for name, value in parameters.items():
            m, v = moments[name]
            m = 0.9 * m + 0.1 * grads[name]
            v = 0.999 * v + 0.001 * grads[name] ** 2
            moments[name] = m, v
            update = m / (np.sqrt(v) + 1e-6)
            ratio = 1.0
            if not any(part in name for part in ("LayerNorm", "layer_norm", "bias")):
                update += 0.01 * value
                norms = np.linalg.norm(value), np.linalg.norm(update)
                ratio = norms[0] / norms[1] if min(norms) > 0 else 1.0
            parameters[name] = value - ratio * rate * update
    return parameters


def test_lamb_is_googles_rule():
    random = np.random.default_rng(3)
    model = PreTrainingModel(EncoderConfig(**SHAPE)).double()
    names = spec.canonical_names(model.config)
    parameters = {names[name]: item for name, item in model.named_parameters()}
    start = {name: item.detach().numpy().copy() for name, item in parameters.items()}
    gradients = [{name: random.normal(size=item.shape) for name, item in start.items()} for _ in range(6)]
    rates = [0.01 * (6 - step) / 6 for step in range(6)]
    lamb = optimizers.make("lamb", model, 0.01)
    for grads, rate in zip(gradients, rates, strict=True):
        for name, item in parameters.items():
            item.grad = torch.from_numpy(grads[name])
        for group in lamb.param_groups:
            group["lr"] = rate
        lamb.step()
    expected = googles_lamb(start, gradients, rates)
    for name, item in parameters.items():
        assert item.detach().numpy() == pytest.approx(expected[name], abs=1e-12), name


@pytest.mark.parametrize(("optimizer", "reached"), [("adamw", 0.377), ("lamb", 0.499)])
def test_a_bias_leaves_zero(optimizer, reached):
    """1,000 steps of at most 0.001 lead a bias to 0.5, or most of the way; scaled by its own norm it stays near 0."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(layer.bias)
    wanted = layer.weight.detach().clone()
    chosen = optimizers.make(optimizer, layer, 1e-3)
    for step in range(1000):
        for group in chosen.param_groups:
            group["lr"] = 1e-3 * (1 - step / 1000)
        inputs = torch.randn(64, 1)
        F.mse_loss(layer(inputs), inputs @ wanted.T + 0.5).backward()
        chosen.step()
        chosen.zero_grad()
    assert layer.bias.item() == pytest.approx(reached, abs=2e-3)


def test_muons_step_is_orthogonal_and_of_adamws_size():
    torch.manual_seed(0)
    for shape in ((8, 8), (8, 32), (32, 8)):
        weight = torch.nn.Parameter(torch.zeros(shape))
        muon = optimizers.Muon([weight], lr=0.01)
        weight.grad = torch.randn(shape)
        muon.step()
        singular = torch.linalg.svdvals(weight.detach()) / (0.01 * 0.2 * max(shape) ** 0.5)
        assert singular.min() > 0.5
        assert singular.max() < 1.3
        gradient = torch.linalg.svd(weight.grad, full_matrices=False)
        assert torch.trace(weight.detach().T @ (gradient.U @ gradient.Vh)) < 0  # downhill


def test_muon_takes_the_layers_matrices_and_its_state_travels():
    torch.manual_seed(0)
    one, other = (PreTrainingModel(EncoderConfig(**SHAPE)) for _ in range(2))
    other.load_state_dict(one.state_dict())
    ours = optimizers.make("muon", one, 0.01)
    muon, _ = ours.parts
    assert {tuple(p.shape) for g in muon.param_groups for p in g["params"]} == {(32, 32), (64, 32), (32, 64)}
    count = sum(len(group["params"]) for group in ours.param_groups)
    assert count == len(list(one.parameters()))
    for parameter in one.parameters():
        parameter.grad = torch.randn_like(parameter)
    ours.step()
    theirs = optimizers.make("muon", other, 0.01)
    with torch.no_grad():
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            b.copy_(a)
            b.grad = a.grad.clone()
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    ours.step()
    theirs.step()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_rate_goes_up_and_down():
    plan = PretrainSettings(corpus=("x",), steps=100, warmup=0.1)
    rates = [plan.rate(step, 0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[9]) == pytest.approx(1.0)
    assert rates[99] == pytest.approx(1 / 90)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert PretrainSettings(corpus=("x",), steps=100, warmup=10).rate(4, 0) == pytest.approx(0.5)
    timed = PretrainSettings(corpus=("x",), minutes=1, warmup=0.1)
    assert timed.rate(5, 3) == pytest.approx(0.5, abs=0.01)
    assert timed.rate(900, 33) == pytest.approx(0.5)
    assert timed.over(1, 60) and not timed.over(10**9, 59)  # noqa: PT018


# Sharing


@pytest.mark.parametrize(
    ("share", "millions", "exact"),
    [
        # The paper's table 4, E = 128, H = 768; the counts below are by formula, without the pre-training heads.
        ("all", 12, 11_683_584),
        ("attention", 64, None),
        ("ffn", 38, None),
        ("none", 89, None),
    ],
)
def test_sharing_variants_count_as_in_the_papers_table(share, millions, exact):
    config = PRESETS["base"].sharing(share)
    with torch.device("meta"):
        model = PreTrainingModel(config, mlm=False, pair=False)
    count = sum(parameter.numel() for parameter in model.parameters())
    H, E, V, I, L = 768, 128, 30000, 3072, 12  # noqa: E741
    attention, ffn = 4 * (H * H + H) + 2 * H, 2 * H * I + I + H + 2 * H
    times = {"all": (1, 1), "attention": (1, L), "ffn": (L, 1), "none": (L, L)}[share]
    rest = (V + 512 + 2) * E + 2 * E + E * H + H + H * H + H
    assert count == times[0] * attention + times[1] * ffn + rest
    assert abs(count / 1e6 - millions) < 1
    assert exact is None or count == exact


# Runs


def test_local_heads_begin_by_looking_at_their_neighbours():
    shape = SHAPE | {"vocab_size": 500, "embedding_size": 128, "hidden_size": 256, "num_attention_heads": 8}
    config = config_from_json(shape | {"max_position_embeddings": 96}, "test", dialect="google")
    torch.manual_seed(0)
    model = PreTrainingModel(config).eval()
    initialize_local_heads(model, 4)
    layer = model.encoder.layers[0]

    @torch.no_grad()
    def attention():
        x = model.encoder.embeddings(torch.randint(5, 500, (20, 96)), None, None)
        x = model.encoder.projection(x)
        query, key = (part(x).unflatten(-1, (8, 32)).transpose(1, 2) for part in (layer.query, layer.key))
        return (query @ key.transpose(2, 3) / 32**0.5).softmax(-1)  # (batch, heads, tokens, tokens)

    places = torch.arange(2, 94)
    among_words = attention()
    for other in (model.encoder.embeddings.words, model.encoder.embeddings.types):
        other.weight.data.zero_()
    alone = attention()
    for head, offset in enumerate([-1, 1, -2, 2]):
        assert (alone[:, head, places].argmax(-1) == places + offset).all()
        assert alone[:, head, places, places + offset].mean() > 0.9
        assert among_words[:, head, places, places + offset].mean() > 1.5 / 96  # words are in the way, not all of it
    assert among_words[:, 4:].max() < 0.1  # the others are as even as ever


def test_faults_of_local_heads_are_reported(texts, tokenizer_files, tmp_path, refused):
    (tmp_path / "spiece.model").write_bytes(tokenizer_files.spiece)

    def start(*arguments):
        return refused("pretrain", "--corpus", texts, "--out", tmp_path / "out", "--steps", 2, *arguments)

    assert start("--local-heads", 2, "--init", "built-in") == (
        "local_heads is how a fresh model begins; leave it out beside --init"
    )
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | {"max_position_embeddings": 128}))
    given = ("--tokenizer", tmp_path / "spiece.model", "--model-config", tmp_path / "config.json")
    assert start(*given, "--local-heads", 3) == "local_heads is 3, but the model has 2 attention heads"
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | {"embedding_size": 4, "max_position_embeddings": 128}))
    assert start(*given, "--local-heads", 2) == (
        "local_heads needs attention heads of 2 dimensions and embeddings of 8, not 16 and 4"
    )


def hashes(folder):
    """What two equal runs have in common, bit for bit."""
    summary = json.loads((folder / "summary.json").read_text())
    log = [{k: v for k, v in record.items() if k != "seconds"} for record in read_log(folder)]
    return summary["last_weights_sha256"], (folder / "model.safetensors").read_bytes(), log


@pytest.mark.drawn
def test_a_run_trains_and_is_a_model_for_everyone(texts, tmp_path):
    out, heard = tmp_path / "run", []
    summary = pretrain(wanted(texts, steps=60, eval_every=30, learning_rate=5e-3), out, report=heard.append)
    log = read_log(out)
    dev = [record for record in log if record["event"] == "dev"]
    assert [record["step"] for record in dev] == [30, 60]
    assert dev[1]["masked_lm_loss"] < dev[0]["masked_lm_loss"] < 4.7  # the logarithm of 100 is 4.6
    assert summary["held_out"].keys() == {
        "masked_lm_accuracy",
        "masked_lm_loss",
        "sentence_order_accuracy",
        "sentence_order_loss",
    }
    assert summary["steps"] == 60
    [by_length] = {record["sentence_order_by_length"] for record in dev}
    assert 0.3 < by_length == summary["sentence_order_by_length"] < 0.9
    assert {path.name for path in out.iterdir()} == {
        "README.md", "config.json", "corpus", "curves.png", "metrics.jsonl", "model.safetensors", "run.toml",
        "spiece.model", "summary.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    model, info = transformers.AlbertForPreTraining.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    checkpoint = convert.load(out)
    assert checkpoint.config.vocab_size == 100
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert model.config.num_hidden_groups == 1
    plan = next(event for event in heard if isinstance(event, PretrainingPlan))
    assert (plan.documents, plan.held_out_documents) == (55, 6)


def test_accuracies_of_sentence_order_stand_beside_what_lengths_give(texts, tmp_path, albert):
    (tmp_path / "config.json").write_text(json.dumps(SHAPE))
    code, out, _ = albert(
        "pretrain", "--corpus", texts, "--model-config", tmp_path / "config.json", "--vocab-size", 100, "--steps", 2,
        "--tokens-per-update", 256, "--max-length", 32, "--hold-out", 10, "--eval-every", 1, "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0
    shown = [line for line in out.splitlines() if "sentence_order_accuracy" in line and line.startswith("step")]
    assert len(shown) == 2
    assert all(re.search(r"sentence_order_accuracy 0\.\d+  sentence_order_by_length 0\.\d+", line) for line in shown)
    assert re.search(r"^sentence_order_by_length +0\.\d{4}$", out, re.MULTILINE)


def test_a_corpus_of_one_sentence_documents_says_that_it_has_no_order_pairs(tmp_path, albert):
    lines = [f"{NAMES[n % 6]} {DEEDS[n // 6 % 6]} at {n} o'clock." for n in range(60)]
    (tmp_path / "single.txt").write_text("\n\n".join(lines))
    (tmp_path / "config.json").write_text(json.dumps(SHAPE))
    code, out, err = albert(
        "pretrain", "--corpus", tmp_path / "single.txt", "--model-config", tmp_path / "config.json", "--vocab-size", 90,
        "--steps", 20, "--tokens-per-update", 256, "--max-length", 32, "--hold-out", 10, "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, err
    assert (
        "albert: note: no document has two sentences that follow on one another, so there are no sentence-order" in err
    )
    assert "sentence_order" not in out
    for record in read_log(tmp_path / "run"):
        assert not [key for key in record if key.startswith("sentence_order")]


def test_the_same_seed_gives_the_same_bits_in_parts_too(texts, tmp_path):
    for name in ("one", "other"):
        pretrain(wanted(texts), tmp_path / name)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "other")
    pretrain(wanted(texts, seed=43), tmp_path / "third")
    assert hashes(tmp_path / "third")[0] != hashes(tmp_path / "one")[0]
    still = {"model_config": SHAPE | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}
    pretrain(wanted(texts, **still), tmp_path / "whole")
    pretrain(wanted(texts, grad_accum=3, **still), tmp_path / "parts")
    whole, parts = (load_model(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert max(float((whole[name] - parts[name]).abs().max()) for name in whole) < 1e-3


def test_an_evaluation_that_is_not_finite_is_an_error_and_saves_nothing(texts, tmp_path):
    message = (
        r"masked_lm_loss became nan on the held-out documents at step 1; what was saved before stays in .*/run; "
        r"lower --lr or lengthen --warmup$"
    )
    with pytest.raises(TrainingError, match=message):
        pretrain(wanted(texts, learning_rate=1e23, steps=1), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("model.safetensors"))


@pytest.mark.parametrize(
    ("optimizer", "precision"), [("adamw", "fp32"), ("lamb", "fp32"), ("muon", "fp32"), ("adamw", "bf16")]
)
def test_a_killed_run_resumes_to_the_same_bits(texts, tmp_path, optimizer, precision):
    class Killed(Exception):
        pass

    given = wanted(texts, optimizer=optimizer, precision=precision)
    pretrain(given, tmp_path / "whole")
    stops = iter([4, 8])

    def stop_at_state(event):
        if isinstance(event, Evaluated) and event.step == next_stop[0]:
            next_stop[0] = next(stops, None)
            raise Killed

    next_stop = [next(stops)]
    for resume in (False, True):
        with pytest.raises(Killed):
            pretrain(given, tmp_path / "cut", resume=resume, report=stop_at_state)
    pretrain(given, tmp_path / "cut", resume=True)
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")


def test_a_run_killed_by_the_system_resumes_to_the_same_bits(texts, tmp_path, albert):
    (tmp_path / "config.json").write_text(json.dumps(SHAPE))
    arguments = [
        "pretrain", "--corpus", str(texts), "--model-config", str(tmp_path / "config.json"), "--vocab-size", "100",
        "--steps", "100", "--eval-every", "10", "--tokens-per-update", "256", "--max-length", "32", "--hold-out", "10",
    ]  # fmt: skip
    code, out, _ = albert(*arguments, "--out", tmp_path / "whole")
    assert code == 0
    assert "step 100  masked_lm_accuracy" in out
    with Program(*arguments, "--out", tmp_path / "cut") as process:
        log = tmp_path / "cut" / "metrics.jsonl"
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b'"dev"') >= 4):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert albert(*arguments, "--out", tmp_path / "cut", "--resume")[0] == 0
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")


@pytest.mark.parametrize("share", ["all", "attention", "ffn", "none"])
def test_every_sharing_variant_trains_and_keeps_sharing(texts, tmp_path, share):
    pretrain(wanted(texts, share=share, steps=8), tmp_path / "run")
    checkpoint = convert.load(tmp_path / "run")
    assert checkpoint.config.share == share
    layers = [
        {
            part: checkpoint.tensors[f"albert.encoder.albert_layer_groups.{group}.albert_layers.0.{part}"].read()
            for part in ("attention.query.weight", "ffn.weight")
        }
        for group in range(checkpoint.config.num_hidden_groups)
    ]
    if share != "all":
        same = {part: np.array_equal(layers[0][part], layers[1][part]) for part in layers[0]}
        assert same == {"attention.query.weight": share == "attention", "ffn.weight": share == "ffn"}
    assert load_model(checkpoint)


def test_training_continues_from_a_model(texts, tmp_path, albert):
    pretrain(wanted(texts), tmp_path / "first")
    given = wanted(texts, model_config={}, vocab_size=None, init=str(tmp_path / "first"), learning_rate=1e-9, steps=2)
    pretrain(given, tmp_path / "second")
    first, second = (load_model(tmp_path / name).state_dict() for name in ("first", "second"))
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-6
    assert (tmp_path / "second/spiece.model").read_bytes() == (tmp_path / "first/spiece.model").read_bytes()
    headless = tmp_path / "headless"
    checkpoint = convert.load(tmp_path / "first")
    tensors = {name: item for name, item in checkpoint.tensors.items() if not name.startswith("sop")}
    convert.save(dataclasses.replace(checkpoint, tensors=tensors), headless)
    told = []
    pretrain(dataclasses.replace(given, init=str(headless)), tmp_path / "third", report=told.append)
    notes = [event.text for event in told if isinstance(event, Note)]
    assert f"{headless} has no sentence-order head (SOP): it starts from random weights" in notes
    first, third = (load_model(tmp_path / name).state_dict() for name in ("first", "third"))
    assert third.keys() == first.keys()
    moved = {name for name in first if float((first[name] - third[name]).abs().max()) > 1e-6}
    assert moved == {"pair.weight", "pair.bias"}


def test_a_resume_refuses_what_has_changed(texts, tmp_path, albert):
    out = tmp_path / "run"
    pretrain(wanted(texts), out)
    assert pretrain(wanted(texts), out, resume=True)["steps"] == 12  # finished: left as it is
    with pytest.raises(RunError, match=r"run: cannot resume: learning_rate was 0.001, now 0.5; restore it"):
        pretrain(wanted(texts, learning_rate=0.5), out, resume=True)
    with pytest.raises(RunError, match="run: holds a run already; --resume continues it, --force replaces it"):
        pretrain(wanted(texts), out)
    other = shutil.copytree(texts, tmp_path / "other")
    with open(other / "stories.txt", "a") as file:
        file.write("More.\n")
    with pytest.raises(RunError, match="the contents of corpus changed"):
        pretrain(wanted(other), out, resume=True)
    pretrain(wanted(texts), out, force=True)
    code, stdout, _ = albert("pretrain", "--out", out, "--resume", "--json")
    assert code == 0
    assert json.loads(stdout)["steps"] == 12


def test_a_loss_that_is_no_number_stops_the_run(texts, tmp_path):
    with pytest.raises(
        TrainingError, match=r"(the loss|the gradient's norm) became (nan|inf) at step \d+; the model of"
    ):
        pretrain(wanted(texts, learning_rate=1e30, steps=50), tmp_path / "run")


def test_a_vocabulary_too_small_or_a_sequence_too_long_is_reported(texts, tmp_path, refused):
    (tmp_path / "config.json").write_text(json.dumps(SHAPE))
    message = refused(
        "pretrain", "--corpus", texts, "--out", texts / "run", "--model-config", tmp_path / "config.json", "--steps", 1,
        "--vocab-size", 100, "--max-length", 65,
    )  # fmt: skip
    assert message == "--max-length is 65, but the model has 64 positions"


# A teacher


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return making.teacher(tmp_path_factory.mktemp("teacher"))


def test_teacher_vectors_do_not_depend_on_their_company(encoder):
    teacher = Teacher(encoder, torch.device("cpu"))
    sentences = ["a door.", "the window was closed at nine, and then again", "tea", ""]
    together = teacher.vectors(sentences)
    alone = np.concatenate([teacher.vectors([sentence]) for sentence in sentences])
    assert np.abs(together - alone).max() < 1e-5
    assert np.linalg.norm(together, axis=1) == pytest.approx([1, 1, 1, 1], abs=1e-5)


def test_axes_keep_cosines():
    vectors = distillation.unit(
        np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32) * [9, 8, 7, 6, 0.01, 0.01]
    )
    axes = distillation.principal_axes(vectors.astype(np.float32), 4)
    assert axes.T @ axes == pytest.approx(np.eye(4), abs=1e-5)
    kept = distillation.unit(vectors @ axes)
    assert np.abs(kept @ kept.T - vectors @ vectors.T).max() < 1e-3
    assert distillation.principal_axes(vectors.astype(np.float32), 8).shape == (6, 8)


def test_a_teachers_vectors_are_learnt_beside_the_words(texts, encoder, tmp_path):
    (tmp_path / "more.txt").write_text("a door.\na window.\n")
    more = {"teacher": str(encoder), "teacher_texts": str(tmp_path / "more.txt"), "teacher_sentences": 100}
    given = wanted(texts, steps=40, eval_every=20, learning_rate=3e-3, teacher_batch=16, **more)
    pretrain(given, tmp_path / "whole")
    losses = [record["teacher_loss"] for record in read_log(tmp_path / "whole") if record["event"] == "train"]
    assert losses[-1] < losses[0]
    parts = [path for path in (tmp_path / "whole/teacher").iterdir() if re.fullmatch("[0-9a-f]+.npy", path.name)]
    assert len(parts) == 1
    before = parts[0].stat().st_mtime_ns

    class Killed(Exception):
        pass

    def report(event):
        if isinstance(event, Evaluated) and event.step == 40:
            raise Killed

    with pytest.raises(Killed):
        pretrain(given, tmp_path / "cut", report=report)
    pretrain(given, tmp_path / "cut", resume=True)
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    pretrain(given, tmp_path / "whole", force=True)
    assert parts[0].stat().st_mtime_ns == before  # computed once


def test_a_teachers_axes_turn_to_what_a_model_knows(corpus, tokenizer, encoder, tmp_path):
    """The principal axes of other sentences point elsewhere, so a model would have had to learn all of it again.

    One directory: what is kept in it for one model is not taken for another.
    """
    torch.manual_seed(3)
    model = PreTrainingModel(EncoderConfig(**SHAPE))
    chosen = distillation.choose_sentences(corpus, np.arange(20), np.ones(1), 60, seed=0)
    misses = {}
    for student in (None, model):
        made, axes = distillation.prepare_distillation(
            Teacher(encoder, torch.device("cpu")), corpus, chosen, None, tokenizer, SHAPE["hidden_size"],
            tmp_path / "teacher", student=student,
        )  # fmt: skip
        ids, mask = map(torch.from_numpy, made.inputs(np.arange(len(made)), tokenizer.pad_id))
        with torch.inference_mode():
            learnt = sentence_vectors(model.eval(), ids, mask).numpy()
        vectors = made.vectors.astype(np.float32)
        best = vectors @ distillation.rotation_towards(vectors, learnt)
        misses[student is None] = float(((best - vectors) * learnt).sum(1).mean())
        assert axes @ axes.T == pytest.approx(np.eye(len(axes)), abs=1e-4)
    assert misses[False] == pytest.approx(0, abs=1e-3)
    assert misses[True] > 0.1


def test_a_rotation_is_found():
    random = np.random.default_rng(1)
    vectors = distillation.unit(random.normal(size=(50, 4)).astype(np.float32))
    rotation = np.linalg.qr(random.normal(size=(4, 4)))[0].astype(np.float32)
    assert distillation.rotation_towards(vectors, vectors @ rotation) == pytest.approx(rotation, abs=1e-5)


def test_heads_of_a_teacher_are_passed_over_without_a_word(encoder, tmp_path, capfd):
    config = transformers.BertConfig.from_pretrained(encoder)
    shutil.copytree(encoder, tmp_path / "heads")
    transformers.BertForPreTraining(config).save_pretrained(tmp_path / "heads")
    capfd.readouterr()
    teacher = Teacher(tmp_path / "heads", torch.device("cpu"))
    assert teacher.vectors(["a door."]).shape == (1, 24)
    assert capfd.readouterr() == ("", "")


def test_a_teacher_that_lacks_weights_is_reported(encoder, tmp_path):
    shutil.copytree(encoder, tmp_path / "part")
    weights = load_file(encoder / "model.safetensors")
    lost = ["embeddings.LayerNorm.bias", "encoder.layer.0.output.dense.weight"]
    kept = {name: tensor for name, tensor in weights.items() if name not in [*lost, "pooler.dense.bias"]}
    save_file(kept, tmp_path / "part/model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match=rf"part: lacks weights of its encoder \({lost[0]}, {lost[1]}\)$"):
        Teacher(tmp_path / "part", torch.device("cpu"))


def test_what_is_no_teacher_is_reported(texts, tmp_path):
    with pytest.raises(TrainingError, match=r"nothing: no Hugging Face encoder to learn from"):
        pretrain(wanted(texts, teacher=str(tmp_path / "nothing")), tmp_path / "run")


@settings(max_examples=30)
@given(rows=st.integers(1, 40), size=st.integers(1, 16), skip=st.integers(0, 9))
def test_sentences_come_in_the_same_order_wherever_they_start(rows, size, skip):
    starts = np.concatenate([[0], np.cumsum(np.arange(rows) % 7 + 3)])
    made = distillation.DistillationSet(np.arange(starts[-1]), starts, np.zeros((rows, 4), np.float16))
    whole = made.batches(size, seed=1)
    first = [next(whole).tolist() for _ in range(skip + 40)]
    later = made.batches(size, seed=1, skip=skip)
    assert [next(later).tolist() for _ in range(12)] == first[skip : skip + 12]
    each = -(-rows // size)
    assert sorted(row for batch in first[:each] for row in batch) == list(range(rows))
