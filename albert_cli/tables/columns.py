"""What is asked of a table's columns, and what is reported where one is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from albert_cli.errors import ColumnError
from albert_cli.tables.lines import Errors
from converters.errors import did_you_mean

DEFAULT_TEXT_COLUMN, DEFAULT_PAIR_COLUMN = "text", "pair"
# The option that names another column than the one that is looked for by default, and what that holds.
_NAMED_BY = {DEFAULT_TEXT_COLUMN: ("--text-column", "texts"), DEFAULT_PAIR_COLUMN: ("--pair-column", "second texts")}


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
                for name, (option, content) in _NAMED_BY.items()
                if name in missing and option in self.options
            ]
            advice = f". {', '.join(options)}" if options else ""
            near = "".join(did_you_mean(name, present) for name in missing)
            raise ColumnError(f"{where}: {what} has no {missing_columns(missing, present)}{advice}{near}", missing)
        check_single(self.required, present, where)


def check_single(names: Sequence[str], present: Sequence[str], where: str) -> None:
    """Raise ColumnError where several columns have one of these names."""
    twice = [name for name in names if present.count(name) > 1]
    if twice:
        raise ColumnError(f"{where}: several columns are called {twice[0]!r}; rename all but one")


def missing_columns(missing: Sequence[str], present: Sequence[str], purpose: str = "") -> str:
    """The columns that are missing, and those that are there, for messages."""
    named, seen = (", ".join(map(repr, names)) or "none" for names in (missing, present))
    return f"column {named}{f' for {purpose}' if purpose else ''}; it has {seen}"
