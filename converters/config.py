"""EncoderConfig: every size and switch of an ALBERT, its two JSON dialects and the published presets."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.config_keys import config_refusals
from converters.errors import ConfigError

Json = dict[str, Any]

SHARE_CHOICES = ("all", "attention", "ffn", "none")

# Google's "gelu" is the tanh approximation, which Hugging Face calls "gelu_new" (FORMATS: modeling.py get_activation).
_ACTIVATION_TO_GOOGLE = {"gelu_new": "gelu"}
_ACTIVATION_FROM_GOOGLE = {google: ours for ours, google in _ACTIVATION_TO_GOOGLE.items()}
# Google's code has one gelu only: an exact one is written under its name, and the true name kept beside it.
_HF_ACTIVATION_KEY = "hf_hidden_act"
_EXACT_GELUS = ("gelu", "gelu_pytorch_tanh", "gelu_fast", "gelu_python")

# Written anew with every Hugging Face directory, so never carried over.
_HF_REWRITTEN = ("model_type", "dtype", "torch_dtype")

# Far above any model: no tensor's bytes exceed 64 bits, and no wrong config makes the lists of names endless.
_MOST_SIZE = 2**30
_MOST_LAYERS = 4096

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
    """The sizes and switches of an ALBERT (paper: arXiv 1909.11942; Google's `albert_config.json`).

    `hidden_act` is in Hugging Face's terms (`gelu_new` is Google's `gelu`). `extra` holds the keys that mean nothing
    here, in order, so that they are there on the way back. `share` names what all layers have in common (the paper's
    table 4): `all`, `attention`, `ffn` or `none`; other than `all` it needs one group per layer.
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
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.type == "int" and (
                not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _MOST_SIZE
            ):
                faults.append(f"{item.name} is {value!r}, not a whole number from 1 to {_MOST_SIZE - 1}")
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
        if not faults:
            if self.hidden_size % self.num_attention_heads:
                heads = self.num_attention_heads
                faults.append(f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {heads}")
            if self.num_hidden_groups > self.num_hidden_layers:
                faults.append(
                    f"num_hidden_groups {self.num_hidden_groups} exceeds num_hidden_layers {self.num_hidden_layers}"
                )
            stored = self.num_hidden_groups * self.inner_group_num
            if stored > _MOST_LAYERS:
                faults.append(f"num_hidden_groups x inner_group_num is {stored}, more than {_MOST_LAYERS} layers")
            if self.share not in SHARE_CHOICES:
                faults.append(f"share is {self.share!r}, not one of {', '.join(SHARE_CHOICES)}")
            elif self.share != "all" and (self.num_hidden_groups, self.inner_group_num) != (self.num_hidden_layers, 1):
                faults.append(
                    f"share {self.share!r} needs num_hidden_groups = num_hidden_layers and inner_group_num = 1"
                )
        if faults:
            raise ConfigError("; ".join(faults))

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

    def group_of(self, layer: int) -> int:
        """The group that layer `layer` (from 0) uses, as transformers computes it.

        Google's `int(layer / layers * groups)` agrees but for rounding faults of its own (layer 15 of 22 in 22 groups).
        """
        return int(layer / (self.num_hidden_layers / self.num_hidden_groups))

    def sharing(self, share: str) -> EncoderConfig:
        """The same model under another sharing variant of the paper's ablation."""
        groups = 1 if share == "all" else self.num_hidden_layers
        return dataclasses.replace(self, share=share, num_hidden_groups=groups, inner_group_num=1)

    @classmethod
    def from_json(cls, data: Any, where: str, *, dialect: str) -> EncoderConfig:
        """Read a config in the `google` or `hf` dialect; `where` names its file in errors (ConfigError)."""
        if not isinstance(data, dict):
            raise ConfigError(f"{where} holds a JSON {type(data).__name__}, not an object of settings")
        model_type = data.get("model_type", "albert")
        if model_type != "albert":
            raise ConfigError(f"{where} has model_type {model_type!r}: not an ALBERT")
        refused = config_refusals(data)
        if refused:
            raise ConfigError(f"{where}: {'; '.join(refused)}")
        data = {key: value for key, value in data.items() if key not in _HF_REWRITTEN}
        if dialect == "google":
            data = from_google({"hidden_act": "gelu"} | data)
        absent = [key for key in REQUIRED if key not in data]
        if absent:
            raise ConfigError(f"{where} lacks {', '.join(absent)}")
        known = {item.name for item in dataclasses.fields(cls)} - {"extra"}
        extra = {key: value for key, value in data.items() if key not in known}
        if data.get("classifier_dropout_prob", 0) is None:  # older transformers: that of the hidden states then
            data["classifier_dropout_prob"] = data.get("hidden_dropout_prob", _DEFAULTS["hidden_dropout_prob"])
        try:
            return cls(**{key: value for key, value in data.items() if key in known}, extra=extra)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def to_google(self) -> Json:
        """Google's `albert_config.json`: its own keys always, ours only where they differ from the default."""
        data = self._known()
        for key in ("layer_norm_eps", "classifier_dropout_prob", "share"):
            if data[key] == _DEFAULTS[key]:
                del data[key]
        if self.hidden_act in _EXACT_GELUS:
            data["hidden_act"] = "gelu"
            data[_HF_ACTIVATION_KEY] = self.hidden_act
        else:
            data["hidden_act"] = _ACTIVATION_TO_GOOGLE.get(self.hidden_act, self.hidden_act)
        return data | dict(self.extra)

    def to_hf(self) -> Json:
        """Hugging Face's `config.json`, less `architectures` and `dtype`, which depend on the weights."""
        data = self._known()
        if self.share == "all":
            del data["share"]
        return {"model_type": "albert"} | data | dict(self.extra)

    def notes_for_google(self) -> list[str]:
        """What Google's own code would compute differently from this config, in words."""
        if self.hidden_act in _EXACT_GELUS:
            note = (
                f"hidden_act {self.hidden_act!r} has no name in Google's code, which computes gelu_new "
                f"(outputs differ by about 1e-3); kept as {_HF_ACTIVATION_KEY!r} for the way back"
            )
            return [note]
        return []

    def _known(self) -> Json:
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "extra"}


