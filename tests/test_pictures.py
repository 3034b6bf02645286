"""Pictures with texts in a script that matplotlib's own font lacks."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.image import imread

from albert_cli.embedding.heat_map import draw
from albert_cli.errors import Notice

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


def test_a_character_that_no_font_has_is_told(fonts, tmp_path):
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


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_font_of_the_system_is_used(chinese, tmp_path, monkeypatch, ending):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *rest, **more: drawn.append(self) or save(self, *rest, **more))
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
