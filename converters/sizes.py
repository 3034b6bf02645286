"""The sizes of a model that follow from the shapes of its tensors, where no config says them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converters.checkpoint import Tensor
from converters.errors import ConfigError
from converters.family import Family, Foreign, Part

_HEAD_SIZE = 64


def heads_of(hidden: int) -> int:
    """How many attention heads a model of that hidden size has, unless somebody says otherwise."""
    return max(1, hidden // _HEAD_SIZE)


def sizes_of(
    found: Mapping[str, Tensor],
    family: Family,
    scheme: Foreign,
    where: str,
    *,
    part: Part | None = None,
    said: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The settings of Hugging Face's config that follow from the tensors, of layers that share nothing; and notes.

    `said` are settings that are known, which count. The number of heads follows from no shape: 64 values a head are
    assumed, as in every published model, and noted. ConfigError where a tensor that says a size is missing.
    """
    out = 0 if scheme == "fairseq" else 1

    def size(role: str, axis: int) -> int | None:
        name = family.foreign(scheme, role, {"layer": 0, "group": 0, "inner": 0}) or ""
        shape = found[renamed].shape if (renamed := part.rename(name) if part else name) in found else ()
        return shape[axis] if axis < len(shape) else None

    hidden = size("layer.query", out)
    sizes = {
        "vocab_size": size("embeddings.words", 0),
        "embedding_size": size("embeddings.words", 1),
        "hidden_size": hidden,
        "num_hidden_layers": max((layer + 1 for layer, _ in family.places_in(found)), default=None),
        "num_attention_heads": hidden and heads_of(hidden),
        "intermediate_size": size("layer.intermediate", out),
        "max_position_embeddings": size("embeddings.positions", 0),
        "type_vocab_size": size("embeddings.types", 0) or 1,
    }
    said = said or {}
    if absent := [key for key, value in sizes.items() if value is None and key not in said]:
        raise ConfigError(where, f"its tensors do not give {', '.join(absent)}; give it with --model-config FILE")
    sizes = {key: value for key, value in sizes.items() if key not in family.config.derived}
    notes = []
    if "num_attention_heads" not in said:
        heads = sizes["num_attention_heads"]
        notes.append(f"num_attention_heads {heads} is assumed ({_HEAD_SIZE} values a head); --heads N overrides")
    return sizes | dict(said), notes
