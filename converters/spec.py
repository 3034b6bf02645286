"""Which tensors an encoder of a given config has: canonical name -> shape; `check` reports every fault at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from converters.config import EncoderConfig
from converters.errors import SpecError
from converters.families import family_of
from converters.family import Entry, Family
from converters.limits import LAYERS
from converters.messages import counted, listing
from converters.roles import HEADS, OPTIONAL, REQUIRED, ROLES, SIZES, in_module

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorSpec:
    """`shape` has None where the size is free (labels of a classifier). `optional`: its component may lack it.

    `owner` names the tensor whose values it must have: itself, or that of the first layer where layers share it.
    `attribute` is its name in the PyTorch model.
    """

    shape: tuple[int | None, ...]
    component: str
    role: str
    owner: str
    attribute: str
    optional: bool = False

    @property
    def is_norm(self) -> bool:
        return ROLES[self.role].kind == "norm"


def spec(config: EncoderConfig) -> dict[str, TensorSpec]:
    """Every tensor that an encoder of this config and its heads may have, in the order of computation."""
    family = family_of(config)
    layer = [entry for entry in family.entries if entry.role.startswith("layer.")]
    tensors: dict[str, TensorSpec] = {}
    for entry in family.entries:
        if entry.role == "projection" and not has_projection(config):
            continue
        if entry not in layer:
            tensors |= _tensors(family, entry, config, None)
        elif entry is layer[0]:
            for place in config.places:
                for item in layer:
                    tensors |= _tensors(family, item, config, place)
    return tensors


def _tensors(
    family: Family, entry: Entry, config: EncoderConfig, place: Mapping[str, int] | None
) -> dict[str, TensorSpec]:
    """The tensors of one entry, in the layer at `place`."""
    role = ROLES[entry.role]
    at = place or {}
    name = entry.hf.format(**at)
    shared = place is not None and config.share == role.shared_as
    owner = entry.hf.format(**config.places[0]) if shared else name
    attribute = in_module(entry.role, at.get("layer"))
    optional = entry.role == "mlm.decoder" and config.extra.get("tie_word_embeddings") is not False
    shapes = role.shapes(config)
    return {
        _dotted(name, part): TensorSpec(
            shapes[part], family.component(entry), entry.role, _dotted(owner, part), _dotted(attribute, part), optional
        )
        for part in entry.tensors
    }


def _dotted(name: str, part: str) -> str:
    return f"{name}.{part}" if part else name


def canonical_names(config: EncoderConfig) -> dict[str, str]:
    """The canonical name of each tensor by its attribute in the PyTorch model."""
    return {item.attribute: name for name, item in spec(config).items()}


def has_projection(config: EncoderConfig) -> bool:
    """Whether there is a projection from the embedding size to the hidden size."""
    family = family_of(config)
    needed = family.projects_always or config.embedding_size != config.hidden_size
    return needed and any(entry.role == "projection" for entry in family.entries)


def may_share(config: EncoderConfig) -> bool:
    """Whether models of the family may share weights between layers."""
    return "num_hidden_groups" not in family_of(config).config.derived


def components(names: Iterable[str], config: EncoderConfig) -> list[str]:
    """The components that have at least one tensor among `names`, in the order of computation."""
    wanted = spec(config)
    present = {wanted[name].component for name in names if name in wanted}
    if "classifier" in present:
        present = present - {"classifier"} | {_classifier(config, present)}
    return [part for part in (*REQUIRED, *OPTIONAL) if part in present]


def _classifier(config: EncoderConfig, present: Collection[str]) -> str:
    """What the tensors called `classifier` are (classifier, choice or tokens) beside the other components.

    Where the config does not say it, what the class is that reads the most of these.
    """
    family = family_of(config)
    reads = family.reads_classifier
    declared = next((reads[name] for name in _declared(config) if name in reads), None)
    possible = [name for name, kind in reads.items() if {*family.classes[name]} - {kind} <= {*present}]
    return declared or reads[max(possible, key=lambda name: len(family.classes[name]))]


def _declared(config: EncoderConfig) -> list[str]:
    """The config's own `architectures`."""
    found = config.extra.get("architectures")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def fresh(config: EncoderConfig) -> tuple[str, ...]:
    """The heads of a new model: its family's, or those of another pre-training that the config's class names.

    So a config of an ELECTRA generator makes a generator, which has none of the discriminator's.
    """
    family, wanted = family_of(config), spec(config)
    sized = {item.component for item in wanted.values() if None not in item.shape}
    declared = next((family.classes[name] for name in _declared(config) if name in family.classes), ())
    return declared if {*declared} <= sized and not {*declared} <= {*family.fresh} else family.fresh


def architecture(names: Iterable[str], config: EncoderConfig) -> str:
    """The transformers class whose heads are those among `names`; the first in the family's order.

    One of which all heads are there counts before one of which the last is.
    """
    family, present = family_of(config), components(names, config)
    whole = [name for name, parts in family.classes.items() if {*parts} <= {*present}]
    last = [name for name, parts in family.classes.items() if parts[-1] in present]
    return [*whole, *last, family.bare][0]


