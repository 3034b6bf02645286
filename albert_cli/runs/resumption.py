"""What is said where a run is to be resumed: that there is none yet, where it continues, or that it is finished."""

from __future__ import annotations

from pathlib import Path


def none_yet(out: Path) -> str:
    """There is no run."""
    return f"no run in {out} yet: this starts one"


def resuming(step: int) -> str:
    """It continues after so many steps."""
    return f"resuming from step {step}" if step else "no step was saved yet: starting from the first"


def finished(out: Path) -> str:
    """There is nothing left to do."""
    return f"{out}: finished already"
