"""KNOWN_KEYS: every setting of a model directory that is known, whichever of its files says it."""

from __future__ import annotations

import dataclasses

from converters.config_keys import CONFIG_KEYS
from converters.known_keys import Key
from converters.sentence_keys import SENTENCE_KEYS
from converters.tokenizers.keys import TOKENIZER_KEYS, USUAL

KNOWN_KEYS: tuple[Key, ...] = (
    *CONFIG_KEYS,
    *SENTENCE_KEYS,
    *(
        dataclasses.replace(key, harmless=USUAL.get(key.key, ()) if key.treatment == "refused" else ())
        for key in TOKENIZER_KEYS
    ),
)
