"""The normalisation table of a SentencePiece model: a double-array trie over characters, and the texts it leads to.

SentencePiece and `tokenizers` follow its offsets without looking where they lead, so a damaged table ends the process.
Layout: sentencepiece's normalizer.cc (DecodePrecompiledCharsMap), darts-clone's DoubleArrayUnit.
"""

from __future__ import annotations

_UNIT_BYTES = 4
_TO_THE_END = 255  # a unit's children lie within 256 places


def charsmap_fault(charsmap: bytes) -> str | None:
    """Why a table cannot be followed safely; None for a sound one, and for an empty one, which changes nothing."""
    import numpy as np

    if not charsmap:
        return None
    size = int.from_bytes(charsmap[:_UNIT_BYTES], "little")
    texts = charsmap[_UNIT_BYTES + size :]
    if len(charsmap) < _UNIT_BYTES or size % _UNIT_BYTES or not 0 < size <= len(charsmap) - _UNIT_BYTES:
        return f"its trie has {size} bytes, the whole table {len(charsmap)}"
    if not texts.endswith(b"\0"):
        return "its texts have no end"
    try:
        texts.decode("utf-8")
    except UnicodeDecodeError:
        return "its texts are not UTF-8"
    units = np.frombuffer(charsmap, "<u4", size // _UNIT_BYTES, _UNIT_BYTES).astype(np.int64)
    leaves = units >> 31 == 1
    offsets = (units >> 10) << ((units & 512) >> 6)
    children = np.arange(len(units)) ^ offsets
    if ((children | _TO_THE_END) >= len(units))[~leaves].any():
        return "its trie leads out of the table"
    if ((units[leaves] & 0x7FFFFFFF) >= len(texts)).any():
        return "its trie leads beyond its texts"
    return None
