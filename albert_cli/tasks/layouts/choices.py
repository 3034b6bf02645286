"""Tables of questions with choices: a text, a question on it, the choices, and which of them is right.

The choices are a list in one column, or columns with a number (`ending0`, `ending1`, …). The right one is a number from
0, or a letter from A.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from albert_cli.errors import DataError
from albert_cli.tables import nested
from albert_cli.tables.columns import check_single
from albert_cli.tables.faults import SKIP_BAD
from albert_cli.tables.input_files import COMPRESSED_SUFFIXES, KINDS, Kind
from albert_cli.tables.lines import Errors
from albert_cli.tables.table import Line, Table, read_table
from albert_cli.tasks.examples import Choosing, Choosings
from albert_cli.tasks.layouts.tables import check_files, data_directory
from albert_cli.tasks.task import Sources
from converters.messages import LINES, brief, counted, listing

_NAMES = {"train": ("train",), "dev": ("dev", "val", "validation", "valid"), "test": ("test",)}
# Python makes no number of thousands of digits.
_DIGITS = 20
_OPTIONS = frozenset({"--text-column", "--text-pair-column", "--errors", "--input-format"})


@dataclass(frozen=True)
class ChoiceTables:
    """Files by split, or in a directory as `train`, `dev` (or `val`) and `test` with the suffix of a table.

    `text` and `question` are columns (the latter may be missing), `listed` that with a list of choices, `numbered` the
    beginning of the names of columns with one each. `blank`: see `Choosing`.
    """

    text: str
    question: str
    listed: str
    numbered: str
    label: str = "label"
    options: tuple[str, ...] = ()
    blank: bool = False
    columns = None

    def read(self, sources: Sources, split: str) -> Choosings | None:
        """The questions of a split; those of a test file may lack answers."""
        path = sources.files.get(split)
        if path is None and sources.data is not None:
            found = {item.name.lower(): item for item in sorted(data_directory(sources.data).iterdir())}
            ends = [f"{kind}{packed}" for packed in ("", *COMPRESSED_SUFFIXES) for kind in KINDS if kind != ".txt"]
            names = (f"{stem}{end}" for stem in _NAMES.get(split, ()) for end in ends)
            path = next((found[name] for name in names if name in found), None)
            if path is None and split == "train" and self.label == "label":
                race = any((sources.data / "train" / group).is_dir() for group in ("middle", "high"))
                more = "it looks like RACE's, which albert finetune race reads" if race else "name it with --train"
                raise DataError(f"{sources.data}: holds no train.csv, .tsv, .jsonl or .parquet; {more}")
        return None if path is None else self.questions(path, sources, labelled=split != "test")

    def read_file(self, path: Path, sources: Sources) -> Choosings:
        """The questions of one file with answers."""
        return self.questions(path, sources)

    def questions(
        self,
        path: Path,
        sources: Sources,
        *,
        labelled: bool = True,
        kind: Kind | None = None,
        errors: Errors = "strict",
    ) -> Choosings:
        """The questions of a file; where they are not `labelled`, no answer is looked at.

        One DataError lists every bad row.
        """
        if labelled:
            check_files(path)
        text, question = sources.text_column or self.text, sources.text_pair_column or self.question
        table = read_table(
            path,
            kind=kind,
            delimiter=sources.delimiter,
            wanted=[text, *([question] if sources.text_pair_column else [])],
            skip_bad=sources.skip_bad if labelled else None,
            errors=errors,
            options=_OPTIONS,
        )
        label = sources.label_column or self.label
        if labelled and table.place(label) is None:
            raise DataError(
                f"{table.where}: has no column {label!r} with the right choices; without it it can only be predicted: "
                f"albert predict RUN --in {path}"
            )
        rows = zip(
            table.lines,
            table.column(text, "the text"),
            table.column(question, "the question") if table.place(question) is not None else [""] * len(table.lines),
            self._choices(table),
            table.column(label, "the right choice") if labelled else [""] * len(table.lines),
            _ids(table),
            [{}] * len(table.lines) if labelled else self._further(table, text, question),
            strict=True,
        )
        found, faults, bad = [], [], []
        for line, first, asked, (choices, fault), right, name, cells in rows:
            answer, other = place_of(right, len(choices)) if labelled and not fault else (None, "")
            if fault := fault or other:
                faults.append(f"line {line} {fault}")
                bad.append(line)
            else:
                found.append(Choosing(name, first, asked, choices, answer, line, blank=self.blank, cells=cells))
        return checked(table.where, found, faults, bad, table, skip_bad=sources.skip_bad if labelled else None)

    def _further(self, table: Table, text: str, question: str) -> list[dict[str, str]]:
        """The cells of each row beside those that are read."""
        check_single(table.header, table.header, table.where)
        listed = table.place(self.listed) is not None
        read = {text, question, _id_column(table), self.listed}
        kept = {
            name: place
            for place, name in enumerate(table.header)
            if name not in read and (listed or not self._numbered(name))
        }
        return [{name: row[place] for name, place in kept.items()} for row in table.rows]

    def _numbered(self, name: str) -> re.Match[str] | None:
        return re.fullmatch(rf"{self.numbered}_?(\d+)", name)

    def _choices(self, table: Table) -> Iterator[tuple[tuple[str, ...], str]]:
        """The choices of each row, and what is wrong with them."""
        if table.place(self.listed) is not None:
            for cell in table.column(self.listed, "the choices"):
                yield choices_in(cell)
            return
        numbered = [self._numbered(name) for name in table.header]
        places = sorted((int(match[1]), place) for place, match in enumerate(numbered) if match)
        if len(places) < 2:
            raise DataError(
                f"{table.where}: has no column {self.listed!r} with a list of choices, and no {self.numbered}0, "
                f"{self.numbered}1, …; it has {listing(table.header, 20)}"
            )
        for row in table.rows:
            cells = [row[place] for _, place in places]
            while cells and not cells[-1]:  # fewer choices than others have
                cells.pop()
            yield _sound(cells)


def choices_in(cell: str) -> tuple[tuple[str, ...], str]:
    """The choices in a cell that holds a list, and what is wrong with them."""
    try:
        items = nested.parsed(cell)
    except ValueError:
        items = None
    return choices_of(items) if isinstance(items, list) else ((), f"has {brief(cell)}, not a list of choices")


def choices_of(items: object) -> tuple[tuple[str, ...], str]:
    """The choices that a list holds, and what is wrong with them."""
    if not isinstance(items, list):
        return (), f"has {'null' if items is None else brief(items)}, not a list of choices"
    return _sound(items)


def _sound(items: Sequence[object]) -> tuple[tuple[str, ...], str]:
    if len(items) < 2:
        return (), f"has {counted(items, 'choice')}, and two are the least"
    texts = tuple(item for item in items if isinstance(item, str) and item.strip())
    if len(texts) < len(items):
        return (), "has an empty choice, or one that is no text"
    return texts, ""


def place_of(cell: str, count: int) -> tuple[int | None, str]:
    """The right one of so many choices, by its number from 0 or its letter; or what is wrong with it."""
    cell = cell.strip()
    letters = string.ascii_uppercase[:count]
    if cell.isdecimal() and cell.isascii() and len(cell) < _DIGITS and int(cell) < count:
        return int(cell), ""
    if len(cell) == 1 and cell in letters:
        return letters.index(cell), ""
    return None, f"has {brief(cell)} as the right one of {count} choices (0 to {count - 1}, or A to {letters[-1]})"


def checked(
    where: str,
    found: list[Choosing],
    faults: Collection[str],
    bad: Sequence[Line],
    table: Table,
    *,
    skip_bad: bool | None,
) -> Choosings:
    """What has been read of a table; DataError with all that is wrong unless it is left out, or where none is left."""
    if faults and not skip_bad:
        more = SKIP_BAD if skip_bad is False else ""
        raise DataError(f"{where}: {counted(faults, 'bad row')}: {listing(faults, LINES, separator='; ')}{more}")
    if not found:
        raise DataError(f"{where}: no question is left: {listing(faults, separator='; ')}")
    left_out = {**table.left_out, **({"without sound choices and answer": bad} if bad else {})}
    return Choosings(where, found, table.digest, left_out)


def _id_column(table: Table) -> str | None:
    return next((name for name in ("id", "example_id", "idx") if name in table.header), None)


def _ids(table: Table) -> list[str]:
    name = _id_column(table)
    return table.column(name, "the index") if name else [str(number) for number in range(len(table.rows))]
