"""Who may write into a run's directory, and how a run takes the place of another one.

With --force the old run stays as it is while the new one is built in `RUN/.replacement`; when that is finished its
files take the place of the old ones. So a run that fails or is killed leaves the old one whole, and --resume
resumes the new one. A lock keeps a second process out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from albert_cli import locks
from albert_cli.declared import read_facts
from albert_cli.errors import RunError, RunUsageError
from albert_cli.runs.files import RUN, TENSORBOARD
from converters.errors import TargetError
from converters.files import file_errors
from converters.pages import README, is_free
from converters.staging import atomic_write, check_target

REPLACEMENT, _PLACING = ".replacement", "placing.json"
_EVENTS = re.compile(r"events\.out\.tfevents\..*")


@dataclass(frozen=True)
class Inputs:
    """What a run reads. `models` are directories or files of models; neither may lie in the other's directory."""

    models: Sequence[Path] = ()
    data: Sequence[Path] = ()


@dataclass(frozen=True)
class _Placing:
    """What placing.json says of a finished run that takes the old one's place."""

    files: tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """A run's directory that is held: `out` as the user named it, `work` where the run is built."""

    out: Path
    work: Path
    ours: re.Pattern[str]
    force: bool

    def begin(self) -> None:
        """Make the place of the run, empty but for others' files; called when all that can fail has been tried."""
        self.work.mkdir(parents=True, exist_ok=True)
        if self.force:
            for path in _files(self.out / REPLACEMENT):
                path.unlink()
            _remove_empty(self.out / REPLACEMENT, keep=self.work)

    def finish(self) -> None:
        """Put a finished run in the place of the old one."""
        if self.work != self.out:
            for page in self.work.rglob(README):  # one that the user wrote, or changed, stays
                if not is_free(self.out / page.parent.relative_to(self.work)):
                    page.unlink()
            names = [path.relative_to(self.work).as_posix() for path in _files(self.work)]
            with atomic_write(self.work / _PLACING, force=True, ours=None) as beside:
                beside.write_text(json.dumps({"files": names}), encoding="utf-8")
            _place(self.out, self.ours)


@contextlib.contextmanager
def claimed(
    out: Path, *, ours: re.Pattern[str], inputs: Inputs, resume: bool, force: bool, members: Sequence[str] = ()
) -> Iterator[Claim]:
    """Hold the directory of a run; nothing in it is changed yet.

    `ours` are the names of a run's files, `members` the directories of several runs in this one. Raises RunError for a
    run that is there already, unless it is to be resumed or replaced; TargetError for one that another process writes
    just now, that cannot be written, or that is a source of the new one.
    """
    places = check_free(out, ours, resume=resume, force=force, members=members)
    for place in places:
        check_apart(place, inputs, ours)
    with locks.locked(out, out):
        if (out / REPLACEMENT / _PLACING).exists():  # was killed while it took the old one's place
            try:
                _place(out, ours)
            except RunError:
                if not force:
                    raise
                (out / REPLACEMENT / _PLACING).unlink()
        taken = [place for place in places if holds(place, ours)]
        if not taken and current(out) != out:  # the old run was removed, but not the one that was to replace it
            taken = [out / REPLACEMENT]
        work = current(out) if resume else out / REPLACEMENT if force and taken else out
        if resume and not members and not (work / RUN).exists() and holds(work, ours):
            raise RunError(f"{out}: no {RUN} there, so no run to resume; restart with --force")
        if not (resume or force):
            _refuse(taken)
        yield Claim(out, work, ours, force)


def check_free(
    out: Path, ours: re.Pattern[str], *, resume: bool, force: bool, members: Sequence[str] = ()
) -> list[Path]:
    """The directories of a run, and of its members, once they can be written; nothing is held or changed.

    Raises as `claimed` does, for what can be seen without any work.
    """
    if resume and force:
        raise RunUsageError("--resume and --force are mutually exclusive")
    check_target(out, force=True, sources=(), ours=ours)
    places = [out, *(out / name for name in members)]
    if not (resume or force):
        _refuse([place for place in places if holds(place, ours)])
    return places


def _refuse(taken: Sequence[Path]) -> None:
    if taken:
        raise RunError(
            f"{', '.join(map(str, taken))}: holds a run already; --resume continues it, --force replaces it, "
            "--out names another"
        )


def current(out: Path) -> Path:
    """Where the run is that --resume resumes: the one last started with --force, if that is not finished."""
    new = out / REPLACEMENT
    started = (new / RUN).exists() or any(new.glob(f"*/{RUN}"))
    return new if started and not (new / _PLACING).exists() else out


def holds(directory: Path, ours: re.Pattern[str]) -> bool:
    """Whether files of a run, or of any model, are in a directory."""
    return directory.is_dir() and any(ours.fullmatch(item.name) for item in directory.iterdir())


def check_apart(out: Path, inputs: Inputs, ours: re.Pattern[str]) -> None:
    """TargetError where a run would be written over, into or around the model it starts from, or over its data."""
    real = Path(os.path.realpath(out))
    for source in (*inputs.models, *inputs.data):
        if not source.exists():
            continue
        if _same(real, source):
            raise _itself(out, source)
        for place in (real, real / REPLACEMENT):
            if place.is_dir() and any(
                _same(item, source) for item in place.iterdir() if ours.fullmatch(item.name) or item.name == REPLACEMENT
            ):
                raise _itself(out, source)
    for source in inputs.models:
        there = Path(os.path.realpath(source))
        if there.is_dir() and any(_same(parent, there) for parent in real.parents):
            raise TargetError(f"{out}: the target lies inside the model it is made from ({source}); name another --out")
        if there.exists() and any(_same(parent, real) for parent in there.parents):
            raise TargetError(f"{out}: the model it is made from ({source}) lies inside the target; name another --out")


def _itself(out: Path, source: Path) -> TargetError:
    return TargetError(f"{out}: the target is the source itself ({source}); name another --out")


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _place(out: Path, ours: re.Pattern[str]) -> None:
    """Move a finished run to its target; repeated after a kill, it ends the same."""
    new = out / REPLACEMENT
    files = read_facts(new / _PLACING, _Placing, "restart with --force", RunError)["files"]
    names = {name for name in files if not name.startswith("/") and ".." not in Path(name).parts}
    folders = {(out / name).parent for name in names} | {out}
    with file_errors(out):
        for folder in folders | {folder / TENSORBOARD for folder in folders}:
            pattern = _EVENTS if folder.name == TENSORBOARD else ours
            for item in folder.iterdir() if folder.is_dir() else ():
                if pattern.fullmatch(item.name) and not item.is_dir() and _name(item, out) not in names:
                    item.unlink()
        for name in sorted(names):
            if (new / name).exists():
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(new / name, out / name)
        (new / _PLACING).unlink()
        _remove_empty(new)


def _name(path: Path, out: Path) -> str:
    return path.relative_to(out).as_posix()


def _files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != locks.NAME]


def _remove_empty(directory: Path, keep: Path | None = None) -> None:
    """Remove the directories below one that are empty, and it."""
    for path in sorted([directory, *directory.rglob("*")], reverse=True):
        if path.is_dir() and path != keep:
            with contextlib.suppress(OSError):
                path.rmdir()
