"""Which tensors an ALBERT of a given config has: canonical name -> shape; `check` reports every fault at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from converters.config import EncoderConfig
from converters.errors import SpecError

Shape = tuple[int, ...]

# Components in the order of computation. All but the required ones may be absent, each as a whole.
REQUIRED = ("embeddings", "projection", "encoder")
HEADS = {
    "mlm": "masked-word head (MLM)",
    "sop": "sentence-order head (SOP)",
    "classifier": "classification head",
    "choice": "multiple-choice head",
    "tokens": "token-classification head",
    "qa": "question-answering head",
    "squad2": "question-answering head of Google's run_squad_v2",
}
OPTIONAL = ("pooler", *HEADS)

# transformers' classes: the parts that each reads beside the encoder. Three read a `classifier` of the same shape, of
# which a config's `architectures` or the absence of a pooler tells which it is.
ARCHITECTURES = {
    "AlbertForSequenceClassification": ("pooler", "classifier"),
    "AlbertForMultipleChoice": ("pooler", "choice"),
    "AlbertForTokenClassification": ("tokens",),
    "AlbertForQuestionAnswering": ("qa",),
    "AlbertForPreTraining": ("pooler", "mlm", "sop"),
    "AlbertForMaskedLM": ("mlm",),
    "AlbertModel": (),
}
_READS_CLASSIFIER = {
    "AlbertForSequenceClassification": "classifier",
    "AlbertForMultipleChoice": "choice",
    "AlbertForTokenClassification": "tokens",
}

_SHOWN = 8


@dataclass(frozen=True)
class TensorSpec:
    """`shape` has None where the size is free (labels of a classifier). `optional`: its component may lack it."""

    shape: tuple[int | None, ...]
    component: str
    optional: bool = False


def spec(config: EncoderConfig) -> dict[str, TensorSpec]:
    """Every tensor that an ALBERT of this config may have, in the order of computation."""
    E, H, I = config.embedding_size, config.hidden_size, config.intermediate_size  # noqa: E741
    tensors: dict[str, TensorSpec] = {}

    def add(component: str, name: str, *shape: int | None) -> None:
        tensors[name] = TensorSpec(shape, component)

    def linear(component: str, name: str, fan_in: int, fan_out: int | None, *, bias: bool = True) -> None:
        add(component, f"{name}.weight", fan_out, fan_in)
        if bias:
            add(component, f"{name}.bias", fan_out)

    def norm(component: str, name: str, size: int) -> None:
        add(component, f"{name}.weight", size)
        add(component, f"{name}.bias", size)

    add("embeddings", "albert.embeddings.word_embeddings.weight", config.vocab_size, E)
    add("embeddings", "albert.embeddings.position_embeddings.weight", config.max_position_embeddings, E)
    add("embeddings", "albert.embeddings.token_type_embeddings.weight", config.type_vocab_size, E)
    norm("embeddings", "albert.embeddings.LayerNorm", E)
    linear("projection", "albert.encoder.embedding_hidden_mapping_in", E, H)
    for group in range(config.num_hidden_groups):
        for inner in range(config.inner_group_num):
            layer = f"albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}"
            for part in ("query", "key", "value", "dense"):
                linear("encoder", f"{layer}.attention.{part}", H, H)
            norm("encoder", f"{layer}.attention.LayerNorm", H)
            linear("encoder", f"{layer}.ffn", H, I)
            linear("encoder", f"{layer}.ffn_output", I, H)
            norm("encoder", f"{layer}.full_layer_layer_norm", H)
    linear("pooler", "albert.pooler", H, H)
    linear("mlm", "predictions.dense", H, E)
    norm("mlm", "predictions.LayerNorm", E)
    add("mlm", "predictions.bias", config.vocab_size)
    # Only where they are not tied to the word embeddings and to predictions.bias.
    tied = config.extra.get("tie_word_embeddings") is not False
    tensors["predictions.decoder.weight"] = TensorSpec((config.vocab_size, E), "mlm", optional=tied)
    tensors["predictions.decoder.bias"] = TensorSpec((config.vocab_size,), "mlm", optional=tied)
    linear("sop", "sop_classifier.classifier", H, 2)
    linear("classifier", "classifier", H, None)
    linear("qa", "qa_outputs", H, 2)
    # squad_utils.py, create_v2_model; the names are those of transformers' PoolerStartLogits and its kin (XLNet).
    linear("squad2", "start_logits.dense", H, 1)
    linear("squad2", "end_logits.dense_0", 2 * H, H)
    norm("squad2", "end_logits.LayerNorm", H)
    linear("squad2", "end_logits.dense_1", H, 1)
    linear("squad2", "answer_class.dense_0", 2 * H, H)
    linear("squad2", "answer_class.dense_1", H, 1, bias=False)
    return tensors


def components(names: Iterable[str], config: EncoderConfig) -> list[str]:
    """The components that have at least one tensor among `names`, in the order of computation."""
    wanted = spec(config)
    present = {wanted[name].component for name in names if name in wanted}
    if "classifier" in present:
        present = present - {"classifier"} | {_classifier(config, pooler="pooler" in present)}
    return [part for part in (*REQUIRED, *OPTIONAL) if part in present]


def _classifier(config: EncoderConfig, *, pooler: bool) -> str:
    """What the tensors called `classifier` are: classifier, choice or tokens."""
    said = next((_READS_CLASSIFIER[name] for name in _said(config) if name in _READS_CLASSIFIER), None)
    return said or ("classifier" if pooler else "tokens")


def _said(config: EncoderConfig) -> list[str]:
    """The config's own `architectures`."""
    said = config.extra.get("architectures")
    return [name for name in said if isinstance(name, str)] if isinstance(said, list) else []


