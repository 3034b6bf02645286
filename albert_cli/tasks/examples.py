"""What is read of a data set, before any tokenizer: labelled texts, questions on texts, words with their tags."""

from __future__ import annotations

import hashlib
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from albert_cli.errors import DataError
from albert_cli.tables.table import LeftOut, Line, Table, left_out_text


@dataclass(frozen=True)
class ExampleColumns:
    """Names of a file's columns (or their places, from 0, in a file without header); `label` None: it has no labels."""

    first: str | int
    second: str | int | None = None
    label: str | int | None = None
    id: str | int | None = None


class Read(ABC):
    """What every kind of examples says of the file it was read from."""

    where: str
    left_out: LeftOut
    noun = "row"

    @property
    def unanswerable(self) -> int:
        """How many have no answer: none but questions on a text may."""
        return 0

    def contents(self) -> Iterator[bytes]:
        """Of each row a digest of its texts, without its label; equal where they are but for case and white space."""
        for texts in self.texts_by_row():
            plain = "\0".join(" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in texts)
            yield hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    @abstractmethod
    def texts_by_row(self) -> Iterator[Sequence[str]]:
        """All that a model is given of each row."""

    def left_out_note(self) -> str:
        """What of the file is left out, in one line; empty where nothing is."""
        return left_out_text(self.where, self.left_out, self.noun)


@dataclass(frozen=True)
class Examples(Read):
    """The rows of one split. `pairs` and `labels` (as written) may be None; `lines` are line (or row) numbers from 1.

    `left_out`: the lines of rows that are left out, by what is wrong with them. `digest` is the SHA-256 of the file or
    files. `negatives`: of each pair texts that do not belong to its first one, where there are any.
    """

    where: str
    ids: list[str]
    texts: list[str]
    pairs: list[str] | None
    labels: list[str] | None
    lines: list[Line]
    digest: str
    left_out: LeftOut = field(default_factory=dict)
    negatives: list[tuple[str, ...]] | None = None

    @classmethod
    def of(cls, table: Table, columns: ExampleColumns, *, labelled: bool) -> Examples:
        """The rows of a table; labels only where `labelled`."""
        texts = table.column(columns.first, "the text")
        pairs = None if columns.second is None else table.column(columns.second, "the second text")
        labels = table.column(columns.label, "the label") if labelled and columns.label is not None else None
        numbered = isinstance(columns.id, str) and table.place(columns.id) is None
        ids = [] if columns.id is None or numbered else table.column(columns.id, "the index")
        return cls(
            where=table.where,
            ids=[item.strip() for item in ids] or [str(number) for number in range(len(texts))],
            texts=texts,
            pairs=pairs,
            labels=None if labels is None else [label.strip() for label in labels],
            lines=table.lines,
            digest=table.digest,
            left_out=table.left_out,
        )

    def __len__(self) -> int:
        return len(self.texts)

    def texts_by_row(self) -> Iterator[Sequence[str]]:
        return zip(*filter(None, (self.texts, self.pairs)), strict=True)

    def required_labels(self) -> list[str]:
        """The labels; DataError where there are none."""
        if self.labels is None:
            raise DataError(f"{self.where}: has no labels; it can only be predicted: albert predict RUN --in FILE")
        return self.labels

    def take(self, rows: Sequence[int]) -> Examples:
        """Some of the rows."""
        return replace(
            self,
            ids=_some(rows, self.ids),
            texts=_some(rows, self.texts),
            pairs=_some(rows, self.pairs),
            labels=_some(rows, self.labels),
            lines=_some(rows, self.lines),
            negatives=_some(rows, self.negatives),
        )

    def in_both_orders(self) -> Examples:
        """Each pair, and then each the other way round; DataError where there are no pairs."""
        if self.pairs is None:
            raise DataError(f"{self.where}: has single texts, which have no other order; leave --both-orders out")
        twice = self.take([*range(len(self))] * 2)
        return replace(twice, texts=self.texts + self.pairs, pairs=self.pairs + self.texts)


@dataclass(frozen=True)
class Question:
    """`answers` are (text, first character in the context); none where the context holds no answer."""

    id: str
    question: str
    context: str
    answers: list[tuple[str, int]]


@dataclass(frozen=True)
class Questions(Read):
    """The questions of a file; `labelled`: with answers. `digest`: the file's SHA-256.

    `left_out`: the ids of bad ones that are left out, by what is wrong with them.
    """

    where: str
    items: list[Question]
    labelled: bool
    digest: str
    left_out: LeftOut = field(default_factory=dict)
    noun = "question"

    def __len__(self) -> int:
        return len(self.items)

    @property
    def unanswerable(self) -> int:
        """How many questions have no answer."""
        return sum(not item.answers for item in self.items)

    def texts_by_row(self) -> Iterator[Sequence[str]]:
        return ((item.question, item.context) for item in self.items)

    def take(self, rows: Sequence[int]) -> Questions:
        """Some of the questions."""
        return replace(self, items=[self.items[row] for row in rows])


@dataclass(frozen=True)
class Sentences(Read):
    """Sentences cut into words, each with a tag, or none of them (`tags` None).

    `lines`: the line (or row) of each word of each sentence. `texts` and `spans`: where the words were cut from texts,
    these, and which characters each word is. `digest` is the SHA-256 of the file or files. `left_out`: lines of
    sentences that are left out, by what is wrong with them.
    """

    where: str
    words: list[list[str]]
    tags: list[list[str]] | None
    lines: list[list[Line]]
    digest: str
    texts: list[str] | None = None
    spans: list[list[tuple[int, int]]] | None = None
    left_out: LeftOut = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.words)

    def texts_by_row(self) -> Iterator[Sequence[str]]:
        return iter(self.words)

    def required_tags(self) -> list[list[str]]:
        """The tags; DataError where there are none."""
        if self.tags is None:
            raise DataError(f"{self.where}: has no tags; it can only be predicted: albert predict RUN --in FILE")
        return self.tags

    def take(self, rows: Sequence[int]) -> Sentences:
        """Some of the sentences."""
        return replace(
            self,
            words=_some(rows, self.words),
            tags=_some(rows, self.tags),
            lines=_some(rows, self.lines),
            texts=_some(rows, self.texts),
            spans=_some(rows, self.spans),
        )


