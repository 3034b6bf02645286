"""RACE: articles with questions, JSON in `SPLIT/middle/*.txt` and `SPLIT/high/*.txt` (Google: race_utils.py).

Other files, as the Hub has them, are tables with a question a row: article, question, options, answer.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from albert_cli.errors import ColumnError, DataError
from albert_cli.tables import nested
from albert_cli.tables.faults import SKIP_BAD
from albert_cli.tables.input_files import Kind, suffix_of
from albert_cli.tables.lines import Errors
from albert_cli.tasks.examples import Choosing, Choosings
from albert_cli.tasks.layouts.choices import ChoiceTables, choices_of, place_of
from albert_cli.tasks.layouts.tables import data_directory
from albert_cli.tasks.task import Sources
from converters.files import file_errors, open_regular
from converters.messages import brief, counted, listing

GROUPS = ("middle", "high")


@dataclass(frozen=True)
class Race:
    """A split is a directory with `middle` and `high`, or one of them, in `data` or in its folder RACE."""

    columns = None
    options = ()
    tables: ChoiceTables = field(
        default=ChoiceTables("article", "question", "options", "option", label="answer", blank=True)
    )

    def read(self, sources: Sources, split: str) -> Choosings | None:
        """A split by its directory (or file)."""
        path = sources.files.get(split)
        if path is None and sources.data is not None:
            root = data_directory(sources.data)
            path = next((place for place in (root / split, root / "RACE" / split) if place.is_dir()), None)
            if path is None:
                with _told_from_swag(sources.data):
                    found = self.tables.read(sources, split)
                if found is None and split == "train":
                    raise DataError(
                        f"{sources.data}: holds no train/middle and train/high, and no train.parquet or the like"
                    )
                return found
        if path is None and split == "train":
            raise DataError("race needs --data with a directory that holds train and dev of RACE, or --train DIR")
        if path is not None and not path.exists():
            raise DataError(f"{path}: no such file or directory")
        return None if path is None else self.questions(path, sources, labelled=split != "test")

    def read_file(self, path: Path, sources: Sources) -> Choosings:
        """The questions of a directory or file with answers."""
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
        """The questions of RACE's directory or of one of its files, else of a table."""
        if not path.is_dir() and (kind is not None or suffix_of(path) != ".txt"):
            with _told_from_swag(path):
                return self.tables.questions(path, sources, labelled=labelled, kind=kind, errors=errors)
        return _of_articles(path, labelled=labelled, skip_bad=sources.skip_bad if labelled else None)


@contextlib.contextmanager
def _told_from_swag(place: Path) -> Iterator[None]:
    """Say what RACE's files are where a table has SWAG's columns."""
    try:
        yield
    except ColumnError as error:
        if "sent1" not in error.detail:
            raise
        raise DataError(
            f"{place}: looks like SWAG's (sent1, sent2, ending0, …); albert finetune swag reads it. RACE has "
            "train/middle and train/high with .txt files, or tables with article, question, options and answer"
        ) from None


def _of_articles(path: Path, *, labelled: bool, skip_bad: bool | None) -> Choosings:
    folders = [path / group for group in GROUPS if (path / group).is_dir()] or [path]
    files = [path] if path.is_file() else [file for folder in folders for file in sorted(folder.glob("*.txt"))]
    if not files:
        raise DataError(f"{path}: holds no .txt files, and no middle and high with such")
    found: list[Choosing] = []
    faults, bad, sha = [], [], hashlib.sha256()
    for file in files:
        with file_errors(file), open_regular(file) as opened:
            data = opened.read()
        group = file.parent.name if file.parent.name in GROUPS else ""
        sha.update(f"{group}/{file.name}\0{len(data)}\0".encode() + data)
        called = f"{group}/{file.name}" if group else file.name
        if not data.strip():
            faults.append(f"{called} is empty")
            bad.append(called)
        for line, content in enumerate(data.splitlines(), 1):
            if not content.strip():
                continue
            for number, item in enumerate(_questions(content, labelled=labelled)):
                if isinstance(item, str):
                    faults.append(f"{called} (line {line}) {item}")
                    bad.append(f"{called}:{line}")
                    continue
                text, question, choices, answer = item
                name = f"{group}/{file.stem}" if group else file.stem
                found.append(
                    Choosing(f"{name}-{number}", text, question, choices, answer, f"{called}:{line}", group, blank=True)
                )
    if faults and not skip_bad:
        more = SKIP_BAD.replace("rows", "questions") if skip_bad is False else ""
        raise DataError(f"{path}: {counted(faults, 'bad question')}: {listing(faults, separator='; ')}{more}")
    if not found:
        raise DataError(f"{path}: holds no questions")
    left_out = {"without sound choices and answer": bad} if bad else {}
    return Choosings(str(path), found, sha.hexdigest(), left_out)


def _questions(content: bytes, *, labelled: bool) -> Iterator[tuple[str, str, tuple[str, ...], int | None] | str]:
    """Each question of an article as text, question, choices and answer; or what is wrong with it."""
    try:
        article = nested.parsed(content)
        fault = _misfit(article, labelled=labelled)
    except ValueError as error:
        fault = str(error)
    if fault:
        yield f"is not RACE's JSON (article, questions, options, answers): {fault}"
        return
    text, asked, options = article["article"], article["questions"], article["options"]
    right = article["answers"] if labelled else [""] * len(asked)
    if not len(asked) == len(options) == len(right):
        yield f"has {len(asked)} questions, {len(options)} lists of options and {len(right)} answers"
        return
    for question, listed, letter in zip(asked, options, right, strict=True):
        choices, fault = choices_of(listed)
        answer, other = place_of(str(letter), len(choices)) if labelled and not fault else (None, "")
        if fault or other or not isinstance(question, str):
            yield fault or other or "has a question that is no text"
        else:
            yield text, question, choices, answer


def _misfit(article: Any, *, labelled: bool) -> str:
    """What an article lacks, or has of another type; nothing where it is sound."""
    if not isinstance(article, dict):
        return f"it is {brief(article)}, not an object"
    wanted = {"article": (str, "text"), "questions": (list, "list"), "options": (list, "list")}
    wanted |= {"answers": (list, "list")} if labelled else {}
    for name, (kind, called) in wanted.items():
        if name not in article:
            return f"it has no {name!r}"
        if not isinstance(article[name], kind):
            value = "null" if article[name] is None else brief(article[name])
            return f"its {name!r} is {value}, not a {called}"
    return ""
