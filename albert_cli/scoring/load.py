"""A model with one of its pre-training heads, and what is said where it has none."""

from __future__ import annotations

from typing import Literal, NamedTuple

from albert_cli.errors import HeadError
from albert_cli.machine import DeviceName, find_device
from albert_cli.model.loading import load_model
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.registry import builtin
from albert_cli.registry.resolve import resolve
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import roles, spec

_ADVICE = {
    "mlm": "take a model that has it, such as Google's checkpoints or albert-base-v2",
    "sop": "models on the Hugging Face Hub leave it out; convert Google's checkpoint, which has it: "
    "albert convert albert_base_v2/ hf/, then --model hf/",
}


class Heads(NamedTuple):
    """A model with the head that is wanted, in eval mode, and its tokenizer."""

    model: PreTrainingModel
    tokenizer: Tokenizer
    name: str


def load(name: str | None, head: Literal["mlm", "sop"], *, device: DeviceName = "auto") -> Heads:
    """The model of that name (see `albert_cli.registry.resolve.resolve`) on the device.

    Raises HeadError where it holds no such head: the answers of random weights would mean nothing.
    """
    where = find_device(device)
    found = resolve(name)
    checkpoint = found.load()
    config = checkpoint.config
    if head not in spec.components(checkpoint.tensors, config):
        raise HeadError(f"{found.name}: has no {roles.HEADS[head]}, so its weights would be random; {_ADVICE[head]}")
    if found.name == builtin.NAME:
        builtin.warn_of_head(head)
    tokenizer = Tokenizer.of_model(checkpoint, found.name)
    return Heads(load_model(checkpoint).to(where), tokenizer, found.name)


def without_head(head: Literal["mlm", "sop"]) -> HeadError:
    """The error of a model that holds no such head."""
    return HeadError(f"the model has no {roles.HEADS[head]}; {_ADVICE[head]}")