@dataclass(frozen=True)
class Choosing:
    """A question on a text, and its choices; `answer` is the place of the right one, None where that is not said.

    `cells`: the further columns of its row, where they are kept beside a prediction.
    `blank`: a `_` in the question is where the choice belongs, as in RACE. `group`: which part of the data it is of.
    """

    id: str
    text: str
    question: str
    choices: tuple[str, ...]
    answer: int | None
    line: Line
    group: str = ""
    blank: bool = False
    cells: Mapping[str, str] = field(default_factory=dict)

    def second(self, choice: str) -> str:
        """The question with a choice, which stands beside the text."""
        if self.blank and "_" in self.question:
            return self.question.replace("_", choice)
        return f"{self.question} {choice}" if self.question else choice


@dataclass(frozen=True)
class Choosings(Read):
    """Questions with choices. `digest` is the SHA-256 of the file or files; `left_out` as that of Examples."""

    where: str
    items: list[Choosing]
    digest: str
    left_out: LeftOut = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def texts_by_row(self) -> Iterator[Sequence[str]]:
        return ((item.text, item.question, *item.choices) for item in self.items)

    def take(self, rows: Sequence[int]) -> Choosings:
        """Some of the questions."""
        return replace(self, items=[self.items[row] for row in rows])


def _some(rows: Sequence[int], items: list[Any] | None) -> Any:
    """The items of these rows; None where there are none."""
    return None if items is None else [items[row] for row in rows]
