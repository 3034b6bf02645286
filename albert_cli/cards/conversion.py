"""The card of a model that `albert convert` wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from albert_cli.cards.origin import Origin
from albert_cli.cards.page import Card, named
from albert_cli.markdown import code, table
from albert_cli.registry.resolve import Model
from converters import proof
from converters.checkpoint import Checkpoint
from converters.convert import Report
from converters.families import family_of


def page_of(model: Model, target: Path) -> Callable[[Checkpoint, Report], str]:
    """What makes the page of what was written of a model, which has the name of its directory."""
    origin = Origin.of(model)

    def page(written: Checkpoint, report: Report) -> str:
        how = "every tensor was read back from the new files and is equal to the source's, bit for bit"
        if report.cast is not None:
            how = (
                f"cast to {report.cast.dtype}; every tensor was read back from the new files and is what the cast gave"
            )
        family = family_of(written.config).title
        summary = f"{family}, converted by `albert` from {origin.shown}; {how}."
        rows = {
            "source format": code(report.source_format),
            "written as": code(report.target_format),
            "tensors": f"{len(report.digests):,}",
            "parameters": f"{report.parameters:,}",
            "tokenizer": code(report.tokenizer),
            "SHA-256 of the weights": code(proof.weights_digest(written, report.digests)),
        }
        if report.cast is not None:
            rows["largest error of the cast"] = f"{report.cast.max_abs_error:.3g}"
        rows |= {f"left out ({count:,})": code(what) for what, count in report.dropped.items()}
        shown = table(["", ""], [[name, value] for name, value in rows.items()])
        below = f"{shown}\n\n`albert inspect` shows that SHA-256 of any copy, in whatever format."
        return Card(named(target), summary, written, origin, [("Proof", below)]).text()

    return page
