"""Lists and objects that stand as JSON in a cell of a table, or in a file of their own."""

from __future__ import annotations

import json
from typing import Any

from albert_cli.tokenization.preparation import encodable
from converters.limits import json_fault

TOO_DEEP = "its lists or objects are nested too deep"


def parsed(text: str | bytes) -> Any:
    """The value that JSON stands for, its texts cleaned; ValueError, in words, where it is none or holds too much."""
    if crowded := json_fault(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text):
        raise ValueError(crowded)
    try:
        return cleaned(json.loads(text))
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def cleaned(value: Any) -> Any:
    """The same value with U+FFFD in every text and key for half of a UTF-16 pair, which JSON can hold and a file not.

    The length of a text stays what it was. RecursionError where the value is nested too deep.
    """
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {encodable(key): cleaned(item) for key, item in value.items()}
    return value
