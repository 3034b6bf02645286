"""Files of words to be tagged: read as columns, as lists, or as texts that are cut into words here; and written.

A text is cut as BERT's BasicTokenizer does, capitals and accents kept: at white space, and each punctuation mark and
Chinese character is a word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from albert_cli.errors import DataError
from albert_cli.tables.columns import DEFAULT_TEXT_COLUMN, check_single
from albert_cli.tables.input_files import find_files, streams, suffix_of
from albert_cli.tables.lines import read_lines
from albert_cli.tables.table import Line, read_table
from albert_cli.tables.write import Add, table_writer
from albert_cli.tasks.examples import Sentences
from albert_cli.tasks.layouts import conll
from albert_cli.tokenization.basic import Rules
from albert_cli.training.problems import Choices
from albert_cli.training.run_info import RunInfo
from converters.staging import atomic_write

# What predictions are written to as columns, beside the kinds of tables.
COLUMNS = (".conll", ".txt")
_OPTIONS = frozenset({"--text-column", "--errors", "--input-format"})
# Columns of true tags, in the place of which predictions come.
_OURS = ("tags",)
# The lines of a .txt file that say whether it is columns.
_SEEN = 200
_RULES = Rules(lowercase=False, strip_accents=False)


def of_texts(where: str, texts: list[str], lines: Sequence[Line], digest: str) -> Sentences:
    """Texts cut into words; one without any has none."""
    words, spans = [], []
    for text in texts:
        found = [(int(sources[0]), int(sources[-1]) + 1) for _, sources in _RULES.with_sources(text)]
        spans.append(found)
        words.append([text[start:end] for start, end in found])
    each = [[line] * len(row) for line, row in zip(lines, words, strict=True)]
    return Sentences(where, words, None, each, digest, texts=texts, spans=spans)


def read(path: Path, info: RunInfo, choices: Choices) -> tuple[Sentences, dict[str, list[Any]]]:
    """Sentences to be tagged, whatever tags a file has, and the columns to keep beside their tags.

    Files of columns (.conll, .bio, .iob, …) have the word first; a .txt file is columns where it begins with
    -DOCSTART- or each line ends in a tag of the model, else a text a line. Tables have a list of words in `tokens` or
    `words`, else a column of texts.
    """
    said = choices.kind
    if said is None and not streams(path) and path.is_file():
        ending = suffix_of(path)
        only_columns = ending in conll.COLUMNS and ending not in (".txt", ".tsv", ".tab")
        if only_columns or (ending in (".txt", ".tsv", ".tab") and _is_columns(path, info, choices)):
            if choices.text_column is not None:
                raise DataError(f"{path}: the words of its columns come first; leave --text-column out")
            if choices.delimiter is not None:
                raise DataError(f"{path}: tabs or blanks separate its columns; leave --delimiter out")
            found = conll.read_columns(path, tag=None, skip_bad=None, errors=choices.errors)
            return found, {"tokens": found.words}
    table = read_table(
        path,
        kind=said,
        delimiter=choices.delimiter,
        skip_bad=None,
        errors=choices.errors,
        options=_OPTIONS,
    )
    check_single(table.header, table.header, table.where)
    cells: dict[str, list[Any]] = {name: [row[at] for row in table.rows] for at, name in enumerate(table.header)}
    for name in _OURS:
        cells.pop(name, None)
    kinds = set(find_files(str(path), said, options=_OPTIONS).kinds)
    words = next((name for name in conll.WORDS if name in table.header), None)
    if choices.text_column is None and words is not None and kinds <= {"jsonl", "parquet"}:
        found = conll.of_table(table, words, None)
        return found, {("tokens" if name == words else name): column for name, column in cells.items()} | {
            "tokens": found.words
        }
    texts = table.column(choices.text_column or DEFAULT_TEXT_COLUMN, "the text")
    found = of_texts(table.where, texts, table.lines, table.digest)
    return found, cells | {"tokens": found.words}


def _is_columns(path: Path, info: RunInfo, choices: Choices) -> bool:
    """Whether a file that may be lines of text is columns: its lines end in the model's tags."""
    tags, width = frozenset(info.labels), 0
    for number, line in enumerate(read_lines(path, errors=choices.errors)):
        if line.startswith("-DOCSTART-"):
            return True
        cells = line.split()
        if cells:
            width = width or len(cells)
            if len(cells) != width or width < 2 or cells[-1] not in tags:
                return False
        if number == _SEEN:
            break
    return bool(width)


@contextlib.contextmanager
def writer(out: Path, *, force: bool) -> Iterator[Add]:
    """What writes sentences with their tags, some at a time: columns, a row of lists for each (.jsonl, .parquet), or
    one for each word (.csv)."""
    ending = out.suffix.lower()
    if ending not in COLUMNS:
        with table_writer(out, force=force) as add:
            yield add if ending in (".jsonl", ".parquet") else _by_word(add)
        return
    with atomic_write(out, force=force, ours=None) as beside, beside.open("w", encoding="utf-8") as file:
        written = 0

        def add_sentences(columns: Mapping[str, Sequence[Any]]) -> None:
            nonlocal written
            _, sentences = _parts(columns)
            for one in sentences:
                written += 1
                for word in zip(*one, strict=True):
                    if set(word[0]) & {"\t", "\n", "\r"}:
                        raise DataError(
                            out, f"sentence {written} has a word with a tab or line break", "name a .jsonl file"
                        )
                    file.write("\t".join(map(str, word)) + "\n")
                file.write("\n")

        yield add_sentences


def _by_word(add: Add) -> Add:
    """What adds a row for each word, with the number of its sentence, and its id."""
    written = 0

    def words(columns: Mapping[str, Sequence[Any]]) -> None:
        nonlocal written
        names, sentences = _parts(columns)
        ids = columns.get("id")
        rows = [(number, *word) for number, one in enumerate(sentences, written + 1) for word in zip(*one, strict=True)]
        header = ["sentence", *("token", "tag", "probability")[: len(names)]]
        table = {name: [row[at] for row in rows] for at, name in enumerate(header)}
        if ids is not None:
            table = {"id": [ids[number - written - 1] for number in table["sentence"]]} | table
        written += len(sentences)
        add(table)

    return words


def _parts(columns: Mapping[str, Sequence[Any]]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns of words that there are, and these of each sentence."""
    names = [name for name in ("tokens", "tags", "probabilities") if name in columns]
    return names, list(zip(*(columns[name] for name in names), strict=True))