def architecture(names: Iterable[str], config: EncoderConfig) -> str:
    """The transformers class whose heads are those among `names`."""
    present = components(names, config)
    for part, name in (
        ("classifier", "AlbertForSequenceClassification"),
        ("choice", "AlbertForMultipleChoice"),
        ("tokens", "AlbertForTokenClassification"),
        ("qa", "AlbertForQuestionAnswering"),
        ("sop", "AlbertForPreTraining"),
        ("mlm", "AlbertForMaskedLM"),
    ):
        if part in present:
            return name
    return "AlbertModel"


def untrue(names: Iterable[str], config: EncoderConfig) -> str | None:
    """Why the config's own `architectures` cannot be: the head of the class named there is not among `names`."""
    present = components(names, config)
    for name in _said(config):
        if lacking := [HEADS[part] for part in ARCHITECTURES.get(name, ()) if part in HEADS and part not in present]:
            return f"config says {name}, but there is no {' and no '.join(lacking)}"
    return None


def owner(name: str, config: EncoderConfig) -> str:
    """The tensor whose values `name` must have: in a sharing variant, what all layers share is group 0's."""
    part = {"attention": ".attention.", "ffn": ".ffn"}.get(config.share)
    shared = part is not None and (part in name or (config.share == "ffn" and ".full_layer_layer_norm." in name))
    return re.sub(r"albert_layer_groups\.\d+", "albert_layer_groups.0", name) if shared else name


def parameters(shapes: Mapping[str, Shape], config: EncoderConfig) -> dict[str, int]:
    """Parameters by component, each shared tensor counted once."""
    wanted = spec(config)
    present = components(shapes, config)
    counts: dict[str, int] = {}
    for name, shape in shapes.items():
        if owner(name, config) == name:
            part = wanted[name].component
            if part == "classifier":
                part = next(kind for kind in _READS_CLASSIFIER.values() if kind in present)
            counts[part] = counts.get(part, 0) + math.prod(shape)
    return counts


def check(config: EncoderConfig, shapes: Mapping[str, Shape], where: str) -> None:
    """Compare tensors with the config; one SpecError tells every fault (missing, unknown, other shape)."""
    wanted = spec(config)
    parts = components(shapes, config)
    present = {wanted[name].component for name in shapes if name in wanted} | set(REQUIRED)
    missing = [
        name for name, item in wanted.items() if item.component in present and name not in shapes and not item.optional
    ]
    unknown = [name for name in shapes if name not in wanted]
    wrong = [
        f"{name} is {list(shapes[name])}, the config asks for {_show(item.shape)}"
        for name, item in wanted.items()
        if name in shapes and not _fits(shapes[name], item.shape)
    ]
    faults = [
        f"the {HEADS[part]} reads the pooler, which is missing"
        for part in ("sop", "classifier", "choice")
        if part in parts and "pooler" not in parts
    ]
    if missing:
        faults.append(f"{_count(missing, 'tensor')} missing: {listing(missing)}")
    if unknown:
        faults.append(f"{_count(unknown, 'tensor')} unknown: {listing(unknown)}")
    if wrong:
        faults.append(f"{_count(wrong, 'tensor')} of another shape: {listing(wrong, '; ')}")
    if faults:
        raise SpecError(f"{where} does not match its config: " + "; ".join(faults))


def listing(items: Iterable[str], separator: str = ", ") -> str:
    """The first few items and a count of the rest, in one line whatever a file names its tensors."""
    items = ["".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in item) for item in items]
    rest = len(items) - _SHOWN
    return separator.join(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


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


def _count(items: list[str], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
