"""The directory of a run: the main process holds it (albert_cli.runs.claim), for all processes of the run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from albert_cli.runs.claim import Claim, Inputs, claimed
from albert_cli.runs.processes import on_main, peers


@dataclass(frozen=True)
class RunDirectory:
    """A run is built in `work`; the main process has the `claim`, the others None."""

    work: Path
    claim: Claim | None

    def begin(self) -> None:
        """Make the place of a new run; called when all that can fail has been tried."""
        if self.claim:
            self.claim.begin()


@contextlib.contextmanager
def prepare_run_directory(
    accelerator: Accelerator,
    out: Path,
    *,
    ours: re.Pattern[str],
    inputs: Callable[[], Inputs],
    resume: bool,
    force: bool,
    members: Sequence[str] = (),
) -> Iterator[RunDirectory]:
    """Refuse an existing run, hold the directory, and put a run that ends without an error in its place.

    Arguments and errors are those of `claim.claimed`; `inputs` is called by the main process alone, and every process
    gets its error. Raises LostProcessError where another process of the run ends.
    """
    with contextlib.ExitStack() as held, peers(accelerator):
        claims: list[Claim] = []

        def claim() -> Path:
            place = claimed(out, ours=ours, inputs=inputs(), resume=resume, force=force, members=members)
            claims.append(held.enter_context(place))
            return claims[0].work

        work = on_main(accelerator, claim)
        yield RunDirectory(work, claims[0] if claims else None)
        if claims:
            claims[0].finish()
        accelerator.wait_for_everyone()
