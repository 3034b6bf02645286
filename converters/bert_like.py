"""What the families that descend from BERT have in common: names of embeddings and layers, settings, old spellings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converters.config import EncoderConfig
from converters.family import ConfigTable, Entry

# role, name in Hugging Face's and (with slashes) in Google's encoder, name in Model Garden's
_EMBEDDINGS = (
    ("words", "word_embeddings", "word_embeddings"),
    ("positions", "position_embeddings", "position_embedding"),
    ("types", "token_type_embeddings", "type_embeddings"),
    ("norm", "LayerNorm", "embeddings/layer_norm"),
)
_LAYER = (
    ("query", "attention.self.query", "self_attention/query"),
    ("key", "attention.self.key", "self_attention/key"),
    ("value", "attention.self.value", "self_attention/value"),
    ("attention_output", "attention.output.dense", "self_attention/attention_output"),
    ("attention_norm", "attention.output.LayerNorm", "self_attention_layer_norm"),
    ("intermediate", "intermediate.dense", "intermediate"),
    ("output", "output.dense", "output"),
    ("output_norm", "output.LayerNorm", "output_layer_norm"),
)
# Dropout and activation of them all, as fields of EncoderConfig.
USUAL: Mapping[str, Any] = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout_prob": None,
}
# A name that PyTorch's DataParallel put before another.
WRAPPED = r"module\.(.*)"
GOOGLE_DROP = {r".*/Adam(_1)?|beta[12]_power": "slots of TensorFlow's own Adam"}


def embeddings(name: str) -> tuple[Entry, ...]:
    """The embeddings of a family of Google's, whose names begin with `name`."""
    return tuple(
        Entry(f"embeddings.{role}", f"{name}.embeddings.{own}", f"{name}/embeddings/{own}", keras)
        for role, own, keras in _EMBEDDINGS
    )


def layer(name: str) -> tuple[Entry, ...]:
    """The layers of a family of Google's, whose names begin with `name`."""
    return tuple(
        Entry(
            f"layer.{role}",
            f"{name}.encoder.layer.{{layer}}.{own}",
            f"{name}/encoder/layer_{{layer}}/{own.replace('.', '/')}",
            f"transformer/{{at}}{keras}",
        )
        for role, own, keras in _LAYER
    )


def buffers(name: str) -> dict[str, str]:
    """The buffers that older versions of transformers stored."""
    return {rf"{name}\.embeddings\.{own}": f"{own} buffer" for own in ("position_ids", "token_type_ids")}


def gamma_beta(norms: str) -> dict[str, str]:
    """The parameters of the LayerNorms (a pattern of their names) as TensorFlow, and older files, call them."""
    return {rf"(.*{norms})\.gamma": r"\1.weight", rf"(.*{norms})\.beta": r"\1.bias"}


def config_table(*, projects: bool, **more: Any) -> ConfigTable:
    """Layers that share nothing; without a projection (`projects`) the embeddings have the hidden size."""
    derived = {"num_hidden_groups": "num_hidden_layers"}
    return ConfigTable(
        keys={"classifier_dropout_prob": "classifier_dropout"},
        derived=derived if projects else {"embedding_size": "hidden_size"} | derived,
        fixed={"inner_group_num": 1, "share": "all"},
        defaults=USUAL,
        may_decode=True,
        **more,
    )


def preset(family: str, hidden: int, layers: int, **more: Any) -> EncoderConfig:
    """A config of the usual proportions: 64 values a head, an intermediate size of four times the hidden one."""
    sizes = {"embedding_size": hidden, "num_attention_heads": hidden // 64, "intermediate_size": 4 * hidden}
    return EncoderConfig(
        **{
            "family": family,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_hidden_groups": layers,
            **sizes,
            **USUAL,
            **more,
        }
    )
