"""Pictures that hold texts of users: kinds of files, fonts for every script, the same bytes each time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from albert_cli.errors import Notice
from converters.messages import visible
from converters.staging import atomic_write, check_target

_KINDS = (".png", ".svg", ".pdf")
# Fonts so named hold the most characters, so they are looked into first.
_LARGE = ("CJK", "Noto Sans", "WenQuanYi", "Fallback", "Unicode", "PingFang", "YaHei", "SimHei", "Hiragino", "Unifont")
_SHOWN = 5


def check(target: Path, error: type[Exception], *, force: bool, sources: Sequence[Path] = ()) -> None:
    """Refuse a file that cannot be drawn, or is one of `sources`, before any work is done (`error`, TargetError)."""
    if target.suffix.lower() not in _KINDS:
        raise error(f"{target}: a picture is a .png, .svg or .pdf file")
    check_target(target, force=force, sources=sources, ours=None)


def plain(text: str) -> str:
    """The text as a label: a dollar sign would begin a formula, and SVG has no controls."""
    return visible(text).replace("$", r"\$")


def save(figure: Figure, target: Path, *, force: bool, dpi: int = 150) -> None:
    """Write the figure, its kind by the name of the file; without a date, so that the same figure gives the same bytes.

    Characters that matplotlib's own font lacks are drawn with a font of the system that has them; where there is none
    they become boxes, and a Notice lists them.
    """
    missing = _with_fonts(figure)
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        warnings.warn(
            f"{target}: no font of this system has {' '.join(missing[:_SHOWN])}{more}, so boxes stand in the picture; "
            "install a font that has them, such as Noto Sans CJK for Chinese",
            Notice,
            stacklevel=2,
        )
    kind = target.suffix.lower().removeprefix(".")
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with atomic_write(target, force=force, ours=None) as built, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(built, format=kind, dpi=dpi, metadata=metadata)


def _with_fonts(figure: Figure) -> list[str]:
    """Give the texts of a figure the fonts that they need; the characters that none has."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    needed = {char for text in texts for char in text.get_text() if char.isprintable()}
    usual = font_manager.FontProperties()
    missing = _without(font_manager.findfont(usual), needed)
    families = []
    for family, path in _fonts() if missing else ():
        left = _without(path, missing)
        if left != missing:
            families.append(family)
            missing = left
        if not missing:
            break
    if families:
        for text in texts:
            text.set_fontfamily([*usual.get_family(), *families])
    return sorted(missing)


def _without(path: str, chars: set[str]) -> set[str]:
    """Those of the characters that a font does not hold."""
    known = font_manager.get_font(path).get_charmap()
    return {char for char in chars if ord(char) not in known}


def _fonts() -> Iterator[tuple[str, str]]:
    """Family and file of the system's upright fonts of usual weight, the largest first; not the one of mere boxes."""
    found = {
        font.name: font.fname
        for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname), reverse=True)
        if font.style == "normal" and font.weight in (400, "normal", "regular") and "Last Resort" not in font.name
    }
    yield from sorted(found.items(), key=lambda item: (not any(name in item[0] for name in _LARGE), item))
