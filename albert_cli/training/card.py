"""The card of a fine-tuned model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from albert_cli.cards.origin import Origin
from albert_cli.cards.page import Card, Results, named
from albert_cli.console import figure
from albert_cli.markdown import code, plain, table
from albert_cli.tasks.layouts.glue import REPOSITORY, Glue
from albert_cli.training.run_directory import HEAD
from albert_cli.training.settings import PATHS
from albert_cli.training.splits import Prepared
from converters import convert, proof

# The Hub's tasks by the command that asks a model, where its head is not among the weights.
_OWN_HEAD = "text-classification"
_SHOWN_LABELS = 20


def text_of(out: Path, name: str, prepared: Prepared, origin: Origin, summary: dict[str, Any]) -> str:
    """The page of the best model of a run in `out`, which is called `name`."""
    task, info, checkpoint = prepared.task, prepared.info, convert.load(out)
    own_head = (out / HEAD).is_file()
    dev = {key: value for key, value in summary["dev"].items() if isinstance(value, float)}
    said = (
        f"{plain(task.name)}: fine-tuned by `albert finetune` from {origin.shown}. The model is that of step "
        f"{summary['best_step']} of {summary['steps']}, chosen by {task.selection_metric} on the development set."
    )
    if info.labels:
        more = ", …" if len(info.labels) > _SHOWN_LABELS else ""
        said += f" Labels: {', '.join(map(code, info.labels[:_SHOWN_LABELS]))}{more}."
    settings = {key: value for key, value in info.settings.items() if value not in (None, False, "")}
    shown = [[key, code(value)] for key, value in settings.items() if key not in (*PATHS, "task")]
    hashes = {"weights": proof.weights_digest(checkpoint, proof.tensor_digests(checkpoint)), **info.hashes}
    sections = [
        ("Results", table(["metric", "development set"], [[key, figure(value)] for key, value in dev.items()])),
        ("Training", table(["setting", "value"], shown)),
        ("SHA-256", table(["of", ""], [[plain(key), code(sha)] for key, sha in hashes.items()])),
    ]
    results = Results({key: dev[key] for key in task.metrics if key in dev}, *_dataset(prepared))
    return Card(
        named(Path(name)),
        said,
        checkpoint,
        origin,
        sections,
        results,
        task=_OWN_HEAD if own_head else None,
        own_head=own_head,
    ).text()


def _dataset(prepared: Prepared) -> tuple[str, str, str | None, str | None]:
    """The development set's name and split, and where the Hub has it: that is known of GLUE, read as it is."""
    layout, settings = prepared.task.layout, prepared.info.settings
    own = any(settings.get(name) for name in ("train", "dev"))
    if isinstance(layout, Glue) and not own and "dev" in prepared.dev:
        return prepared.task.name, layout.hub.splits["dev"], REPOSITORY, layout.hub.directory
    files = {Path(part.examples.where).name for part in prepared.dev.values()}
    return ", ".join(sorted(files)), "dev", None, None
