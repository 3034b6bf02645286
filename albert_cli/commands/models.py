"""albert models: which models there are to name."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from albert_cli import console, options

if TYPE_CHECKING:
    from albert_cli.registry.catalogue import Entry

app = typer.Typer()

_HEADERS = ("language", "licence", "parameters", "MB in float32")
_KINDS = {
    "built-in": ("built-in model", "MB here"),
    "hub": ("name, for any command", "MB in the cache"),
    "archive": ("archive, to download", "from"),
}


@app.command(rich_help_panel="Models")
def models(json: options.Json = False) -> None:
    """List the models that can be named: published ones, and those in the Hugging Face Hub's cache.

    Works offline. Parameters are those of the encoder and its embeddings; megabytes those of the weights in float32. A
    name also works without its owner: bert-base-uncased is google-bert/bert-base-uncased.

    Examples:

        albert models

        albert models --json
    """
    from albert_cli.registry import catalogue

    entries = catalogue.entries()
    if json:
        console.print_json([dataclasses.asdict(entry) for entry in entries])
        return
    for kind, (what, last) in _KINDS.items():
        rows = [_row(entry) for entry in entries if entry.kind == kind]
        if rows:
            console.print_table(rows, (what, *_HEADERS, last), right=(3, 4) if kind == "archive" else (3, 4, 5))
            console.say()
    console.say("Fetch and convert by name: albert convert albert-base-v2 out/")
    console.say("Of an archive, once downloaded: albert convert albert_base_v2.tar.gz out/")


def _row(entry: Entry) -> tuple[str, ...]:
    parameters = "" if entry.parameters is None else f"{entry.parameters:,}"
    here = "" if entry.bytes_here is None else _megabytes(entry.bytes_here)
    last = (entry.url or "") if entry.kind == "archive" else here
    size = "" if entry.bytes is None else _megabytes(entry.bytes)
    return (entry.name, entry.language or "", entry.licence or "", parameters, size, last)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f}"
