"""The log of a run: a JSON line for each record, which a resumed run continues as if it had never stopped."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Protocol

from accelerate import Accelerator
from torch import nn

from albert_cli.errors import RunError
from albert_cli.runs.checkpointing import Progress, trained_tensors
from albert_cli.runs.events import Logged, Record, Report
from albert_cli.runs.files import LOG


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
        with open(job.directory / LOG, "ab") as file:
            file.write((json.dumps(_strict(event.record()), allow_nan=False) + "\n").encode())
            progress.log_bytes = file.tell()
        job.report(event)


def _strict(record: Record) -> Record:
    """JSON has no NaN and no infinity: null stands for them."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }


def cut(job: LoggedJob, progress: Progress) -> None:
    """Forget what was logged after the saved state: it is about to happen again."""
    if job.accelerator.is_main_process:
        with open(job.directory / LOG, "ab") as file:
            file.truncate(progress.log_bytes)


def read_log(out: Path) -> list[Record]:
    """The records of a run's metrics.jsonl; RunError where there are none."""
    try:
        return [json.loads(line) for line in (out / LOG).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise RunError(f"{out / LOG}: no readable log of a run ({error})") from None


def weights_sha256(model: nn.Module) -> str:
    """The SHA-256 of all that training changes, to compare the ends of two runs."""
    sha = hashlib.sha256()
    for tensor in trained_tensors(model).values():
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
