"""Training texts of the built-in model: what is like a held-out text is left out, and nothing else."""

from collections import Counter

import numpy as np
import pytest
from scipy.sparse import csr_array

from albert_cli.builtin.build import PLAIN
from albert_cli.builtin.cleaning import HeldOut, cleaned, words
from albert_cli.builtin.held_out import EVERY, SIX, held_out_texts, shown, sts_dev, sts_part
from albert_cli.builtin.plain_sentences import plain_sentences


def jaccard(firsts, seconds):
    """The greatest index of each of the first texts with any of the second ones, by multiplying all with all."""
    sets = [set(words(text)) for text in [*firsts, *seconds]]
    numbers = {word: number for number, word in enumerate(sorted(set().union(*sets)))}
    columns = [numbers[word] for parts in sets for word in sorted(parts)]
    starts = np.cumsum([0, *map(len, sets)])
    matrix = csr_array((np.ones(len(columns), np.int32), columns, starts), shape=(len(sets), len(numbers)))
    sizes = np.diff(starts)
    found = []
    for start in range(0, len(firsts), 2000):
        rows = slice(start, min(start + 2000, len(firsts)))
        shared = (matrix[rows] @ matrix[len(firsts) :].T).toarray()
        found.append((shared / np.maximum(1, sizes[rows, None] + sizes[len(firsts) :] - shared)).max(1))
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("How old are you?", "same"),
        ("  how OLD\tare  you ", "same"),
        ("“How old are you?”", "same"),
        ("Hów old are yoú…", "same"),
        ("how-old-are-you", "same"),
        ("How old are you now?", "near"),  # 4 of 5 words
        ("You are how old?", "near"),
        ("How old are you, you old fool, are you?", "near"),  # a set of 5 words
        ("Pray, my dear aunt, how old are you?", "quotes"),
        ("How old are your children?", None),
        ("Showhold are you", None),
        ("How are you?", None),
        ("My phone is not so very good.", None),  # 5 of 7
        ("My phone is very not good.", "near"),  # 5 of 6
        ("A cafe", "same"),  # shorter than what counts as quoted
        ("He sat in a café.", None),
        ("You dont like it", "same"),
        ("You don\u2019t like it", "same"),
        ("The U.S. is big.", "same"),
        ("...", None),
        ("", None),
        ("She went to the market.", "near"),  # what a mask may stand for
        ("She went to the market with all her sisters.", None),
        ("A first one of two sentences.", "same"),
        ("Said he: a first one of two sentences!", "quotes"),
        ("And so on.", None),  # a short sentence of a longer text
    ],
)
def test_what_is_like_a_held_out_text(text, like):
    texts = [
        *SIX, "A café!", "You don't like it.", "The US is big", "She went to the [MASK].",
        "A first one of two sentences. And so on.", "...", "",
    ]  # fmt: skip
    assert HeldOut(texts).likeness(text) == like


def test_the_index_finds_what_comparing_all_with_all_finds():
    random = np.random.default_rng(7)
    draw = [" ".join(random.choice(list("abcdefghijkl"), size=random.integers(1, 12))) for _ in range(3000)]
    texts, held = draw[:2700], draw[2700:]
    index = HeldOut(held)
    same = {"".join(words(text)) for text in held}
    quoted = [f" {text} " for text in held if len(text.split()) >= 4]
    counts = Counter()
    for text, nearest in zip(texts, jaccard(texts, held), strict=True):
        if "".join(words(text)) in same:
            like = "same"
        elif nearest >= 0.8 - 1e-9:
            like = "near"
        else:
            like = "quotes" if any(part in f" {text} " for part in quoted) else None
        assert index.likeness(text) == like, text
        counts[like] += 1
    assert min(counts[like] for like in ("same", "near", "quotes", None)) >= 5


def test_sentences_are_left_out_and_counted_and_documents_stay():
    lines = [
        "He sat down. “How old are you?” She did not say.",
        "What is your age?",
        "",
        "Nothing  to   leave out here. Nor here.",
        "It was late. My phone",
        "Two of a kind. They go together here.",
    ]
    held_out, removed = HeldOut([*SIX, "of a kind they go"]), Counter()
    assert list(cleaned(lines, held_out, removed)) == [
        "He sat down. She did not say.",
        "",
        "Nothing  to   leave out here. Nor here.",
        "It was late. My phone",
    ]
    assert removed == {"same": 2, "quotes": 2}


def test_the_pages_texts_are_found():
    texts = set(shown())
    for text in (
        "He drank a cup of [MASK].", "He drank a cup of wine.", "I like my phone", "How old are you?",
        "The café sold 9,000 books.", "Recently a lot of hurricanes have hit the US", "What phone do you have?",
        "Bees live together in a hive.", "A brilliant script, played with charm and wit.",
    ):  # fmt: skip
        assert text in texts
    held_out = HeldOut(texts)
    assert all(held_out.likeness(text) for text in SIX)


def test_no_plain_sentence_is_like_one_of_the_six():
    made = [text for plain in PLAIN for text in plain_sentences(plain.sentences, seed=plain.seed)]
    six = HeldOut(SIX)
    assert [text for text in made if six.likeness(text)] == []
    assert jaccard(made, list(SIX)).max() < 0.8


def test_sentences_that_are_refused_are_replaced():
    every, kept = list(plain_sentences(300)), list(plain_sentences(200, refused=lambda text: "red" in text))
    assert len(kept) == 200
    assert kept == [text for text in every if "red" not in text][:200]


@pytest.mark.parametrize("plain", PLAIN, ids=lambda plain: plain.file)
def test_no_plain_sentence_is_one_that_figures_are_measured_on(shared_data, plain):
    folder = shared_data / "glue/STS-B"
    lists = held_out_texts(folder)
    texts = [text for found in lists.values() for text in found]
    held_out = HeldOut(texts)
    made = list(plain_sentences(plain.sentences, seed=plain.seed, refused=held_out.likeness))
    assert len(set(made)) == plain.sentences
    keys = {"".join(words(text)) for text in texts}
    assert [text for text in made if "".join(words(text)) in keys] == []
    assert jaccard(made, [text for text in texts if len(words(text)) > 2]).max() < 0.8


def test_the_second_held_out_set_is_every_fourth_row_of_stsb_train(shared_data):
    folder = shared_data / "glue/STS-B"
    rows = [line.split("\t") for line in (folder / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    part = sts_part(folder)
    assert (EVERY, len(part.scores)) == (4, 1437)
    assert (part.firsts[0], part.scores[-1]) == (rows[3][7], float(rows[len(rows) // 4 * 4 - 1][9]))
    assert {rows[row][1] for row in range(3, len(rows), 4)} == {"main-captions", "main-forum", "main-news"}
    assert (len(sts_dev(folder).scores), len(sts_dev(folder).texts)) == (1500, 3000)


def test_a_file_that_is_not_of_stsb_is_named(tmp_path):
    (tmp_path / "dev.tsv").write_text("index\tsentence\tlabel\n0\ta\t1\n")
    with pytest.raises(Exception, match=r"dev.tsv: no rows with sentence1 and sentence2; wanted is a file of GLUE"):
        sts_dev(tmp_path)
