"""What the contents of a small file may become in memory: budgets that all readers share.

A file's size says little of that: a byte of JSON, of a protocol buffer or of a compressed block can stand for a
hundred. Each budget is far above any model's file.
"""

from __future__ import annotations

# Values, keys and lists of a JSON document; a tokenizer of 250,000 pieces has a million and a half.
JSON_VALUES = 2**22
# Pieces of a vocabulary.
PIECES = 500_000
# Variables of a checkpoint of TensorFlow, and bytes of its index, unpacked: names, shapes and places.
VARIABLES = 2**17
INDEX_BYTES = 64 * 2**20
# Layers, counted as often as they are applied.
LAYERS = 4096
# Characters of a table that is held in memory: so many, and so many for each byte of its file, which may be packed.
TABLE_BYTES, TABLE_EXPANSION = 64 * 2**20, 100
# Bytes of the header of a safetensors file: names, shapes and places of tensors.
HEADER_BYTES = 16 * 2**20
# Bytes of a TOML file, which holds settings.
TOML_BYTES = 2**20


def json_fault(text: bytes) -> str | None:
    """Why a JSON document is not to be decoded; None where it may be. Commas and brackets in texts count, too."""
    values = sum(text.count(mark) for mark in (b",", b":", b"[", b"{"))
    return f"it holds more than {JSON_VALUES} values, which no model's does" if values > JSON_VALUES else None
