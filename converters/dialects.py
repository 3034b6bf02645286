"""The two JSON dialects of an EncoderConfig: Hugging Face's `config.json` and Google's (`bert_config.json`, …)."""

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


def config_from_json(data: Any, where: str, *, dialect: str, family: Family | None = None) -> EncoderConfig:
    """Read a config in the `google` or `hf` dialect; `where` names its file in errors (ConfigError).

    `family`: what the tensors say; by default what its model_type says, and ALBERT without one.
    """
    if not isinstance(data, dict):
        raise ConfigError(where, f"holds a JSON {type(data).__name__}, not an object of settings")
    family = family or named(data.get("model_type", "albert"), where)
    refused = config_refusals(data, may_decode=family.config.may_decode)
    if refused:
        raise ConfigError(where, "; ".join(refused))
    data = {key: value for key, value in data.items() if key not in _HF_REWRITTEN}
    if dialect == "google":
        data = from_google({"hidden_act": "gelu"} | data, family)
    stored, table = _stored(family), family.config
    absent = [stored[name] for name in REQUIRED if name in stored and stored[name] not in data]
    if absent:
        raise ConfigError(where, f"lacks {', '.join(absent)}")
    extra = {key: value for key, value in data.items() if key not in stored.values()}
    known = {**table.defaults, **{name: data[key] for name, key in stored.items() if key in data}}
    if known.get("classifier_dropout_prob", 0) is None and _defaults(family)["classifier_dropout_prob"] is not None:
        # Older transformers: that of the hidden states then.
        known["classifier_dropout_prob"] = known.get("hidden_dropout_prob", _defaults(family)["hidden_dropout_prob"])
    known |= {key: known[source] for key, source in table.derived.items()} | dict(table.fixed)
    if table.positions_follow_pad:
        pad = extra.setdefault("pad_token_id", table.pad_token_id)
        if not isinstance(pad, int) or isinstance(pad, bool) or pad < 0:
            raise ConfigError(where, f"pad_token_id is {pad!r}, not an id; positions are counted from it")
        known["position_offset"] = pad + 1
    try:
        return EncoderConfig(**known, family=family.model_type, extra=extra)
    except ConfigError as error:
        raise ConfigError(where, error.detail) from None


def to_google(config: EncoderConfig) -> Json:
    """Google's config: its own keys always, ours only where they differ from the default."""
    family, act = family_of(config), config.hidden_act
    data, table = _values(config, family), family.config
    for name in ("layer_norm_eps", "classifier_dropout_prob", "share"):
        key = _stored(family).get(name)
        if key in data and data[key] == _defaults(family)[name]:
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
    table = family_of(config).config
    if config.hidden_act in table.inexact:
        theirs = {google: name for name, google in table.google_activations.items()}
        computed = theirs.get(table.inexact[config.hidden_act], "one gelu, today the tanh approximation")
        note = (
            f"hidden_act {config.hidden_act!r} has no name in Google's code, which computes {computed} "
            f"(outputs differ by about 1e-3); kept as {_HF_ACTIVATION_KEY!r} for the way back"
        )
        return [note]
    return []


def from_google(data: Json, family: Family) -> Json:
    """The settings of a config of Google's, or some of them, in Hugging Face's terms."""
    data = dict(data)
    act = data.get("hidden_act")
    ours = {google: name for name, google in family.config.google_activations.items()}
    act = data.pop(_HF_ACTIVATION_KEY, None) or (ours.get(act, act) if isinstance(act, str) else act)
    return data if act is None else data | {"hidden_act": act}


def read_config(path: Path) -> EncoderConfig:
    """A config file in either dialect, distinguished by Hugging Face's model_type. Raises ConfigError.

    Without it the name of the file tells the family (`bert_config.json`), and any other is an ALBERT's.
    """
    data = parse_json(read_small(path), str(path))
    dialect = "hf" if isinstance(data, dict) and "model_type" in data else "google"
    named_so = [family for family in families().values() if family.config.google_file == path.name]
    family = named_so[0] if named_so and dialect == "google" else None
    try:
        return config_from_json(data, str(path), dialect=dialect, family=family)
    except ConfigError as error:
        if dialect == "google" and not named_so and not error.advice:
            error.advice = f"it has no model_type, so it is read as an ALBERT's; add one of {', '.join(families())}"
        raise


def _stored(family: Family) -> dict[str, str]:
    """The fields that are keys of the family's files, in order, and what they are called there."""
    table = family.config
    names = [name for name in _FIELDS if name not in (*_NO_KEYS, *table.derived, *table.fixed)]
    return {name: table.keys.get(name, name) for name in names}


def _defaults(family: Family) -> Json:
    return _FIELDS | dict(family.config.defaults)


def _values(config: EncoderConfig, family: Family) -> Json:
    return {key: getattr(config, name) for name, key in _stored(family).items()}
