"""Ctrl-C and SIGTERM: what is reported of the interrupted work, and how to resume it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from albert_cli.runs.files import RUN, STATE, SUMMARY

NOTHING = "nothing was left half-written, and there is nothing to resume"


# What is kept, and the command that resumes it; none where it is all done.
Kept = tuple[str, str | None]


class Interrupted(BaseException):
    """A signal asks to stop. Not KeyboardInterrupt, which typer turns into a silent exit."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass
class Stop:
    """The signal that asked to stop; `kept` and `command` as `keeping` describes them."""

    number: int
    kept: str | None = None
    command: str | None = None


_asked = 0
_stopping: Stop | None = None
_MOMENT = 0.02  # in which a destructor ends


def handle() -> None:
    """Raise Interrupted in the main thread at the first signal; a third one ends the process at once."""
    global _asked, _stopping
    _asked, _stopping = 0, None
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: object) -> None:
    global _asked, _stopping  # noqa: PLW0603
    _asked += 1
    if _asked == 1:
        _stopping = Stop(number)
        sys.unraisablehook = _pass_over
        raise Interrupted(number)
    if _asked > 2:
        os._exit(128 + number)
    # A second exception during the cleanup would leave unfinished files behind.
    with contextlib.suppress(OSError):
        from albert_cli import console

        clear = b"" if console.plain(sys.stderr) else b"\r\x1b[2K"  # a bar or a spinner may be there
        os.write(2, clear + b"albert: stopping; once more ends it without clearing away\n")


def _pass_over(unraisable: sys.UnraisableHookArgs) -> None:
    """What half-done work says in its destructors is of no use; where one swallowed the signal, it is raised again."""
    global _asked  # noqa: PLW0603
    if isinstance(unraisable.exc_value, Interrupted):
        _asked = 0
        again = threading.Timer(_MOMENT, os.kill, (os.getpid(), unraisable.exc_value.number))
        again.daemon = True
        again.start()


def stopping() -> Stop | None:
    """What asked to stop, if anything did.

    To be asked of whatever error ends the work: libraries turn the exception into errors of their own, or fail at
    clearing away because of it.
    """
    return _stopping


def over() -> None:
    """Nothing is left to be cleared away: from now on a signal ends the process, without a word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def keeping(describe: Callable[[], Kept]) -> Iterator[None]:
    """Work of which something is kept when it is interrupted: `describe` gives what, and the command to run."""
    try:
        yield
    except BaseException:
        if (stop := stopping()) and stop.kept is None:
            with contextlib.suppress(Exception):  # a fault in what is said must not hide the interruption
                stop.kept, stop.command = describe()
        raise


def again(*, resume: bool) -> str:
    """The command line, quoted to be pasted: with --resume, and so without --force, or as it was."""
    words = [word for word in sys.argv[1:] if not (resume and word == "--force")]
    if resume and "--resume" not in words:
        words.append("--resume")
    return shlex.join(["albert", *words])


def of_run(out: Path, *, resume: bool) -> Callable[[], Kept]:
    """Tells what is kept of a training run, or of several in directories of their own below `out`.

    To be made before the run is: what lies in `out` by then is part of it only where the run is resumed.
    """
    from albert_cli.runs.claim import current

    before = set() if resume else _begun(out)

    def describe() -> Kept:
        work = current(out)
        places = {path for path, _ in _begun(work) - before}
        done = sorted(str(path) for path in places if (path / SUMMARY).is_file())
        saved = [
            f"step {_step(path / STATE)} is saved in {path}"
            for path in sorted(places)
            if (path / STATE).is_file() and str(path) not in done
        ]
        if str(out) in done:
            return f"the run in {out} is complete", None
        kept = [f"{', '.join(done)}: complete"] if done else []
        if not (kept or saved):
            return "no step was saved yet, so it starts again from the first", again(resume=bool(places) or resume)
        old = [f"{out} keeps the old run until this one is finished"] if work != out else []
        return f"{'; '.join([*kept, *saved, *old])}; resume with", again(resume=True)

    return describe


def _begun(out: Path) -> set[tuple[Path, int]]:
    """The runs in a directory and in those below it, with the times at which they started and finished."""
    places = [out, *(path for path in out.iterdir() if path.is_dir())] if out.is_dir() else []
    files = [path / name for path in places for name in (RUN, SUMMARY)]
    return {(file.parent, file.stat().st_mtime_ns) for file in files if file.is_file()}


def _step(state: Path) -> int:
    """The step that a state was saved at; its header is JSON, its length before it."""
    with state.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, 2**26)))
    return int(json.loads(header["__metadata__"]["progress"])["step"])


def of_vectors(out: Path) -> Kept:
    """What is kept of a run of albert embed."""
    parts = out.with_name(f"{out.name}.parts")
    blocks = len(list(parts.glob("part-*.arrow"))) if parts.is_dir() else 0
    if blocks:
        kept = f"{blocks:,} block{'s' * (blocks > 1)} of rows {'are' if blocks > 1 else 'is'} kept in {parts}"
        return f"{kept}; resume with", again(resume=True)
    return "no block of rows was finished yet, so it starts again from the first", again(resume=False)
