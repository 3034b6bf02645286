"""Every key and file that a model directory may hold, and what is done with it: the source of docs/formats.md's table.

`transformers` and `sentence-transformers` write many settings beside the weights. A setting that changes ids, vectors
or probabilities is honoured or refused, never ignored; a key that is not listed here makes a test fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from converters.messages import brief

Treatment = Literal["honoured", "no effect", "refused"]


@dataclass(frozen=True)
class Key:
    """`key` is a dotted path in the JSON of `file`, or empty for the whole file; `note` says what is done with it.

    `harmless` are the values of a refused key that change nothing and are accepted.
    """

    file: str
    key: str
    treatment: Treatment
    note: str
    harmless: tuple[Any, ...] = ()


def refusals(settings: Mapping[str, Any], keys: Iterable[Key], file: str) -> list[str]:
    """What of a file's settings is refused, in the order of `keys`: `key is value: note`."""
    return [
        f"{key.key} is {brief(settings[key.key])}: {key.note}"
        for key in keys
        if key.file == file
        and key.treatment == "refused"
        and key.key in settings
        and settings[key.key] not in key.harmless
    ]


def unknown(settings: Iterable[str], keys: Iterable[Key], file: str) -> list[str]:
    """The settings of a file that nothing is known of."""
    known = {key.key for key in keys if key.file == file}
    return [name for name in settings if name not in known]
