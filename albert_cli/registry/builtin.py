"""The small model inside the package, which every command uses when none is named."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

from albert_cli.arguments import expanded
from albert_cli.errors import Notice

NAME = "built-in"
# The environment's name for the model that is used where none is named.
VARIABLE = "ALBERT_MODEL"
# A built-in model that judges fewer held-out pairs rightly is published without its sentence-order head.
ORDER_WORTH = 0.60


class BuiltInModelNotice(Notice):
    """That the small built-in model is used; the command line shows it as one line on stderr."""


class DefaultModelNotice(Notice):
    """That the model is used that ALBERT_MODEL names."""


def built_in() -> Path:
    """The directory of the built-in model, a Hugging Face one."""
    return Path(__file__).parents[1] / "builtin" / "model"


def card() -> dict[str, Any]:
    """What was measured when it was trained (`card.json`, beside its weights)."""
    data: dict[str, Any] = json.loads((built_in() / "card.json").read_text(encoding="utf-8"))
    return data


def default() -> str:
    """The name of the model to use where none is named, with a notice: ALBERT_MODEL's, else the built-in one."""
    if named := os.environ.get(VARIABLE):
        warnings.warn(f"no --model is named: this is {named}, of {VARIABLE}", DefaultModelNotice, stacklevel=2)
        return expanded(named)
    warnings.warn(
        f"no --model is named: this is the small built-in one ({card()['parameters']:,} parameters); "
        "name a big one with --model albert-base-v2",
        BuiltInModelNotice,
        stacklevel=2,
    )
    return NAME


def why_without_order() -> str:
    """Why the built-in model has no sentence-order head, where it has none."""
    facts = card()
    return (
        f"in training it judged {facts['held_out']['sentence_order_accuracy']:.0%} of held-out pairs rightly, and the "
        f"lengths of the texts alone give {facts['sentence_order_by_length']:.0%}: sentence order takes a full-size "
        "model, which has read thousands of times as much text"
    )
