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
from converters import roles
from converters.config import EncoderConfig
from converters.families import family_of

Head = Literal["mlm", "pair"]
# Of other families: a published model that has the head.
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


def load(name: str | None, head: Head, *, device: DeviceName = "auto") -> Heads:
    """The model of that name (see `albert_cli.registry.resolve.resolve`) on the device.

    `head`: that for masked words, or for pairs of segments. Raises HeadError where it holds no such head: the answers
    of random weights would mean nothing.
    """
    where = find_device(device)
    found = resolve(name)
    checkpoint = found.load()
    part = _component(checkpoint.config, head, found.name)
    if part not in checkpoint.components:
        advice = _advice(checkpoint.config, part)
        raise HeadError(f"{found.name}: has no {roles.HEADS[part]}, so its weights would be random; {advice}")
    if found.name == builtin.NAME:
        builtin.warn_of_head(part)
    tokenizer = Tokenizer.of_model(checkpoint, found.name)
    return Heads(load_model(checkpoint).to(where), tokenizer, found.name)


def without_head(config: EncoderConfig, head: Head) -> HeadError:
    """The error of a model that holds no such head."""
    part = _component(config, head, "the model")
    return HeadError(f"the model has no {roles.HEADS[part]}; {_advice(config, part)}")


def _component(config: EncoderConfig, head: Head, where: str) -> str:
    """What the family calls the head; HeadError where it has none of the kind."""
    family = family_of(config)
    part = "mlm" if head == "mlm" else family.pair
    if part is None:
        raise HeadError(
            f"{where}: {family.model_type} has no head for pairs of segments; take an ALBERT (sentence order) or a "
            "BERT (next sentence)"
        )
    return part


def _advice(config: EncoderConfig, part: str) -> str:
    """Which model has the head."""
    family = family_of(config)
    if family.model_type == "albert":
        return _ADVICE[part]
    known = next(model.short for model in family.published if part in model.heads)
    other = next((item.name for item in family.parts if item.component == part), None)
    if other:
        return f"take a {other}, such as {known}; of Google's checkpoint, albert convert SOURCE TARGET --part {other}"
    return f"take a model that has it, such as {known}"
