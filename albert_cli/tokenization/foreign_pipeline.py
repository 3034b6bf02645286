"""A `tokenizer.json` that is taken as it is: what would end the process is looked for before the library has it.

The `tokenizers` library trusts such a file: a damaged table, a length of zero or texts that grow at each step are a
panic of Rust's, or an abort, where a message is wanted.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from converters.config import dump_json, parse_json
from converters.errors import CorruptError
from converters.tokenizers.charsmap import charsmap_fault

# How many times its length a text may get; accents taken apart make three of one.
_MOST_GROWTH = 1000


def checked(pipeline: bytes, where: str) -> str:
    """The file without its padding and truncation, which are not wanted here; CorruptError for what is not safe."""
    data = parse_json(pipeline, where)
    if not isinstance(data, dict):
        raise _unsound(where, "it is no JSON object")
    growth = 1.0
    for part in _objects(data):
        kind = part.get("type")
        if kind == "Replace":
            growth *= _growth(part)
        elif kind == "Precompiled" and (fault := _charsmap_fault(part)):
            raise _unsound(where, f"its table of characters: {fault}")
        elif kind == "FixedLength" and not _is_positive(part.get("length")):
            raise _unsound(where, "it cuts texts into pieces of no length")
    if growth > _MOST_GROWTH:
        raise _unsound(where, f"its replacements make texts more than {_MOST_GROWTH} times as long")
    return dump_json(data | {"padding": None, "truncation": None}).decode()


@contextlib.contextmanager
def native_errors(where: str) -> Iterator[None]:
    """Turn whatever the library raises into a CorruptError; what a panic prints on stderr is not shown.

    A panic is a BaseException of a class that cannot be imported.
    """
    with tempfile.TemporaryFile() as aside:
        stderr = os.dup(2)
        os.dup2(aside.fileno(), 2)
        fault: BaseException | None = None
        try:
            yield
        except Exception as error:
            fault = error
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            fault = error
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            if fault is None:
                aside.seek(0)
                os.write(2, aside.read())
    if fault is not None:
        raise _unsound(where, str(fault).splitlines()[0] if str(fault) else type(fault).__name__) from None


def _unsound(where: str, why: str) -> CorruptError:
    return CorruptError(where, f"not a tokenizer.json that the tokenizers library reads ({why})")


def _objects(data: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [data]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _growth(part: Mapping[str, Any]) -> float:
    """How many times as long one replacement can make a text."""
    content, pattern = part.get("content"), part.get("pattern")
    fixed = pattern.get("String") if isinstance(pattern, dict) else None
    if not isinstance(content, str):
        return 1.0
    return max(1.0, len(content) / len(fixed) if isinstance(fixed, str) and fixed else len(content) + 1)


def _charsmap_fault(part: Mapping[str, Any]) -> str | None:
    try:
        table = base64.b64decode(str(part.get("precompiled_charsmap")), validate=True)
    except (binascii.Error, ValueError):
        return "it is no base64"
    return charsmap_fault(table) if table else "it is empty"


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
