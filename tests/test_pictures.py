"""Pictures: texts in a script that matplotlib's own font lacks, legends, and nothing cut at the edges."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.image import imread

from albert_cli.embedding.heat_map import draw
from albert_cli.errors import Notice
from albert_cli.pretraining.figures import curves
from albert_cli.scoring import bars
from albert_cli.scoring.pseudo_likelihood import TextScore

TABLE = np.eye(2, dtype=np.float32)


@pytest.fixture
def fonts(monkeypatch):
    """The fonts of a system that has none but matplotlib's own."""
    own = [font for font in font_manager.fontManager.ttflist if "matplotlib" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    return own


@pytest.fixture
def chinese(fonts, tmp_path):
    """A font with one character, a black square."""
    pen = TTGlyphPen(None)
    for number, point in enumerate([(0, 0), (0, 900), (900, 900), (900, 0)]):
        (pen.lineTo if number else pen.moveTo)(point)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "middle"])
    font.setupCharacterMap({ord("中"): "middle"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "middle": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "middle": (1000, 0)})
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "squares.ttf")
    font_manager.fontManager.addfont(tmp_path / "squares.ttf")
    return "Squares"


def test_a_character_that_no_font_has_is_reported(fonts, tmp_path):
    target = tmp_path / "heat.png"
    with pytest.warns(Notice) as told:
        draw(TABLE, ["中文", "b"], ["c", "国"], target)
    [message] = [str(one.message) for one in told]
    assert message == (
        f"{target}: no font of this system has 中 国 文, so boxes stand in the picture; install a font that has them, "
        "such as Noto Sans CJK for Chinese"
    )
    assert imread(target).shape[2] == 4


def test_many_such_characters_are_counted(fonts, tmp_path):
    with pytest.warns(Notice) as told:
        draw(TABLE, ["一七万三上", "下不"], ["c", "d"], tmp_path / "heat.svg")
    assert [" has 一 七 万 三 上 and 2 more, so boxes" in str(one.message) for one in told] == [True]
    assert (tmp_path / "heat.svg").read_text().lstrip().startswith("<?xml")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *rest, **more: figures.append(self) or save(self, *rest, **more)
    )
    return figures


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_font_of_the_system_is_used(chinese, tmp_path, drawn, ending):
    draw(TABLE, ["中", "b"], ["c", "d"], tmp_path / f"heat.{ending}")  # a warning would be an error
    [label, _] = drawn[0].axes[0].get_yticklabels()
    assert label.get_fontfamily() == ["sans-serif", chinese]


def test_the_command_says_it_in_one_line(fonts, letter_model, tmp_path, albert):
    for command in (["similarity", "中", "b"], ["score", "中"]):
        target = tmp_path / f"{command[0]}.png"
        code, _, err = albert(*command, "--model", letter_model, "--plot", target)
        assert code == 0
        assert err.startswith(f"albert: {target}: no font of this system has 中, so boxes stand in the picture")
        assert err.count("\n") == 1
        assert target.exists()


def scored(*pieces, likely=False):
    """A text whose first piece is the least likely, or one of pieces that the model would all choose itself."""
    logs = np.array([-1.0 if likely else -9.0 + place / 10 for place in range(len(pieces))], np.float32)
    ranks = np.full(len(pieces), 1 if likely else 7)
    spans = [(place, place + 1) for place in range(len(pieces))]
    return TextScore("", list(range(len(pieces))), list(pieces), spans, logs, ranks, ranks, logs / 2)


def assert_whole(figure):
    """Everything in a figure lies within its edges (a pixel of rounding aside)."""
    inches, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    edges = (inches.x0, inches.y0, width - inches.x1, height - inches.y1)
    assert min(edges) > -1.5 / figure.dpi, edges


USUAL, ODD, CHOICE = "the token of the text", "odd: the least likely", "the model's first choice"


@pytest.mark.parametrize(
    ("texts", "odd", "names"),
    [
        ([scored("hi")], 1, [USUAL, ODD, CHOICE]),
        ([scored("hi", ".")], 0, [USUAL, CHOICE]),
        ([scored("hi", likely=True)], 1, [USUAL, CHOICE]),
        ([scored(), scored(*["▁incomprehensibilities"] * 30), scored("a", "b")], 2, [USUAL, ODD, CHOICE]),
    ],
)
def test_bars_have_a_legend_of_what_they_show(drawn, tmp_path, texts, odd, names):
    bars.draw(texts, tmp_path / "bars.png", odd=odd)
    [legend] = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == names
    assert_whole(drawn[0])


LONG = "My phone is not good, and this is a sentence that goes on until nobody cares any more about what it says."


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 2), (2, 1), (6, 6), (2, 40), (40, 2)])
def test_a_heat_map_is_whole(drawn, tmp_path, rows, columns):
    table = np.linspace(-0.2, 1, rows * columns, dtype=np.float32).reshape(rows, columns)
    draw(table, [LONG] * rows, ["$5 & <b>", LONG][-columns:] * (columns // 2 or 1), tmp_path / "heat.png")
    assert_whole(drawn[0])


@pytest.mark.parametrize("evaluations", [1, 4])
def test_the_curves_of_pretraining_are_whole_and_named(drawn, tmp_path, evaluations):
    heads = {
        "masked_lm_loss": 6.5,
        "masked_lm_accuracy": 0.99,
        "sentence_order_loss": 0.7,
        "sentence_order_accuracy": 0.5,
    }
    records = [{"event": "train", "step": step, "learning_rate": 1e-3, **heads} for step in range(1, 9)]
    by_length = {"sentence_order_by_length": 0.61}
    records += [{"event": "dev", "step": 2 * number + 2, **heads, **by_length} for number in range(evaluations)]
    curves(records, tmp_path / "curves.png")
    assert_whole(drawn[0])
    for axes in drawn[0].axes[:2]:
        names = [text.get_text() for text in axes.get_legend().get_texts()]
        assert {"masked words, train", "masked words, held out", "sentence order, held out"} <= set(names)
