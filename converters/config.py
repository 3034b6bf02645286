"""EncoderConfig: every size and switch of an encoder. Its two JSON dialects: `converters.dialects`."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from converters.activations import ACTIVATIONS
from converters.errors import ConfigError
from converters.limits import LAYERS, json_fault
from converters.messages import brief, is_text

Json = dict[str, Any]

SHARE_CHOICES = ("all", "attention", "ffn", "none")

# Far above any model: no tensor's bytes exceed 64 bits, and no wrong config makes the lists of names endless.
_MOST_SIZE = 2**30
# Half of a UTF-16 pair, or one of two that are a character.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")

REQUIRED = (
    "vocab_size",
    "embedding_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The sizes and switches of an encoder, under the names of Hugging Face's `config.json`.

    `hidden_act` is in Hugging Face's terms (`gelu_new` is Google's `gelu`). `extra` holds the keys that mean nothing
    here, in order, so that they are there on the way back. `share` names what all layers have in common (the paper's
    table 4): `all`, `attention`, `ffn` or `none`; other than `all` it needs one group per layer. `family` is the
    model_type of `converters.families`. `position_offset`: the position of the first token.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    num_hidden_groups: int = 1
    inner_group_num: int = 1
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    classifier_dropout_prob: float | None = 0.1  # None: as hidden_dropout_prob
    share: str = "all"
    family: str = "albert"
    position_offset: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            least = 0 if item.name == "position_offset" else 1
            if item.type == "int" and (
                not isinstance(value, int) or isinstance(value, bool) or not least <= value < _MOST_SIZE
            ):
                faults.append(f"{item.name} is {value!r}, not a whole number from {least} to {_MOST_SIZE - 1}")
            elif item.type == "float | None" and value is None:
                continue
            elif item.type in ("float", "float | None") and not (
                isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
            ):
                faults.append(f"{item.name} is {value!r}, not a number from 0 up")
            elif item.name.endswith("_prob") and value > 1:
                faults.append(f"{item.name} is {value!r}, not a probability")
            elif item.type == "str" and not isinstance(value, str):
                faults.append(f"{item.name} is {value!r}, not a name")
        tied = self.extra.get("tie_word_embeddings", True)
        if not isinstance(tied, bool):
            faults.append(f"tie_word_embeddings is {brief(tied)}, not true or false")
        if not faults:
            if self.hidden_size % self.num_attention_heads:
                heads = self.num_attention_heads
                faults.append(f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {heads}")
            if self.max_tokens < 1:
                faults.append(
                    f"max_position_embeddings {self.max_position_embeddings} leaves a text no position, for they begin "
                    f"at {self.position_offset}, after that of padding"
                )
            if self.hidden_act not in ACTIVATIONS:
                faults.append(f"hidden_act is {self.hidden_act!r}, not one of {', '.join(ACTIVATIONS)}")
            if self.num_hidden_groups > self.num_hidden_layers:
                faults.append(
                    f"num_hidden_groups {self.num_hidden_groups} exceeds num_hidden_layers {self.num_hidden_layers}"
                )
            for name in ("num_hidden_groups", "num_hidden_layers"):
                layers = getattr(self, name) * self.inner_group_num
                if layers > LAYERS:
                    faults.append(f"{name} x inner_group_num is {layers}, more than {LAYERS} layers")
                    break
            if self.share not in SHARE_CHOICES:
                faults.append(f"share is {self.share!r}, not one of {', '.join(SHARE_CHOICES)}")
            elif self.share != "all" and (self.num_hidden_groups, self.inner_group_num) != (self.num_hidden_layers, 1):
                faults.append(
                    f"share {self.share!r} needs num_hidden_groups = num_hidden_layers and inner_group_num = 1"
                )
        if faults:
            raise ConfigError("; ".join(faults))

    @property
    def max_tokens(self) -> int:
        """How many tokens the model takes at most, special ones included."""
        return self.max_position_embeddings - self.position_offset

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def head_dropout_prob(self) -> float:
        """The dropout before the head of a fine-tuned model."""
        prob = self.classifier_dropout_prob
        return self.hidden_dropout_prob if prob is None else prob

    @property
    def shared(self) -> str:
        """What layers have in common, one of SHARE_CHOICES: `share`, but `none` where each layer is its own group."""
        alone = self.num_hidden_groups == self.num_hidden_layers > 1
        return "none" if self.share == "all" and alone else self.share

    @property
    def places(self) -> list[dict[str, int]]:
        """The place of each distinct layer, by every index that a family's names may have."""
        return [
            {"layer": group * self.inner_group_num + inner, "group": group, "inner": inner}
            for group in range(self.num_hidden_groups)
            for inner in range(self.inner_group_num)
        ]

    @property
    def layer_uses(self) -> list[int]:
        """The distinct layer (an index of `places`) that each layer of the computation uses, in its order."""
        inner = self.inner_group_num
        return [self.group_of(n) * inner + i for n in range(self.num_hidden_layers) for i in range(inner)]

    def group_of(self, layer: int) -> int:
        """The group that layer `layer` (from 0) uses, as transformers computes it.

        Google's `int(layer / layers * groups)` agrees but for rounding faults of its own (layer 15 of 22 in 22 groups).
        """
        return int(layer / (self.num_hidden_layers / self.num_hidden_groups))

    def sharing(self, share: str) -> EncoderConfig:
        """The same model under another sharing variant of the paper's ablation."""
        groups = 1 if share == "all" else self.num_hidden_layers
        return dataclasses.replace(self, share=share, num_hidden_groups=groups, inner_group_num=1)


def parse_json(text: bytes, where: str) -> Any:
    """Decode JSON bytes; a ConfigError names the file, line and column."""
    if fault := json_fault(text):
        raise ConfigError(where, f"is not a usable JSON config: {fault}")
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ConfigError(where, f"is not UTF-8 text (byte {error.start}): not a JSON config") from None
    except json.JSONDecodeError as error:
        raise ConfigError(where, f"is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ConfigError(where, "is not a usable JSON config: its lists or objects are nested too deep") from None
    except ValueError as error:
        raise ConfigError(where, f"is not a usable JSON config: {error}") from None


def parse_texts(text: bytes, where: str) -> Any:
    """The same for a file of pieces or of a tokenizer's settings, none of which can be half of a UTF-16 pair."""
    found = parse_json(text, where)
    if _HALF.search(text) and not is_text(json.dumps(found, ensure_ascii=False)):
        raise ConfigError(where, "holds half of a UTF-16 pair, which is no text")
    return found


def dump_json(data: Json) -> bytes:
    """JSON bytes, the same for the same data."""
    return (json.dumps(data, indent=2) + "\n").encode()


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    data = dict(pairs)
    if len(data) != len(pairs):
        seen: set[str] = set()
        twice = sorted({key for key, _ in pairs if key in seen or seen.add(key)})  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[0]!r} occurs twice")
    return data