def untrue(names: Iterable[str], config: EncoderConfig) -> str | None:
    """Why the config's own `architectures` cannot be: the head of the class named there is not among `names`."""
    present, classes = components(names, config), family_of(config).classes
    for name in _declared(config):
        if lacking := [HEADS[part] for part in classes.get(name, ()) if part in HEADS and part not in present]:
            return f"config says {name}, but there is no {' and no '.join(lacking)}"
    return None


def parameters(shapes: Mapping[str, Shape], config: EncoderConfig) -> dict[str, int]:
    """Parameters by component, each shared tensor counted once."""
    wanted = spec(config)
    present = components(shapes, config)
    counts: dict[str, int] = {}
    for name, shape in shapes.items():
        if wanted[name].owner == name:
            part = wanted[name].component
            if part == "classifier":
                part = next(kind for kind in family_of(config).reads_classifier.values() if kind in present)
            counts[part] = counts.get(part, 0) + math.prod(shape)
    return counts


def check(config: EncoderConfig, shapes: Mapping[str, Shape], where: str) -> None:
    """Compare tensors with the config; one SpecError reports every fault (missing, unknown, other shape)."""
    wanted = spec(config)
    stored = _layers(shapes, family_of(config))
    if stored not in (0, config.num_hidden_layers):
        raise SpecError(
            where,
            f"num_hidden_layers is {config.num_hidden_layers}, but the weights have {stored}",
            "take the weights and the config of one model",
        )
    parts = components(shapes, config)
    present = {wanted[name].component for name in shapes if name in wanted} | set(REQUIRED)
    missing = [
        name for name, item in wanted.items() if item.component in present and name not in shapes and not item.optional
    ]
    unknown = [name for name in shapes if name not in wanted]
    wrong = {
        name: f"{name} is {list(shapes[name])}, the config asks for {_show(item.shape)}"
        for name, item in wanted.items()
        if name in shapes and not _fits(shapes[name], item.shape)
    }
    faults = [
        f"the {HEADS[part]} reads the pooler, which is missing"
        for part in _read_pooler(family_of(config))
        if part in parts and "pooler" not in parts
    ]
    if missing:
        faults.append(f"{counted(missing, 'tensor')} missing: {listing(missing)}")
    if unknown:
        faults.append(f"{counted(unknown, 'tensor')} unknown: {listing(unknown)}")
    if wrong:
        faults.append(f"{counted(wrong, 'tensor')} of another shape: {listing(wrong.values(), separator='; ')}")
    if faults:
        advice = _advice(config, {name: shapes[name] for name in wrong}, missing=bool(missing), unknown=bool(unknown))
        raise SpecError(where, "does not match its config: " + "; ".join(faults), advice)


def _advice(config: EncoderConfig, wrong: Mapping[str, Shape], *, missing: bool, unknown: bool) -> str:
    """Where to look: which settings the shapes contradict, and what an incomplete download looks like."""
    wanted, family = spec(config), family_of(config)
    letters = {
        letter
        for name, shape in wrong.items()
        if len(shape) == len(ROLES[wanted[name].role].sizes)
        for size, asked, letter in zip(shape, wanted[name].shape, ROLES[wanted[name].role].sizes, strict=True)
        if size != asked
    }
    keys = dict.fromkeys(family.config.derived.get(key, key) for letter, key in SIZES.items() if letter in letters)
    if keys:
        return f"look at {listing(list(keys))} in the config: weights and config must be of one model"
    if missing:
        return "fetch every weight file of the model again, and its own config: a download may be incomplete"
    return "take the config that belongs to the weights" if unknown else ""


def _layers(names: Iterable[str], family: Family) -> int:
    """How many layers there are tensors of; 0 where their numbers have gaps, and where a family has groups."""
    begins = {head for entry in family.entries for head, found, _ in [entry.hf.partition("{layer}.")] if found}
    rest = (name.removeprefix(head) for name in names for head in begins if name.startswith(head))
    numbers = {int(number) for number in (name.partition(".")[0] for name in rest) if _is_index(number)}
    return len(numbers) if numbers == {*range(len(numbers))} else 0


def _is_index(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(LAYERS))


def _read_pooler(family: Family) -> list[str]:
    """The heads that read the pooler: the last component of each class that needs it."""
    return [part for part in HEADS if any(parts[-1] == part and "pooler" in parts for parts in family.classes.values())]


def labels(shapes: Mapping[str, Shape], config: EncoderConfig) -> int | None:
    """How many labels the classification head of a text or of its tokens has; None without one."""
    wanted = spec(config)
    kinds = ("classifier", "first_token.out")
    outs = [
        shape for name, shape in shapes.items() if name in wanted and wanted[name].role in kinds and len(shape) == 2
    ]
    return outs[0][0] if outs and "choice" not in components(shapes, config) else None


def bert_parameters(config: EncoderConfig, *, pooler: bool = True) -> int:
    """Parameters of a BERT of the same shape, without heads: unshared layers, embeddings of the hidden size."""
    H, I = config.hidden_size, config.intermediate_size  # noqa: E741
    embeddings = (config.vocab_size + config.max_position_embeddings + config.type_vocab_size + 2) * H
    layer = 4 * (H * H + H) + (H * I + I) + (I * H + H) + 4 * H
    return embeddings + config.num_hidden_layers * layer + (H * H + H if pooler else 0)


def _fits(shape: Shape, wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(b is None or a == b for a, b in zip(shape, wanted, strict=True))


def _show(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