_DEFAULTS = {item.name: item.default for item in dataclasses.fields(EncoderConfig)}


def read_config(path: Path) -> EncoderConfig:
    """A config file in either dialect, told apart by Hugging Face's model_type. Raises ConfigError."""
    from converters.files import read_small

    data = parse_json(read_small(path), str(path))
    dialect = "hf" if isinstance(data, dict) and "model_type" in data else "google"
    return EncoderConfig.from_json(data, str(path), dialect=dialect)


def from_google(data: Json) -> Json:
    """The settings of an `albert_config.json`, or some of them, in Hugging Face's terms."""
    data = dict(data)
    act = data.get("hidden_act")
    act = data.pop(_HF_ACTIVATION_KEY, None) or (_ACTIVATION_FROM_GOOGLE.get(act, act) if isinstance(act, str) else act)
    return data if act is None else data | {"hidden_act": act}


def parse_json(text: bytes, where: str) -> Any:
    """Decode JSON bytes; a ConfigError names the file, line and column."""
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text (byte {error.start}): not a JSON config") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where} is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not a usable JSON config: {error}") from None


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


def _preset(hidden: int, layers: int, heads: int, *, embedding: int = 128, intermediate: int = 0) -> EncoderConfig:
    return EncoderConfig(
        vocab_size=30000,
        embedding_size=embedding,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate or 4 * hidden,
    )


# The published v2 shapes (paper, table 2; google-research/albert README) and a tiny one for trying things out.
PRESETS: Mapping[str, EncoderConfig] = {
    "tiny": _preset(128, 4, 4, embedding=64, intermediate=512),
    "base": _preset(768, 12, 12),
    "large": _preset(1024, 24, 16),
    "xlarge": _preset(2048, 24, 16),
    "xxlarge": _preset(4096, 12, 64),
}
