"""Whether the text for a WordPiece list is lower-cased, where no file beside the list says so.

Google's configs and SpanBERT's archives do not, and a cased model whose text is lower-cased is worse without an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converters.family import Casing

KEY = "do_lower_case"
_SAYS = re.compile(r"(un)?cased", re.IGNORECASE)
# google-research/bert, tokenization.py, validate_case_matches_checkpoint: lower-cased models that are not called so.
_LOWER_CASED = re.compile(r"(chinese|multilingual)_L-\d+_H-\d+", re.IGNORECASE)
_CAPITAL = re.compile(rb"[A-Z]")
_BRACKETED = re.compile(rb"\[[^\]\n]*\]")
_CLEARLY = 0.1  # of the English cased list 28 %


def inferred(
    where: str, wordpiece: bytes, settings: Mapping[str, Any], usually: Casing
) -> tuple[dict[str, Any], list[str]]:
    """The settings with `do_lower_case`, and a note if that is inferred: from the name of `where`, else the list.

    Of models that are lower-cased or mostly so (a list alone may be an ALBERT's), nothing is inferred but clearly
    cased ones of the latter.
    """
    if KEY in settings or usually == "lower":
        return dict(settings), []
    either = usually == "either"
    lower, why = _by_name(Path(os.path.abspath(where)).name) or _by_list(wordpiece, 0 if either else _CLEARLY)
    if lower and not either:
        return dict(settings), []
    verb = "is" if lower else "is not"
    note = (
        f"{where}: no file says whether text is lower-cased; it {verb}, as {why}: if that is wrong, "
        f'write {{"{KEY}": {"false" if lower else "true"}}} into a tokenizer_config.json beside it'
    )
    return {**settings, KEY: lower}, [note]


def _by_name(name: str) -> tuple[bool, str] | None:
    said = {match[1] is not None for match in _SAYS.finditer(name)}
    if len(said) == 1:
        (lower,) = said
        return lower, f"the name says {'un' * lower}cased"
    if not said and _LOWER_CASED.match(name):
        return True, "Google's model of this name is"
    return None


def _by_list(wordpiece: bytes, most: float) -> tuple[bool, str]:
    """By the share of tokens with capital letters, but for those in brackets, such as [CLS]."""
    capital = [bool(_CAPITAL.search(token)) for token in _BRACKETED.sub(b"", wordpiece).splitlines()]
    if sum(capital) > most * len(capital):
        return False, "its vocabulary has capital letters"
    return True, "its vocabulary has no capital letters"
