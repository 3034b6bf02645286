"""Words with tags: CoNLL's columns (a word a line, sentences parted by blank lines), or rows of lists.

In columns the word stands first and its tag last unless `--text-column` and `--label-column` say otherwise, by number
from 1. Rows (JSON lines, Parquet) have the words in `tokens` or `words` and the tags in `ner_tags`, `tags` or `labels`;
of Parquet whose tags are numbers, the Hub's description in the file gives their names.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from albert_cli.errors import DataError
from albert_cli.tables import nested
from albert_cli.tables.faults import SKIP_BAD, Faults
from albert_cli.tables.input_files import COMPRESSED_SUFFIXES, KINDS, decompressed, suffix_of
from albert_cli.tables.lines import Errors, lines_of, where_of
from albert_cli.tables.table import Line, Table, read_table, seekable
from albert_cli.tasks.examples import Sentences
from albert_cli.tasks.layouts.tables import data_directory
from albert_cli.tasks.task import Sources
from converters.files import file_errors
from converters.messages import brief, listing

ROWS = (".jsonl", ".ndjson", ".json", ".parquet", ".pq")
COLUMNS = (".conll", ".conllu", ".conll2003", ".bio", ".iob", ".iob2", ".bioes", ".txt", ".tsv", ".tab")
WORDS, TAGS = ("tokens", "words"), ("ner_tags", "tags", "labels", "ner", "pos_tags")
_STEMS = {"train": ("train",), "dev": ("dev", "valid", "validation"), "test": ("test",)}
_OFFICIAL = {"train": "eng.train", "dev": "eng.testa", "test": "eng.testb"}  # CoNLL-2003's own names
_DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class Conll:
    """Files by split, or in a directory as `train.txt` (`.conll`, `.tsv`, `.jsonl`, …), and `dev` or `valid` so too."""

    columns = None
    options = ("text_column", "label_column")
    tags: tuple[str, ...] = TAGS

    def read(self, sources: Sources, split: str) -> Sentences | None:
        """A split, by file or from a directory."""
        path = sources.files.get(split)
        if path is None and sources.data is not None:
            stems, official = _STEMS.get(split, ()), _OFFICIAL.get(split)
            files = sorted(item for item in data_directory(sources.data).iterdir() if item.is_file())
            found = [item for item in files if _plain(item) == official or _is_split(item, stems)]
            if len(found) > 1:
                raise DataError(f"{sources.data}: holds {found[0].name} and {found[1].name}; name one with --{split}")
            path = found[0] if found else None
            if path is None and split == "train":
                raise DataError(
                    f"{sources.data}: holds no train.txt, .conll, .tsv, .jsonl or .parquet; name it with --train"
                )
        return None if path is None else self.read_file(path, sources)

    def read_file(self, path: Path, sources: Sources) -> Sentences:
        """The sentences of a file with tags."""
        if not path.is_file():
            raise DataError(f"{path}: {'a directory or a pipe, not a' if path.exists() else 'no such'} file")
        ending = suffix_of(path)
        if ending in KINDS and ending not in (*ROWS, *COLUMNS):
            raise DataError(
                f"{path}: words with tags are read from CoNLL's columns ({', '.join(COLUMNS[:3])}, .txt, …), or from "
                f".jsonl or .parquet with {WORDS[0]} and {self.tags[0]}; write such a file"
            )
        if ending in ROWS:
            found = _of_rows(path, sources.text_column, sources.label_column, self.tags, skip_bad=sources.skip_bad)
        else:
            word, tag = _place(sources.text_column, 0), _place(sources.label_column, -1)
            found = read_columns(path, word, tag, skip_bad=sources.skip_bad)
        found.required_tags()
        return found


def _plain(path: Path) -> str:
    name = path.name.lower()
    for ending in COMPRESSED_SUFFIXES:
        name = name.removesuffix(ending)
    return name


def _is_split(path: Path, stems: Sequence[str]) -> bool:
    name = _plain(path)
    return Path(name).stem in stems and Path(name).suffix in (*ROWS, *COLUMNS)


def _place(number: str | None, usual: int) -> int:
    """A column by its number from 1, or from -1 for the last."""
    if number is None:
        return usual
    try:
        place = int(number)
    except ValueError:
        place = 0
    if place == 0:
        raise DataError(f"CoNLL's columns have no names: {brief(number)} is no number of one, as 1, or -1 for the last")
    return place - 1 if place > 0 else place


# --- Columns


@dataclass
class _Reading:
    """What has been read of a file of columns: finished sentences, the one being read, faults by line."""

    words: list[list[str]] = field(default_factory=list)
    tags: list[list[str]] = field(default_factory=list)
    lines: list[list[Line]] = field(default_factory=list)
    current: list[tuple[str, str, int]] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)

    def end(self) -> None:
        """A sentence is over; one with a bad line is left out."""
        if self.bad:
            self.left_out += self.bad
        elif self.current:
            self.words.append([word for word, _, _ in self.current])
            self.tags.append([tag for _, tag, _ in self.current])
            self.lines.append([line for _, _, line in self.current])
        self.current, self.bad = [], []


def read_columns(
    path: Path,
    word: int = 0,
    tag: int | None = -1,
    *,
    skip_bad: bool | None = False,
    errors: Errors = "strict",
) -> Sentences:
    """Sentences of CoNLL's columns; `tag` None: whatever is there, tags are not read.

    Tabs separate columns where the first line of words has one, else blanks. Raises one DataError with every bad line
    (`skip_bad`: their sentences are left out; None: the command has no such option).
    """
    where = where_of(path)
    found, faults, width, tabs = _Reading(), Faults(), 0, False
    with _lines(path, where, errors) as (lines, digest):
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith(_DOCUMENT):
                found.end()
                continue
            if not found.current and not found.bad and _is_comment(line):
                continue
            tabs = "\t" in line if not width else tabs
            cells = [cell.strip() for cell in line.split("\t")] if tabs else line.split()
            width = width or len(cells)
            if fault := _misfit(cells, width, word, tag):
                faults.add(f"line {number} {fault}")
                found.bad.append(number)
            else:
                found.current.append((cells[word], "" if tag is None else cells[tag], number))
        found.end()
    if faults and not skip_bad:
        more = SKIP_BAD.replace("rows", "sentences") if skip_bad is False else ""
        raise DataError(f"{where}: {faults.joined()}{more}")
    if not found.words:
        raise DataError(where, "there are no words to read")
    left_out = {"that are no words with a tag": found.left_out} if found.left_out else {}
    tags = None if tag is None else found.tags
    return Sentences(where, found.words, tags, found.lines, digest, left_out=left_out)


def _is_comment(line: str) -> bool:
    """What CoNLL-U and MultiCoNER write before a sentence."""
    return line.startswith("# ") and ("=" in line or line.startswith("# id"))


def _misfit(cells: Sequence[str], width: int, word: int, tag: int | None) -> str:
    """What is wrong with a line of words; nothing where it is sound."""
    if len(cells) != width:
        return f"has {len(cells)} column{'s' * (len(cells) != 1)}, not {width}"
    for place, what in ((word, "word"), (tag, "tag")):
        if place is not None and not -width <= place < width:
            return f"has {width} column{'s' * (width != 1)}, and none for the {what}"
    if tag is not None and word % width == tag % width:
        return "has one column, so no tag" if width == 1 else "has its word and tag in the same column"
    if not cells[word]:
        return "has no word"
    return "has no tag" if tag is not None and not cells[tag] else ""


@contextlib.contextmanager
def _lines(path: Path, where: str, errors: Errors) -> Iterator[tuple[Iterator[str], str]]:
    """The lines of a file, and its SHA-256."""
    with file_errors(where), seekable(path) as file:
        sha = hashlib.sha256(file.read()).hexdigest()
        file.seek(0)
        with decompressed(contextlib.nullcontext(file), where) as stream:
            yield lines_of(stream.file, where, errors=errors), sha


# --- Rows of lists


def _of_rows(path: Path, words: str | None, tags: str | None, usual: Sequence[str], *, skip_bad: bool) -> Sentences:
    table = read_table(path, skip_bad=skip_bad)
    tag = tags or next((name for name in usual if name in table.header), None)
    return of_table(table, words, tag, names=_names(path, tag), skip_bad=skip_bad)


def of_table(
    table: Table, words: str | None, tag: str | None, *, names: Sequence[str] = (), skip_bad: bool | None = None
) -> Sentences:
    """Sentences of rows with a list of words and, where `tag` names its column, a list of tags.

    `names` of tags that are numbers. Raises one DataError with every bad row.
    """
    column = words or next((name for name in WORDS if name in table.header), WORDS[0])
    cells = table.column(column, "the words, as a list")
    labels = [None] * len(cells) if tag is None else table.column(tag, "the tags, as a list")
    found, faults, bad = _Reading(), Faults(), []
    for line, cell, label in zip(table.lines, cells, labels, strict=True):
        row, fault = _list_of(cell, column)
        marks, other = ([""] * len(row), "") if label is None else _list_of(label, str(tag), names)
        fault = fault or other
        if not fault and len(row) != len(marks):
            fault = f"has {len(row)} words and {len(marks)} tags"
        if fault or not row:
            faults.add(f"line {line} {fault or 'has no words'}")
            bad.append(line)
            continue
        found.words.append(row)
        found.tags.append(marks)
        found.lines.append([line] * len(row))
    if faults and not skip_bad:
        raise DataError(f"{table.where}: {faults.joined()}{SKIP_BAD if skip_bad is False else ''}")
    left_out = {**table.left_out, **({"that are no words with tags": bad} if bad else {})}
    tags = None if tag is None else found.tags
    return Sentences(table.where, found.words, tags, found.lines, table.digest, left_out=left_out)


def _list_of(cell: str, column: str, names: Sequence[str] = ()) -> tuple[list[str], str]:
    """The texts of a list, or what is wrong with it."""
    try:
        items: Any = nested.parsed(cell)
    except ValueError:
        items = None
    if not isinstance(items, list):
        return [], f"has {brief(cell)} in {column!r}, not a list"
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (str, int)) or not str(item).strip():
            return [], f"has {brief(item)} in {column!r}, not a text"
        if isinstance(item, int) and names and not 0 <= item < len(names):
            return [], f"has {item} in {column!r}, which has the names {listing(names)}"
    return [names[item] if isinstance(item, int) and names else str(item).strip() for item in items], ""


def _names(path: Path, column: str | None) -> tuple[str, ...]:
    """The names of numbered tags, as the Hub's `datasets` describes them in a Parquet file; none where it does not."""
    if column is None or suffix_of(path) not in (".parquet", ".pq") or not path.is_file():
        return ()
    import pyarrow.parquet as pq

    try:
        described = nested.parsed((pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}"))
        feature = described["info"]["features"][column]
        names = (feature[0] if isinstance(feature, list) else feature["feature"])["names"]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError):
        return ()
    return tuple(map(str, names))
