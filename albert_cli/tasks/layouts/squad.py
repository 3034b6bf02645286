"""SQuAD's JSON, v1 and v2: questions on paragraphs, their answers by place."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from albert_cli.errors import DataError
from albert_cli.tables import nested
from albert_cli.tables.input_files import decompressed, found_in
from albert_cli.tables.table import seekable
from albert_cli.tasks.examples import Question, Questions
from albert_cli.tasks.layouts.tables import data_directory
from albert_cli.tasks.task import Sources
from converters.config import parse_json
from converters.errors import AlbertError
from converters.files import file_errors
from converters.messages import brief, counted, listing

_MISPLACED = "answers do not stand at their answer_start"
_NO_ANSWER = "questions have no answer though is_impossible is false"

_WANTED = "questions are read from SQuAD's .json: data, paragraphs, context, qas"

_FILES = {
    "train": ("train-v2.0.json", "train-v1.1.json", "train.json"),
    "dev": ("dev-v2.0.json", "dev-v1.1.json", "dev.json"),
    "test": ("test.json",),
}


@dataclass(frozen=True)
class Squad:
    """Files by split, or in a directory under the official names."""

    columns = None
    options = ()

    def read(self, sources: Sources, split: str) -> Questions | None:
        """A split of SQuAD, by file or from a directory with the official names."""
        path = sources.files.get(split)
        if path is None and sources.data is not None:
            found = found_in(data_directory(sources.data), _FILES[split])
            if len(found) > 1:
                flag = f"--{split}"
                raise DataError(f"{sources.data}: holds {found[0].name} and {found[1].name}; name one with {flag}")
            path = found[0] if found else None
        if path is None:
            if split == "train":
                names = " or ".join(_FILES["train"][:2])
                raise DataError(f"squad needs --data with a directory that holds {names}, or --train FILE")
            return None
        return read_squad(path, misplaced="skip" if sources.skip_bad else "refuse")

    def read_file(self, path: Path, sources: Sources) -> Questions:
        """The questions of a file with answers."""
        found = read_squad(path, misplaced="skip" if sources.skip_bad else "refuse")
        if not found.labelled:
            raise DataError(f"{path}: has no answers; it can only be predicted: albert predict RUN --in {path}")
        return found


def read_squad(path: Path, *, misplaced: Literal["refuse", "skip", "keep"] = "refuse") -> Questions:
    """Read SQuAD JSON, gzip and zstd taken off; DataError where its shape is another.

    A question with `is_impossible` has no answer, whatever is stored. Questions with an answer that is not at its
    `answer_start`, or with none though `is_impossible` is false, are refused (DataError), left out and counted, or
    kept, where answers are not looked at. Two questions with one id are refused: answers are told apart by it.
    """
    with file_errors(path), seekable(path) as file, decompressed(contextlib.nullcontext(file), str(path)) as stream:
        data = stream.file.read()
    try:
        content = nested.cleaned(parse_json(data, str(path)))
    except AlbertError as error:
        error.advice = error.advice or _WANTED
        raise
    except RecursionError:
        raise DataError(f"{path}: not SQuAD's JSON (data, paragraphs, context, qas): {nested.TOO_DEEP}") from None
    items, wrong, bare, labelled = [], [], [], True
    ids: Counter[str] = Counter()
    try:
        for context, entry in _entries(content):
            name, impossible = str(entry["id"]), _impossible(entry)
            ids[name] += 1
            labelled &= "answers" in entry or impossible is True
            answers = [(item["text"], int(item["answer_start"])) for item in entry.get("answers", [])]
            answers = [] if impossible else answers
            astray = [text for text, at in answers if at < 0 or context[at : at + len(text)] != text]
            wrong += [(name, text) for text in astray[:1]]
            lacks = impossible is False and "answers" in entry and not answers
            bare += [name] if lacks else []
            if misplaced != "skip" or not (astray or lacks):
                items.append(Question(name, entry["question"], context, answers))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not SQuAD's JSON (data, paragraphs, context, qas): {error!r}") from None
    if twice := [f"{brief(name)} ({count} times)" for name, count in ids.items() if count > 1]:
        raise DataError(
            f"{path}: {counted(twice, 'question id')} of several questions: {listing(twice)}; answers are written by "
            "id, so give each question its own"
        )
    faults = [f"{len(wrong)} {_MISPLACED}: {listing([f'{name}: {text!r}' for name, text in wrong])}"] if wrong else []
    faults += [f"{len(bare)} {_NO_ANSWER}: {listing(bare)}"] if bare else []
    if faults and misplaced == "refuse":
        raise DataError(f"{path}: {'; '.join(faults)}; correct them, or leave these questions out with --skip-bad")
    if not items:
        raise DataError(f"{path}: holds no questions{' that can be used: ' * bool(faults)}{'; '.join(faults)}")
    left_out = {"with misplaced answers": [name for name, _ in wrong]} if wrong else {}
    left_out |= {"without an answer though is_impossible is false": bare} if bare else {}
    digest = hashlib.sha256(data).hexdigest()
    return Questions(str(path), items, labelled, digest, left_out if misplaced == "skip" else {})


def _entries(content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every question with its context."""
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                yield paragraph["context"], entry


def _impossible(entry: dict[str, Any]) -> bool | None:
    """Whether a question is said to have no answer; None where the file does not say, as in SQuAD v1."""
    said = entry.get("is_impossible")
    if said is not None and not isinstance(said, bool):
        raise ValueError(f"is_impossible is {said!r} at {entry['id']}, not true or false")
    return said
