"""The card of a pretrained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from albert_cli.cards.origin import Origin
from albert_cli.cards.page import Card, Results, named
from albert_cli.console import figure
from albert_cli.markdown import code, plain, table
from albert_cli.pretraining.settings import PATHS, PretrainSettings
from albert_cli.registry import resolve
from converters import convert, proof
from converters.families import family_of


def text_of(
    out: Path, name: str, settings: PretrainSettings, summary: Mapping[str, Any], run: Mapping[str, Any]
) -> str:
    """The page of the model in `out`, which is called `name`; `run`: the settings and hashes of its run.toml."""
    checkpoint = convert.load(out)
    origin = Origin.of(resolve.resolve(settings.init)) if settings.init else Origin("random weights")
    start = f" from {origin.shown}" if settings.init else ""
    said = (
        f"{family_of(checkpoint.config).title}, trained by `albert pretrain`{start}: "
        f"{summary['steps']:,} steps, {summary['tokens_seen']:,} tokens."
    )
    if settings.teacher:
        said += f" Its sentence vectors were learnt from those of {code(Path(settings.teacher).name)}."
    held_out = dict(summary["held_out"])
    hashes = {"weights": proof.weights_digest(checkpoint, proof.tensor_digests(checkpoint)), **run["hashes"]}
    left_out = (*PATHS, "init")
    shown = [[key, code(value)] for key, value in run["settings"].items() if key not in left_out]
    sections = [
        ("Results", table(["figure", "held-out documents"], [[key, figure(item)] for key, item in held_out.items()])),
        ("Training", table(["setting", "value"], shown)),
        ("SHA-256", table(["of", ""], [[plain(key), code(sha)] for key, sha in hashes.items()])),
    ]
    measured = Results(held_out, "held-out documents of the corpus", "test")
    return Card(named(Path(name)), said, checkpoint, origin, sections, measured, derived=bool(settings.init)).text()
