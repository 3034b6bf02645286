"""What the GLUE server takes: eleven TSV files in one zip, `index` and `prediction`, labels as each task has them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albert_cli.errors import DataError
from converters.staging import atomic_write, check_target
from converters.zip_members import Archive

if TYPE_CHECKING:
    from numpy.typing import NDArray

# File name -> rows, header not counted (gluebenchmark.com's test sets).
ROWS: Mapping[str, int] = {
    "AX.tsv": 1104,
    "CoLA.tsv": 1063,
    "MNLI-m.tsv": 9796,
    "MNLI-mm.tsv": 9847,
    "MRPC.tsv": 1725,
    "QNLI.tsv": 5463,
    "QQP.tsv": 390965,
    "RTE.tsv": 3000,
    "SST-2.tsv": 1821,
    "STS-B.tsv": 1379,
    "WNLI.tsv": 146,
}


def cells(filename: str, values: NDArray[Any], labels: Sequence[str]) -> list[str]:
    """Predictions as they stand in a file: the label's name, or a score within 0 to 5."""
    if filename == "STS-B.tsv":
        return [f"{min(5.0, max(0.0, float(value))):.3f}" for value in values]
    return [labels[int(value)] for value in values]


def write_tsv(path: Path, ids: Sequence[str], predictions: Sequence[str]) -> None:
    """Write one file of a submission."""
    lines = [f"{number}\t{cell}\n" for number, cell in zip(ids, predictions, strict=True)]
    with atomic_write(path, force=True, ours=None) as beside:
        beside.write_text("index\tprediction\n" + "".join(lines), encoding="utf-8")


def check(target: Path, *, force: bool, sources: Sequence[Path] = ()) -> None:
    """Refuse a file that cannot be the zip, before any work is done (DataError, TargetError)."""
    if target.suffix.lower() != ".zip":
        raise DataError(f"{target}: a submission is a .zip file; name such a file")
    check_target(target, force=force, sources=sources, ours=None)


def pack(files: Mapping[str, Path], target: Path, *, force: bool = False) -> list[str]:
    """Put the files into the zip, all eleven; notes name files whose length the server will not accept."""
    check(target, force=force, sources=list(files.values()))
    notes = []
    with atomic_write(target, force=force, ours=None) as beside, open(beside, "wb") as file:
        archive = Archive(file, zipfile.ZIP_DEFLATED)
        for name in sorted(ROWS):
            text = files[name].read_bytes()
            rows = text.count(b"\n") - 1
            if rows != ROWS[name]:
                notes.append(f"{name} has {rows} rows where the GLUE server wants {ROWS[name]}")
            archive.add(name, [text], size=len(text), mode=0o644)
        archive.finish()
    return notes
