"""What is asked of a table's columns, and what is reported where one is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from albert_cli.errors import ColumnError, TextError
from albert_cli.tables.input_files import Files, Kind, find_files
from albert_cli.tables.lines import Errors, where_of
from converters.errors import did_you_mean
from converters.messages import brief, listing

DEFAULT_TEXT_COLUMN, DEFAULT_PAIR_COLUMN = "text", "pair"
# Options that name another column, with that which is looked for by default, and what it holds.
_NAMED_BY = {
    "--text-column": (DEFAULT_TEXT_COLUMN, "texts"),
    "--text-pair-column": (DEFAULT_PAIR_COLUMN, "second texts"),
}
# The most columns that a message names.
_SHOWN = 20
# The options of a command that reads texts, as far as messages advise them.
OPTIONS = frozenset({"--text-column", "--text-pair-column", "--errors", "--input-format"})


@dataclass(frozen=True)
class Request:
    """Which columns of a file are read, and how.

    `names`: the columns to give, in this order (None: all); `texts`: of the columns that must be there, those that must
    hold text; `sparse`: columns that rows of JSON after the first may lack. `delimiter` of CSV and TSV, by default
    found out; `width`: of a file without header. With `skip_bad` bad rows are left out. `options` are those of the
    command that messages may advise.
    """

    names: tuple[str, ...] | None = None
    texts: tuple[str, ...] = ()
    sparse: frozenset[str] = frozenset()
    delimiter: str | None = None
    width: int | None = None
    errors: Errors = "strict"
    skip_bad: bool = False
    options: frozenset[str] = frozenset()

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that must be there."""
        return self.texts if self.names is None else self.names

    def advice(self, option: str, text: str) -> str:
        """The text, where the command has this option; else nothing."""
        return text if option in self.options else ""

    def check(self, present: Sequence[str], where: str, what: str) -> None:
        """Raise ColumnError where a required column is missing, or is there several times; `what` lacks it."""
        missing = [name for name in self.required if name not in present]
        if missing:
            options = [
                f"{option} names the one with the {content}"
                for option, (name, content) in _NAMED_BY.items()
                if name in missing and option in self.options
            ]
            advice = f". {', '.join(options)}" if options else ""
            near = "".join(did_you_mean(name, present) for name in missing)
            raise ColumnError(
                where, f"{what} has no {missing_columns(missing, present)}{advice}{near}", missing=missing
            )
        check_single(self.required, present, where)


def check_single(names: Sequence[str], present: Sequence[str], where: str) -> None:
    """Raise ColumnError where several columns have one of these names."""
    twice = [name for name in names if present.count(name) > 1]
    if twice:
        raise ColumnError(where, f"several columns are called {twice[0]!r}", "rename all but one")


def missing_columns(missing: Sequence[str], present: Sequence[str], purpose: str = "") -> str:
    """The columns that are missing, and those that are there, for messages."""
    named, seen = (listing(map(brief, names), _SHOWN) or "none" for names in (missing, present))
    return f"column {named}{f' for {purpose}' if purpose else ''}; it has {seen}"


@dataclass(frozen=True)
class Columns:
    """Which columns are read. A `.txt` file has only its lines; elsewhere `text` is the column of that name.

    `delimiter` separates the columns of CSV and TSV files; by default it is found out. `options` are those of the
    command that messages may advise.
    """

    text: str | None = None
    pair: str | None = None
    id: str | None = None
    keep: tuple[str, ...] = ()
    delimiter: str | None = None
    options: frozenset[str] = OPTIONS

    def wanted(self) -> dict[str, str]:
        """Our name -> the file's, in the order of reading."""
        names = {"text": self.text or DEFAULT_TEXT_COLUMN}
        names |= {"pair": self.pair} if self.pair else {}
        names |= {"id": self.id} if self.id else {}
        return names | {f"kept.{name}": name for name in self.keep}

    def request(self, errors: Errors) -> Request:
        """What a reader is asked for: the values of `wanted`, in that order."""
        wanted = self.wanted()
        texts = tuple(wanted[name] for name in ("text", "pair") if name in wanted)
        return Request(
            names=tuple(wanted.values()),
            texts=texts,
            sparse=frozenset(self.keep) - {*texts, self.id},
            delimiter=self.delimiter,
            errors=errors,
            options=self.options,
        )

    def files(self, path: str, kind: Kind | None = None) -> Files:
        """The files of a path (see `find_files`); TextError where they have no such columns, or no delimiter."""
        found = find_files(path, kind, delimiter=self.delimiter, options=self.options)
        if "txt" in found.kinds and (self.text or self.pair or self.id or self.keep):
            where = where_of(found.files[found.kinds.index("txt")])
            if self.pair:
                advice = "give a table with a column for each of the two texts"
                raise TextError(where, "lines of text hold no pairs", advice)
            raise TextError(where, "lines of text have no columns", "leave out --text-column and its like")
        return found
