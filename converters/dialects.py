"""The two JSON dialects of an EncoderConfig: Hugging Face's `config.json` and Google's (`albert_config.json`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from converters.config import REQUIRED, EncoderConfig, Json, parse_json
from converters.config_keys import config_refusals
from converters.errors import ConfigError
from converters.families import families, family_of, named
from converters.family import Family
from converters.files import read_small

# Google's code may have no name for an activation: the true one is kept beside the one that is written.
_HF_ACTIVATION_KEY = "hf_hidden_act"
# Written with every Hugging Face directory, so never carried over.
_HF_REWRITTEN = ("model_type", "dtype", "torch_dtype")
_FIELDS = {item.name: item.default for item in dataclasses.fields(EncoderConfig) if item.name != "extra"}
# Never a key of a file: the first is model_type there, the second follows from the family.
_NO_KEYS = ("family", "position_offset")


def config_from_json(data: Any, where: str, *, dialect: str) -> EncoderConfig:
    """Read a config in the `google` or `hf` dialect; `where` names its file in errors (ConfigError)."""
    if not isinstance(data, dict):
        raise ConfigError(where, f"holds a JSON {type(data).__name__}, not an object of settings")
    family = named(data.get("model_type", "albert"), where)
    refused = config_refusals(data)
    if refused:
        raise ConfigError(where, "; ".join(refused))
    data = {key: value for key, value in data.items() if key not in _HF_REWRITTEN}
    if dialect == "google":
        data = from_google({"hidden_act": "gelu"} | data, family.model_type)
    stored, table = _stored(family), family.config
    absent = [key for key in REQUIRED if key in stored and key not in data]
    if absent:
        raise ConfigError(where, f"lacks {', '.join(absent)}")
    extra = {key: value for key, value in data.items() if key not in stored}
    if data.get("classifier_dropout_prob", 0) is None:  # older transformers: that of the hidden states then
        data["classifier_dropout_prob"] = data.get("hidden_dropout_prob", _defaults(family)["hidden_dropout_prob"])
    known = {**table.defaults, **{key: value for key, value in data.items() if key in stored}}
    known |= {key: known[source] for key, source in table.derived.items()} | dict(table.fixed)
    try:
        return EncoderConfig(**known, family=family.model_type, extra=extra)
    except ConfigError as error:
        raise ConfigError(where, error.detail) from None


def to_google(config: EncoderConfig) -> Json:
    """Google's config: its own keys always, ours only where they differ from the default."""
    family, act = family_of(config), config.hidden_act
    data, table = _values(config, family), family.config
    for key in ("layer_norm_eps", "classifier_dropout_prob", "share"):
        if key in data and data[key] == _defaults(family)[key]:
            del data[key]
    if act in table.inexact:
        data["hidden_act"] = table.inexact[act]
        data[_HF_ACTIVATION_KEY] = act
    else:
        data["hidden_act"] = table.google_activations.get(act, act)
    return data | dict(config.extra)


def to_hf(config: EncoderConfig) -> Json:
    """Hugging Face's `config.json`, less `architectures` and `dtype`, which depend on the weights."""
    data = _values(config, family_of(config))
    if config.share == "all":
        data.pop("share", None)
    return {"model_type": config.family} | data | dict(config.extra)


def notes_for_google(config: EncoderConfig) -> list[str]:
    """What Google's own code would compute differently from this config, in words."""
    if config.hidden_act in family_of(config).config.inexact:
        note = (
            f"hidden_act {config.hidden_act!r} has no name in Google's code, which computes gelu_new "
            f"(outputs differ by about 1e-3); kept as {_HF_ACTIVATION_KEY!r} for the way back"
        )
        return [note]
    return []


def from_google(data: Json, model_type: str = "albert") -> Json:
    """The settings of a config of Google's, or some of them, in Hugging Face's terms."""
    data = dict(data)
    act = data.get("hidden_act")
    ours = {google: name for name, google in families()[model_type].config.google_activations.items()}
    act = data.pop(_HF_ACTIVATION_KEY, None) or (ours.get(act, act) if isinstance(act, str) else act)
    return data if act is None else data | {"hidden_act": act}


def read_config(path: Path) -> EncoderConfig:
    """A config file in either dialect, distinguished by Hugging Face's model_type. Raises ConfigError."""
    data = parse_json(read_small(path), str(path))
    dialect = "hf" if isinstance(data, dict) and "model_type" in data else "google"
    return config_from_json(data, str(path), dialect=dialect)


def _stored(family: Family) -> list[str]:
    """The fields that are keys of the family's files, in order."""
    return [key for key in _FIELDS if key not in (*_NO_KEYS, *family.config.derived, *family.config.fixed)]


def _defaults(family: Family) -> Json:
    return _FIELDS | dict(family.config.defaults)


def _values(config: EncoderConfig, family: Family) -> Json:
    return {key: getattr(config, key) for key in _stored(family)}
