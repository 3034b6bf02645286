"""Google's files beside the tensors: the config, which also has the tokenizer's settings, and the vocabularies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig, Json, dump_json, parse_json
from converters.dialects import config_from_json, from_google, notes_for_google, to_google, to_hf
from converters.errors import ConfigError
from converters.families import families, family_of, find
from converters.family import Family
from converters.files import read_small
from converters.tokenizers.files import SETTINGS

SPIECE, VOCAB = "30k-clean.model", "30k-clean.vocab"
VOCAB_JSON, MERGES = "vocab.json", "merges.txt"
# What the configs of all families are called, as a pattern.
CONFIGS = "|".join(
    re.escape(name)
    for family in families().values()
    for name in (family.config.google_file, *(part.config for part in family.parts))
    if name
)


def config_file(family: Family) -> str:
    """What the config of a family is called in a directory of Google's; Hugging Face's name where Google has none."""
    return family.config.google_file or "config.json"


def parse_config(
    data: bytes, where: str, names: Iterable[str], *, dialect: str = "google"
) -> tuple[EncoderConfig, Json]:
    """A config of Google's (Hugging Face's of a model that Google has not), and the tokenizer's settings in it.

    `names`: those of the tensors, which tell the family where the config does not. Raises ConfigError for what is no
    config, SpecError where the family cannot be told.
    """
    parsed, settings = split_settings(parse_json(data, where))
    family = find(parsed.get("model_type") if isinstance(parsed, dict) else None, names, where)
    dialect = dialect if family.config.google_file else "hf"
    return config_from_json(parsed, where, dialect=dialect, family=family), settings


def config_of(checkpoint: Checkpoint) -> Json:
    """The config of a checkpoint in Google's terms, or Hugging Face's of a model that Google has not; with the
    tokenizer's settings."""
    family = family_of(checkpoint.config)
    written = to_google if family.config.google_file else to_hf
    tokenizer, settings = checkpoint.tokenizer, {}
    if tokenizer.kind == "wordpiece":  # said even where it is as usual: else it would be inferred
        said = {"do_lower_case": tokenizer.lowercase} if family.tokenizer.casing != "lower" else {}
        settings = said | ({"drop_category_c": tokenizer.drop_category_c} if family.tokenizer.drop_category_c else {})
    return written(checkpoint.config) | tokenizer.settings | settings


def files(checkpoint: Checkpoint, *, wordpiece: str) -> dict[str, bytes]:
    """The config and the vocabularies by the names of their files; `wordpiece` is that of a WordPiece list.

    The config of a model beside another one has a name of its own (`Part.config`).
    """
    tokenizer, family = checkpoint.tokenizer, family_of(checkpoint.config)
    others = {
        part.config: dump_json(config_of(model))
        for model in checkpoint.beside
        for part in family.parts
        if part.config and part.component in model.components
    }
    found = {
        config_file(family): dump_json(config_of(checkpoint)),
        **others,
        SPIECE: tokenizer.model(),
        VOCAB: tokenizer.lines(),
        wordpiece: tokenizer.wordpiece,
        VOCAB_JSON: tokenizer.vocab_json,
        MERGES: tokenizer.merges,
    }
    return {name: content for name, content in found.items() if content is not None}


def settings_in(path: Path | None, family: Family) -> tuple[Json, Json]:
    """The settings in a config of either dialect, distinguished by model_type, in Hugging Face's terms, and the
    tokenizer's; they may be some of them, and there are none without a file."""
    if path is None:
        return {}, {}
    data, settings = split_settings(parse_json(read_small(path), str(path)))
    if not isinstance(data, dict):
        raise ConfigError(path, f"holds a JSON {type(data).__name__}, not an object of settings")
    return data if "model_type" in data else from_google(data, family), settings


def model_type_in(path: Path | None) -> object:
    """The model_type in a file of settings; None without one."""
    data = None if path is None else parse_json(read_small(path), str(path))
    return data.get("model_type") if isinstance(data, dict) else None


def find_config(directory: Path, family: Family, own: str | None = None) -> Path | None:
    """The config beside Google's weights: that of the family, or Hugging Face's; None where there is none.

    `own`: the only name that it can have, beside the config of another model.
    """
    names = (own,) if own else (config_file(family), "config.json")
    return next((path for name in names if (path := directory / name).exists()), None)


def unread(directory: Path, family: Family) -> list[str]:
    """Notes on configs beside the weights that are another family's."""
    others = [other for other in families().values() if other is not family and other.config.google_file]
    names = [(other.config.google_file or "", next(iter(other.titles))) for other in others]
    more = "; --model-config takes its settings" if family.config.google_config_follows else ""
    return [
        f"{name}, which a {title} has, is not read with {next(iter(family.titles))} weights{more}"
        for name, title in names
        if (directory / name).exists()
    ]


def notes(checkpoint: Checkpoint) -> Sequence[str]:
    """What Google's programs would do otherwise with this model, in words."""
    return notes_for_google(checkpoint.config) + checkpoint.tokenizer.notes_for_google()


def split_settings(data: Any) -> tuple[Any, Json]:
    """Take the tokenizer's settings out of Google's config, which keeps keys it does not know."""
    if not isinstance(data, dict):
        return data, {}
    settings = {key: data[key] for key in SETTINGS if key in data}
    return {key: value for key, value in data.items() if key not in settings}, settings
