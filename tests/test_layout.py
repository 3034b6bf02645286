"""Tables within the width of a terminal: nothing that is read or copied is broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_cli.layout import cropped, lines, width_of

URL = "https://storage.googleapis.com/albert_models/albert_xxlarge_v1.tar.gz"
NAME = "encoder.albert_layer_groups.0.albert_layers.0.attention.dense.weight"


def flat(blocks):
    return [line for block in blocks for line in block]


def test_what_fits_is_in_columns():
    shown = lines([("a", "1", "one"), ("bb", "22", "two")], ("", "n", "what"), right=(1,), width=40)
    assert flat(shown) == ["     n  what", "a    1  one", "bb  22  two"]


def test_prose_is_wrapped_between_words_in_its_column():
    shown = lines([("note", "one two three four five six seven")], width=24)
    assert shown == [["note  one two three four", "      five six seven"]]


def test_a_long_word_stands_whole_below_its_row():
    rows = [("albert_base_v1.tar.gz", "English", "11,683,584", "47", URL)]
    shown = lines(rows, ("name", "language", "parameters", "MB", "from"), right=(2, 3), width=80)
    assert shown[0][-1] == "    from"
    assert shown[1] == ["albert_base_v1.tar.gz  English   11,683,584  47", f"    {URL}"]


def test_as_many_columns_as_fit_stand_in_the_first_line():
    [block] = lines([(NAME, "[144, 576]", "float32", "0123456789abcdef")], width=80)
    assert block == [f"{NAME}  [144, 576]", "    float32  0123456789abcdef"]


def test_wide_characters_take_two_columns():
    assert width_of("a中é") == 4
    assert width_of("e\u0301") == 1
    shown = flat(lines([("中文", "x"), ("a", "y")], width=20))
    assert shown == ["中文  x", "a     y"]
    assert cropped("中文字", 5) == "中文…"
    assert cropped("as it is", 8) == "as it is"


@pytest.mark.parametrize("rows", [[], [("one",)], [("",)], [("", "")]])
def test_small_tables(rows):
    assert len(lines(rows, width=10)) == len(rows)


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(st.text("ab 1.", max_size=12), min_size=n, max_size=n), min_size=1, max_size=4)
    ),
    st.integers(8, 60),
)
def test_no_word_is_ever_lost_or_broken(rows, width):
    for row, block in zip(rows, lines(rows, width=width), strict=True):
        shown = " ".join(block).split()
        assert sorted(shown) == sorted(" ".join(row).split())
