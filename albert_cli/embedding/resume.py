"""Work committed in parts, so that what a killed run has done is kept.

Beside the target `texts.parquet` lies, until it is complete, the directory `texts.parquet.parts`: `manifest.json` with
everything that the result depends on, and one Arrow file per finished block of rows, each of which appears by one
rename. The target is written from the parts and appears by one rename, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa

from albert_cli import locks
from albert_cli.declared import Within, facts_of_texts, faults_of_facts, read_facts
from albert_cli.embedding import kinds, parquet
from albert_cli.errors import EmbeddingError
from albert_cli.tables.sources import Source
from converters.errors import TargetError
from converters.files import file_errors
from converters.staging import atomic_write, check_target

_MANIFEST = "manifest.json"
_PART = re.compile(r"part-(\d{8})\.arrow")
_OURS = re.compile(rf"{_PART.pattern}|{re.escape(_MANIFEST)}|lock|\.(part-\d{{8}}\.arrow|manifest\.json)\.albert-.*")
_INPUT_DIGEST = "input_sha256"

_DIGEST = "sha256"

# Names and values; a value that is no text stands as JSON.
Facts = Mapping[str, str]


@dataclass(frozen=True)
class Summary:
    """What a finished file holds."""

    rows: Annotated[int, Within(0)]
    rows_truncated: Annotated[int, Within(0)]
    tokens_truncated: Annotated[int, Within(0)]
    rows_empty: Annotated[int, Within(0)]
    tokens: Annotated[int, Within(0)]


@dataclass(frozen=True)
class _Manifest:
    """What manifest.json says of an unfinished run."""

    facts: Mapping[str, str]
    notes: Mapping[str, str]


@dataclass(frozen=True)
class _Part:
    """What a part says of itself: the SHA-256 of the rows it was made of, and of those it holds."""

    input_sha256: str
    sha256: str


def summary_of(file: Path, facts: Facts) -> Summary:
    """What the metadata of a finished file says of its rows; EmbeddingError where it does not."""
    found = facts_of_texts({key: facts[key] for key in Summary.__dataclass_fields__ if key in facts}, Summary)
    if faults := faults_of_facts(found, Summary):
        raise EmbeddingError(f"{file}: its metadata is damaged: {'; '.join(faults)}; embed it again")
    return Summary(**found)


def facts_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as text, which a name of a model or column need not be."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return {key: text.encode("utf-8", "backslashreplace").decode() for key, text in texts.items()}


def directory_of(target: Path) -> Path:
    """Where the parts of a target are kept until it is finished."""
    return target.with_name(f"{target.name}.parts")


def check_free(target: Path, source: Source, *, resume: bool, force: bool) -> None:
    """Refuse a target before any work: one that cannot be written, is there already, or would be read as input.

    Raises TargetError. What is there already is compared later, where `resume` asks for it.
    """
    check_target(target, force=True, sources=(), ours=None)
    if any(target.exists() and file.exists() and target.samefile(file) for file in source.files):
        raise TargetError(f"{target}: the target is the input itself; name another --out")
    if source.would_read(target):
        raise TargetError(
            f"{target}: lies in the input ({source.path}), and would be read as a part of it; name another --out"
        )
    if target.exists() and not resume and not force:
        raise TargetError(f"{target}: exists already; --force replaces it, another --out keeps it")
    directory = directory_of(target)
    unfinished = directory.is_dir() and (directory / _MANIFEST).exists()
    count = sum(_PART.fullmatch(entry.name) is not None for entry in directory.iterdir()) if unfinished else 0
    if count and not resume and not force:
        raise TargetError(
            f"{directory}: contains an unfinished run ({count} parts); --resume resumes it, --force restarts"
        )


def commit(directory: Path, number: int, batch: pa.RecordBatch, digest: str) -> None:
    """Put a finished block among the parts; it is there whole or not at all. Any process may do this."""
    part = _part(directory, number)
    with atomic_write(part, force=True, ours=None) as built, built.open("wb") as file:
        parquet.save_part(file, batch, {_INPUT_DIGEST: digest, _DIGEST: _digest(batch)})


class Parts:
    """The parts of one target. `committed` are the numbers of those that are there; `complete`: so is the target."""

    def __init__(self, target: Path, facts: Facts, notes: Facts) -> None:
        self.target, self.directory = target, directory_of(target)
        self._facts, self._notes = facts, notes
        self.committed: set[int] = set()
        self.complete = False

    @classmethod
    @contextlib.contextmanager
    def open(cls, target: Path, facts: Facts, notes: Facts, *, resume: bool, force: bool) -> Iterator[Parts]:
        """Start a run, or with `resume` resume one.

        `facts` decide the result and must be those of the run that is resumed; `notes` (the model's name) go into the
        file as they were at its beginning. Raises TargetError for a target or an unfinished run that is in the way,
        EmbeddingError where the facts differ, naming the differences. A run without a finished part is nothing that
        could resume: it does not block a new run, and leaves nothing if it ends with an error.
        """
        parts = cls(target, facts, notes)
        parts._check_target(resume=resume, force=force)
        if parts.complete and not parts.directory.is_dir():
            yield parts
            return
        with locks.locked(parts.directory, target, temporary=True):
            if parts.complete:
                parts._remove()
            else:
                parts._begin(resume=resume, force=force)
            try:
                yield parts
            except BaseException:
                parts._leave_nothing_empty()
                raise

    def check(self, number: int, digest: str, rows: str) -> None:
        """EmbeddingError where a committed part is damaged, or was made of other rows; `rows` says which."""
        if self._sound(number)[1] != digest:
            raise EmbeddingError(
                f"{rows}: not the rows that {self.target} was started with; --force restarts with these"
            )

    def finish(self, count: int) -> Summary:
        """Write the target from the parts 0 to `count` - 1 and remove them."""
        missing = sorted(set(range(count)) - self.committed)
        if missing:
            raise EmbeddingError(f"{self.directory}: part {missing[0]} is missing; run again with --resume")
        if len(self.committed) > count:
            raise EmbeddingError(
                f"{self.target}: the input has fewer rows than when this run was started; --force restarts"
            )
        summary, digest = self._summary(count)
        totals = {
            "rows": summary.rows,
            "rows_truncated": summary.rows_truncated,
            "tokens_truncated": summary.tokens_truncated,
            "rows_empty": summary.rows_empty,
            "tokens": summary.tokens,
            _INPUT_DIGEST: digest,
        }
        metadata = {**self._facts, **self._notes, **facts_of(totals)}
        schema = parquet.load_part(_part(self.directory, 0))[0].schema
        with atomic_write(self.target, force=True, ours=None) as built:
            kinds.write(schema, self._batches(count), built, self.target, metadata)
        self._remove()
        return summary

    def refresh(self) -> None:
        """See what other processes have committed."""
        found = (_PART.fullmatch(entry.name) for entry in self.directory.iterdir())
        self.committed = {int(match[1]) for match in found if match}

    def _batches(self, count: int) -> Iterator[pa.RecordBatch]:
        for number in range(count):
            yield parquet.load_part(_part(self.directory, number))[0]

    def _summary(self, count: int) -> tuple[Summary, str]:
        rows = truncated = left_out = empty = tokens = 0
        sha = hashlib.sha256()
        for number in range(count):
            batch, digest = self._sound(number)
            cut = batch["truncated"].to_numpy()
            rows += batch.num_rows
            truncated += int(np.count_nonzero(cut))
            left_out += int(cut.sum(dtype=np.int64))
            empty += batch["empty"].true_count
            tokens += int(batch["n_tokens"].to_numpy().sum(dtype=np.int64))
            sha.update(bytes.fromhex(digest))
        return Summary(rows, truncated, left_out, empty, tokens), sha.hexdigest()

    def _sound(self, number: int) -> tuple[pa.RecordBatch, str]:
        """The rows of a part and the digest of its input; EmbeddingError where it is not as it was written."""
        path = _part(self.directory, number)
        advice = "remove it, and --resume computes it again; --force restarts"
        try:
            with file_errors(path):
                batch, metadata = parquet.load_part(path)
        except (pa.ArrowException, ValueError, IndexError) as error:
            raise EmbeddingError(f"{path}: damaged: {str(error).splitlines()[0]}; {advice}") from None
        if faults := faults_of_facts(metadata, _Part):
            raise EmbeddingError(f"{path}: damaged: {'; '.join(faults)}; {advice}")
        if _digest(batch) != metadata[_DIGEST]:
            raise EmbeddingError(f"{path}: damaged: its SHA-256 is not that of the rows it was written with; {advice}")
        return batch, metadata[_INPUT_DIGEST]

    def _check_target(self, *, resume: bool, force: bool) -> None:
        check_target(self.target, force=True, sources=(), ours=None)
        if not self.target.exists():
            return
        if resume and self.target.suffix.lower() not in kinds.PARQUET:
            if not force and not self._begun_alike():
                raise EmbeddingError(
                    f"{self.target}: exists already, and a {self.target.suffix} file does not say how it was made, so "
                    "--resume cannot compare; --force replaces it, a .parquet file can be resumed"
                )
        elif resume:
            with file_errors(self.target):
                try:
                    found = parquet.read_metadata(self.target)
                except pa.ArrowInvalid:
                    found = {}
            different = differences(found, self._facts)
            if not different:
                self.complete = True
            elif not force:
                raise EmbeddingError(
                    f"{self.target}: exists already and was made otherwise ({different}); --force replaces it"
                )
        elif not force:
            raise TargetError(f"{self.target}: exists already; --force replaces it, another --out keeps it")

    def _begun_alike(self) -> bool:
        """Whether the parts beside the target are of this very run, which may have ended before they were removed."""
        manifest = self.directory / _MANIFEST
        if not manifest.exists():
            return False
        found = read_facts(manifest, _Manifest, "--force restarts", EmbeddingError)
        return not differences(found["facts"], self._facts)

    def _begin(self, *, resume: bool, force: bool) -> None:
        manifest = self.directory / _MANIFEST
        if manifest.exists():
            self.refresh()
        if self.committed:
            if not resume and not force:
                raise TargetError(
                    f"{self.directory}: holds an unfinished run ({len(self.committed)} parts); "
                    "--resume resumes it, --force restarts"
                )
            if resume and self._resumes(manifest, force=force):
                return
            self._remove()
            self.committed = set()
        with atomic_write(manifest, force=True, ours=None) as built:
            text = json.dumps({"facts": dict(self._facts), "notes": dict(self._notes)}, indent=2, ensure_ascii=False)
            built.write_text(text + "\n", encoding="utf-8")

    def _resumes(self, manifest: Path, *, force: bool) -> bool:
        """Whether the parts are of this very run, whose notes are taken; EmbeddingError if not, unless `force`."""
        try:
            found = read_facts(manifest, _Manifest, "--force restarts", EmbeddingError)
            if different := differences(found["facts"], self._facts):
                raise EmbeddingError(
                    f"{self.directory}: the unfinished run was started with other settings ({different}); "
                    "repeat these settings, or restart with --force"
                )
        except EmbeddingError:
            if not force:
                raise
            return False
        self._notes = found["notes"]
        return True

    def _leave_nothing_empty(self) -> None:
        with contextlib.suppress(OSError):
            self.refresh()
            if not self.committed:
                self._remove()

    def _remove(self) -> None:
        """Remove our own files, the manifest last so that a kill in between leaves a run that can be resumed.

        The directory itself goes with its lock, if nothing else is in it.
        """
        ours = [entry for entry in self.directory.iterdir() if _OURS.fullmatch(entry.name)]
        for entry in sorted(ours, key=lambda entry: entry.name == _MANIFEST):
            entry.unlink(missing_ok=True)


def _digest(batch: pa.RecordBatch) -> str:
    return hashlib.sha256(parquet.serialized(batch.replace_schema_metadata(None))).hexdigest()


def _part(directory: Path, number: int) -> Path:
    return directory / f"part-{number:08d}.arrow"


def differences(found: Facts, wanted: Facts) -> str:
    """The facts in which two runs differ, as text; empty where there are none."""
    different = [
        f"{key.replace('_', ' ')} is {_short(wanted.get(key))}, was {_short(found.get(key))}"
        for key in dict.fromkeys([*wanted, *found])
        if key in wanted and found.get(key) != wanted[key]
    ]
    return "; ".join(different)


def _short(value: str | None) -> str:
    if value is None:
        return "unknown"
    return f"{value[:12]}…" if re.fullmatch("[0-9a-f]{64}", value) else value
