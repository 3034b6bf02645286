"""Options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Force = Annotated[bool, typer.Option("--force", help="Replace the model that is at the target already.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="FORMAT", help="Format of the source, where its contents leave a doubt."),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings (albert_config.json, config.json, or some of their keys) for a model without: saved-model.",
    ),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="FORMAT", help="Format of the target, where its name does not tell.")
]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="A model of any format: directory, file or checkpoint prefix.", show_default=False
    ),
]
Target = Annotated[Path, typer.Argument(metavar="TARGET", help="Directory or file to write.", show_default=False)]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A model of any format, a published name (albert-base-v2), or a Hugging Face Hub repository id.",
        show_default=False,
    ),
]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Device = Annotated[DeviceName, typer.Option("--device", help="Where to compute; auto: a GPU if there is one.")]
