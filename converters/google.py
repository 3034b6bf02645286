"""Google's files beside the tensors: the config, which also has the tokenizer's settings, and the vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig, Json, dump_json, parse_json
from converters.dialects import config_from_json, notes_for_google, to_google
from converters.families import families
from converters.tokenizers.files import SETTINGS

CONFIG = families()["albert"].config.google_file
SPIECE, VOCAB = "30k-clean.model", "30k-clean.vocab"


def parse_config(data: bytes, where: str) -> tuple[EncoderConfig, Json]:
    """A config of Google's and the tokenizer's settings in it; ConfigError for what is none."""
    parsed, settings = split_settings(parse_json(data, where))
    return config_from_json(parsed, where, dialect="google"), settings


def config_of(checkpoint: Checkpoint) -> Json:
    """The config of a checkpoint in Google's terms, with the tokenizer's settings."""
    return to_google(checkpoint.config) | checkpoint.tokenizer.settings


def files(checkpoint: Checkpoint, *, wordpiece: str) -> dict[str, bytes]:
    """The config and the vocabularies by the names of their files; `wordpiece` is that of a Chinese model's list."""
    tokenizer = checkpoint.tokenizer
    found = {
        CONFIG: dump_json(config_of(checkpoint)),
        SPIECE: tokenizer.model(),
        VOCAB: tokenizer.lines(),
        wordpiece: tokenizer.wordpiece,
    }
    return {name: content for name, content in found.items() if content is not None}


def notes(checkpoint: Checkpoint) -> Sequence[str]:
    """What Google's programs would do otherwise with this model, in words."""
    return notes_for_google(checkpoint.config) + checkpoint.tokenizer.notes_for_google()


def split_settings(data: Any) -> tuple[Any, Json]:
    """Take the tokenizer's settings out of Google's config, which keeps keys it does not know."""
    if not isinstance(data, dict):
        return data, {}
    settings = {key: data[key] for key in SETTINGS if key in data}
    return {key: value for key, value in data.items() if key not in settings}, settings
