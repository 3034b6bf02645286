"""Roles: what a tensor does in an encoder or head, whatever its family calls it. A role's shape is written once, here.

Roles are also the attribute names of the PyTorch encoder (`albert_cli.model.encoder`): `layer.query` of layer 3 is
`layers.3.query` there. Letters: V vocab_size, P max_position_embeddings, T type_vocab_size, E embedding_size,
H hidden_size, I intermediate_size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from converters.config import EncoderConfig

Kind = Literal["table", "linear", "matrix", "to_heads", "from_heads", "output", "norm", "vector"]

# The tensors of a role by kind; "" is a role that is one tensor without a name of its own.
PARTS: Mapping[Kind, tuple[str, ...]] = {
    "table": ("weight",),
    "linear": ("weight", "bias"),
    "matrix": ("weight",),
    "to_heads": ("weight", "bias"),
    "from_heads": ("weight", "bias"),
    "output": ("weight", "bias"),
    "norm": ("weight", "bias"),
    "vector": ("",),
}


@dataclass(frozen=True)
class Role:
    """`sizes` are those of the weight as PyTorch has it: letters of the config, numbers, None where any size fits.

    `component` may be absent from a model as a whole, except for the required ones. `shared_as`: the sharing variants
    of ALBERT's paper in which all layers have this role in common. `output` is a linear layer that Google stores as
    PyTorch does; `matrix` is one without bias.
    """

    component: str
    kind: Kind
    sizes: tuple[str | int | None, ...]
    shared_as: str | None = None

    def shapes(self, config: EncoderConfig) -> dict[str, tuple[int | None, ...]]:
        """The shape of each tensor of the role, by part."""
        weight = tuple(_size(size, config) for size in self.sizes)
        return {part: weight if part == "weight" else weight[:1] for part in PARTS[self.kind]}


REQUIRED = ("embeddings", "projection", "encoder")
PAIR = "pair"  # the component of the pair head has the family's own name

ROLES: Mapping[str, Role] = {
    "embeddings.words": Role("embeddings", "table", ("V", "E")),
    "embeddings.positions": Role("embeddings", "table", ("P", "E")),
    "embeddings.types": Role("embeddings", "table", ("T", "E")),
    "embeddings.norm": Role("embeddings", "norm", ("E",)),
    "projection": Role("projection", "linear", ("H", "E")),
    "layer.query": Role("encoder", "to_heads", ("H", "H"), "attention"),
    "layer.key": Role("encoder", "to_heads", ("H", "H"), "attention"),
    "layer.value": Role("encoder", "to_heads", ("H", "H"), "attention"),
    "layer.attention_output": Role("encoder", "from_heads", ("H", "H"), "attention"),
    "layer.attention_norm": Role("encoder", "norm", ("H",), "attention"),
    "layer.intermediate": Role("encoder", "linear", ("I", "H"), "ffn"),
    "layer.output": Role("encoder", "linear", ("H", "I"), "ffn"),
    "layer.output_norm": Role("encoder", "norm", ("H",), "ffn"),
    "pooler": Role("pooler", "linear", ("H", "H")),
    "mlm.dense": Role("mlm", "linear", ("E", "H")),
    "mlm.norm": Role("mlm", "norm", ("E",)),
    "mlm.bias": Role("mlm", "vector", ("V",)),
    # Only where they are not tied to the word embeddings and to mlm.bias.
    "mlm.decoder": Role("mlm", "linear", ("V", "E")),
    "pair": Role(PAIR, "output", (2, "H")),
    # ELECTRA's discriminator: was the token replaced?
    "rtd.dense": Role("rtd", "linear", ("H", "H")),
    "rtd.out": Role("rtd", "linear", (1, "H")),
    # SpanBERT's head: the words of a span from its two borders and a word's place in the span (arXiv 1907.10529).
    "sbo.positions": Role("sbo", "table", (None, 200)),
    "sbo.dense_1": Role("sbo", "linear", ("H", "2H+200")),
    "sbo.norm_1": Role("sbo", "norm", ("H",)),
    "sbo.dense_2": Role("sbo", "linear", ("H", "H")),
    "sbo.norm_2": Role("sbo", "norm", ("H",)),
    "sbo.bias": Role("sbo", "vector", ("V",)),
    # One linear layer: on the pooled output, or on every token.
    "classifier": Role("classifier", "output", (None, "H")),
    # Two, on the first token.
    "first_token.dense": Role("first_token", "linear", ("H", "H")),
    "first_token.out": Role("first_token", "linear", (None, "H")),
    # What ELECTRA's multiple choice reads in the place of a pooler.
    "summary": Role("summary", "linear", ("H", "H")),
    "qa": Role("qa", "output", (2, "H")),
    # Google's run_squad_v2 (squad_utils.py, create_v2_model); transformers: PoolerStartLogits and its kin (XLNet).
    "squad2.start": Role("squad2", "linear", (1, "H")),
    "squad2.end_dense": Role("squad2", "linear", ("H", "2H")),
    "squad2.end_norm": Role("squad2", "norm", ("H",)),
    "squad2.end": Role("squad2", "linear", (1, "H")),
    "squad2.answer_dense": Role("squad2", "linear", ("H", "2H")),
    "squad2.answer": Role("squad2", "matrix", (1, "H")),
}

HEADS: Mapping[str, str] = {
    "mlm": "masked-word head (MLM)",
    "sop": "sentence-order head (SOP)",
    "nsp": "next-sentence head (NSP)",
    "rtd": "replaced-token head (discriminator)",
    "sbo": "span-boundary head (SBO)",
    "classifier": "classification head",
    "first_token": "classification head on the first token",
    "summary": "summary of the first token",
    "choice": "multiple-choice head",
    "tokens": "token-classification head",
    "qa": "question-answering head",
    "squad2": "question-answering head of Google's run_squad_v2",
}
OPTIONAL = ("pooler", *HEADS)


def in_module(role: str, layer: int | None) -> str:
    """The role's attribute in the PyTorch model: `layer.query` of layer 3 is `encoder.layers.3.query`."""
    first, _, rest = role.partition(".")
    if first == "layer":
        return f"encoder.layers.{layer}.{rest}"
    return f"encoder.{role}" if ROLES[role].component in (*REQUIRED, "pooler") else role


# The settings that the letters stand for.
SIZES: Mapping[str, str] = {
    "V": "vocab_size",
    "P": "max_position_embeddings",
    "T": "type_vocab_size",
    "E": "embedding_size",
    "H": "hidden_size",
    "I": "intermediate_size",
}


def _size(size: str | int | None, config: EncoderConfig) -> int | None:
    if not isinstance(size, str):
        return size
    H = config.hidden_size
    more = {"2H": 2 * H, "2H+200": 2 * H + 200}
    found: int = more[size] if size in more else getattr(config, SIZES[size])
    return found
