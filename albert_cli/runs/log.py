"""The log of a run: a JSON line for each record, which a resumed run continues as if it had never stopped."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Protocol

from accelerate import Accelerator
from torch import nn

from albert_cli.errors import RunError
from albert_cli.runs.checkpointing import Progress, trained_tensors
from albert_cli.runs.events import Ended, Evaluated, Logged, Record, Report, Trained, is_record, records_of
from albert_cli.runs.files import LOG
from albert_cli.runs.processes import on_main
from albert_cli.strict_json import strict_json
from converters.files import file_errors


class LoggedJob(Protocol):
    """A job whose records are kept in its directory and passed to a listener, by the main process alone."""

    directory: Path
    accelerator: Accelerator

    @property
    def report(self) -> Report:
        """The listener."""


def add(job: LoggedJob, progress: Progress, event: Logged) -> None:
    """Write an event's record at the end of the log; the progress then knows how long the log is."""
    if job.accelerator.is_main_process:
        line = (strict_json(event.record()) + "\n").encode()
        with open(job.directory / LOG, "ab") as file:
            file.write(line)
            progress.log_bytes = file.tell()
        progress.log_sha256 = _digest(progress.log_sha256, line)
        job.report(event)


def cut(job: LoggedJob, progress: Progress) -> None:
    """Forget what was logged after the saved state: it is about to happen again.

    RunError, and nothing is changed, where what was logged before is not there whole.
    """
    on_main(job.accelerator, lambda: _cut(job.directory / LOG, progress))


def _digest(before: str, line: bytes) -> str:
    """The digest of a log from that of the lines before its last one."""
    return hashlib.sha256(before.encode() + line).hexdigest()


def _cut(path: Path, progress: Progress) -> None:
    size = progress.log_bytes
    with file_errors(path):
        kept = path.read_bytes()[:size] if path.exists() else b""
        if len(kept) < size:
            raise RunError(
                f"{path}: has {len(kept)} bytes, but the run had logged {size} when its state was saved; restore the "
                "file, or restart with --force"
            )
        try:
            _records(kept, complete=True)
        except ValueError as error:
            raise RunError(f"{path}: damaged: {error}; restore the file, or restart with --force") from None
        found = functools.reduce(_digest, kept.splitlines(keepends=True), "")
        if progress.log_sha256 not in ("", found):
            raise RunError(f"{path}: not what the run had logged; restore the file, or restart with --force")
        progress.log_sha256 = found
        with open(path, "ab") as file:
            file.truncate(size)


def read_log(out: Path) -> list[Record]:
    """The records of a run's metrics.jsonl; RunError where there are none, or something else."""
    path = out / LOG
    if not path.exists():
        raise RunError(f"{path}: no such file, so no log of a run; name a directory that albert finetune wrote")
    with file_errors(path):
        content = path.read_bytes()
    try:
        return _records(content)
    except ValueError as error:
        raise RunError(
            f"{path}: no readable log of a run: {error}; restore the file, or restart with --force"
        ) from None


def read_finished_log(out: Path) -> list[Record]:
    """The records of a run that has just ended; RunError where those of its evaluations or its end are missing."""
    records = read_log(out)
    missing = [kind.NAME for kind in (Trained, Evaluated) if not records_of(records, kind)]
    if missing or records[-1]["event"] != Ended.NAME:
        raise RunError(f"{out / LOG}: lacks records ({', '.join([*missing, Ended.NAME])}); restart with --force")
    return records


def _records(content: bytes, *, complete: bool = False) -> list[Record]:
    """The records of a log; ValueError names the first line that is none, or not `complete`."""
    lines = content.splitlines(keepends=True)
    found = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not is_record(record) or (complete and not line.endswith(b"\n")):
            raise ValueError(f"line {number} is no record")
        found.append(record)
    return found


def weights_sha256(model: nn.Module) -> str:
    """The SHA-256 of all that training changes, to compare the ends of two runs."""
    sha = hashlib.sha256()
    for tensor in trained_tensors(model).values():
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
