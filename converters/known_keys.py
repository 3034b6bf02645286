"""Every key and file that a model directory may hold, and what is done with it: the source of docs/formats.md's table.

`transformers` and `sentence-transformers` write many settings beside the weights. A setting that changes ids, vectors
or probabilities is honoured or refused, never ignored; a key that is not listed here makes a test fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Treatment = Literal["honoured", "no effect", "refused"]


@dataclass(frozen=True)
class Key:
    """`key` is a dotted path in the JSON of `file`, or empty for the whole file; `note` says what is done with it."""

    file: str
    key: str
    treatment: Treatment
    note: str
