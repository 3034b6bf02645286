"""What one can do with an ALBERT or a relative of it: the `albert` command and the library under it.

    from albert_cli import Embedder
    vectors = Embedder.from_pretrained("built-in").embed(["How old are you?", "what is your age?"])

The names below are the library; nothing of them is imported before it is used. docs/python.md shows each. What else is
in this package may change from one version to the next.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from albert_cli.embedding.embedder import Embedder
    from albert_cli.library import convert, fill_mask, finetune, load, load_model, load_run, predict, similarity
    from albert_cli.tokenization.tokenizer import Tokenizer
    from converters.checkpoint import Checkpoint
    from converters.errors import AlbertError

__version__ = "0.1.0"
__all__ = [
    "AlbertError",
    "Checkpoint",
    "Embedder",
    "Tokenizer",
    "convert",
    "fill_mask",
    "finetune",
    "load",
    "load_model",
    "load_run",
    "predict",
    "similarity",
]

_HOMES = {
    "AlbertError": "converters.errors",
    "Checkpoint": "converters.checkpoint",
    "Embedder": "albert_cli.embedding.embedder",
    "Tokenizer": "albert_cli.tokenization.tokenizer",
}


def __getattr__(name: str) -> Any:
    """A name of the library, imported when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "albert_cli.library")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
