"""The names of a run's files, in one place: `albert --help` and an interruption read them without torch."""

from __future__ import annotations

import re

RUN, SUMMARY, LOG, STATE = "run.toml", "summary.json", "metrics.jsonl", "state.safetensors"
MODEL = ("config.json", "model.safetensors")
CURVES, TENSORBOARD = "curves.png", "tensorboard"


def pattern(more: str = "") -> re.Pattern[str]:
    """Names that a run may leave in its directory, those of its model included: all that --force removes.

    `more`: a pattern of the names that one kind of run adds.
    """
    from converters.tokenizers.files import FILE_NAMES

    own = (RUN, SUMMARY, LOG, STATE, CURVES, *MODEL)
    return re.compile("|".join(filter(None, [*map(re.escape, own), FILE_NAMES, more])))
