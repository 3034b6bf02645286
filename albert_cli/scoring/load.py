"""A model with one of its pre-training heads, and what is said where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from albert_cli.errors import HeadError
from albert_cli.machine import DeviceName, find_device
from albert_cli.model.loading import load_model
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.phases import phase
from albert_cli.registry import builtin
from albert_cli.registry.resolve import resolve
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import roles
from converters.config import EncoderConfig
from converters.families import families, family_of
from converters.family import Family

# Masked words; pairs of segments, whatever the family asks of them; replaced tokens; spans from their borders.
Head = Literal["mlm", "pair", "rtd", "sbo"]
# Which published model has the head, of ALBERT.
_ADVICE = {
    "mlm": "take a model that has it, such as Google's checkpoints or albert-base-v2",
    "sop": "models on the Hugging Face Hub leave it out; convert Google's checkpoint, which has it: "
    "albert convert albert_base_v2/ hf/, then --model hf/",
}


class Heads(NamedTuple):
    """A model with the head that is wanted, in eval mode, its tokenizer, its name, and which head that is."""

    model: PreTrainingModel
    tokenizer: Tokenizer
    name: str
    head: Head


@phase("loading the model")
def load(name: str | None, *heads: Head, device: DeviceName = "auto") -> Heads:
    """The model of that name (see `albert_cli.registry.resolve.resolve`) on the device.

    `heads`: the one that is wanted, or several of which the first that the model holds will do. Raises HeadError where
    it holds none of them: the answers of random weights would mean nothing.
    """
    where = find_device(device)
    found = resolve(name)
    checkpoint = found.load()
    parts, family = checkpoint.components, family_of(checkpoint.config)
    head = next((head for head in heads if (family.pair if head == "pair" else head) in parts), None)
    if head is None:
        why = builtin.why_without_order() if found.name == builtin.NAME and heads[0] == "pair" else ""
        raise _lacking(found.name, checkpoint.config, heads[0], parts, why)
    tokenizer = Tokenizer.of_model(checkpoint, found.name)
    return Heads(load_model(checkpoint).to(where), tokenizer, found.name, head)


def without_head(config: EncoderConfig, head: Head) -> HeadError:
    """The error of a model that holds no such head."""
    return _lacking("the model", config, head)


def _lacking(where: str, config: EncoderConfig, head: Head, parts: Sequence[str] = (), why: str = "") -> HeadError:
    """The error of a model that holds `parts` alone; `why`: what is known of its lack."""
    family = family_of(config)
    if head == "pair" and family.pair is None:
        return HeadError(
            f"{where}: {family.title} has no head for pairs of segments{_why(family.no_pair)}; take an ALBERT "
            "(sentence order) or a BERT (next sentence)"
        )
    part = family.pair if head == "pair" and family.pair else head
    held = next((item.name for item in family.parts if item.component in parts), "")
    another = held if part in {item.component for item in family.parts} else ""
    reason = why or (family.no_pair if head == "pair" else another and f"this is the {another}")
    lacks = f"has no {roles.HEADS[part]}, so its weights would be random{_why(reason)}"
    return HeadError(f"{where}: {lacks}; {_advice(config, part, parts)}")


def _why(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _advice(config: EncoderConfig, part: str, parts: Sequence[str]) -> str:
    """Which model has the head."""
    family = family_of(config)
    if part == "sbo":
        known = " or ".join(name for other in families().values() for name in _published(other, part))
        return f"take {known} (SpanBERT), or leave out --span for the masked-word head"
    if family.model_type == "albert":
        return _ADVICE[part]
    known = " or ".join(_published(family, part))
    other = next((item.name for item in family.parts if item.component == part), None)
    if other is None:
        return f"take a model that has it, such as {known}"
    advice = f"take a {other}, such as {known}; of Google's checkpoint, albert convert SOURCE TARGET --part {other}"
    return f"{advice}; or ask this one which words were replaced: albert score" if "rtd" in parts else advice


def _published(family: Family, part: str) -> list[str]:
    """A published model with the head for each title of the family: one with all the heads that it is trained with."""
    models = family.published
    wanted = [set(heads) for heads in family.titles.values() if part in heads]
    whole = [next((model.short for model in models if heads <= {*model.heads}), None) for heads in wanted]
    return list(filter(None, whole)) or [model.short for model in models if part in model.heads][:1]
