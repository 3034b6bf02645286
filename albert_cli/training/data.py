"""Rows of a task: GLUE's TSV files with their warts, `nyu-mll/glue`'s Parquet, your own tables, folders of texts.

Everything wrong with a file is collected and told once, with line numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from albert_cli.errors import DataError
from albert_cli.tables import delimited
from albert_cli.tables.input_files import COMPRESSED_SUFFIXES, KINDS, Kind, Stream, decompressed, found_in, suffix_of
from albert_cli.tables.lines import STANDARD_INPUT, lines_of, opened
from albert_cli.training import labels as labels_module
from converters.errors import did_you_mean
from converters.files import explained, need, open_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from albert_cli.tasks import Columns, Sources, Task

# So many names are listed in a message, and so many lines of a file.
_SHOWN, _LINES = 8, 50
GLUE_REPOSITORY = "nyu-mll/glue"


# What is left out, by what is wrong with it: lines, or what questions are called.
LeftOut = Mapping[str, Sequence[int | str]]


def told_left_out(where: str, left_out: LeftOut, noun: str = "row") -> str:
    """What is left out, in one line; nothing where it is nothing."""
    count = sum(map(len, left_out.values()))
    if not count:
        return ""
    what = "line" if noun == "row" else noun
    parts = [
        f"{what}{'s' * (len(items) > 1)} {_listing(map(str, items), _LINES)} {why}" for why, items in left_out.items()
    ]
    return f"{where}: {count} {noun}{'s' * (count > 1)} left out: {'; '.join(parts)}"


@dataclass(frozen=True)
class Examples:
    """The rows of one split. `pairs` and `labels` (as written) may be None; `lines` are line (or row) numbers from 1.

    `left_out`: the lines of rows that are left out, by what is wrong with them. `digest` is the SHA-256 of the file or
    files.
    """

    where: str
    ids: list[str]
    texts: list[str]
    pairs: list[str] | None
    labels: list[str] | None
    lines: list[int]
    digest: str
    left_out: LeftOut = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int]) -> Examples:
        """Some of the rows."""

        def some(items: list[Any] | None) -> Any:
            return None if items is None else [items[row] for row in rows]

        return replace(
            self,
            ids=some(self.ids),
            texts=some(self.texts),
            pairs=some(self.pairs),
            labels=some(self.labels),
            lines=some(self.lines),
        )


@dataclass(frozen=True)
class Table:
    """A file of rows: column names, the cells as text, and each row's line number."""

    where: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    digest: str
    left_out: LeftOut = field(default_factory=dict)

    def column(self, name: str | int, purpose: str) -> list[str]:
        """The cells of a column; DataError names the columns there are."""
        place = name if isinstance(name, int) else self.place(name)
        if place is None:
            near = did_you_mean(str(name), self.header)
            raise DataError(
                f"{self.where}: no column {name!r} for {purpose}; its columns are {_listing(self.header)}{near}"
            )
        if isinstance(name, str) and self.header.count(name) > 1:
            raise DataError(f"{self.where}: several columns are called {name!r}; rename all but one")
        return [row[place] for row in self.rows]

    def place(self, name: str) -> int | None:
        return self.header.index(name) if name in self.header else None

    def examples(self, columns: Columns, *, labelled: bool) -> Examples:
        """The rows as examples; labels only where `labelled`."""
        texts = self.column(columns.first, "the text")
        pairs = None if columns.second is None else self.column(columns.second, "the second text")
        labels = self.column(columns.label, "the label") if labelled and columns.label is not None else None
        numbered = isinstance(columns.id, str) and self.place(columns.id) is None
        ids = [] if columns.id is None or numbered else self.column(columns.id, "the index")
        return Examples(
            where=self.where,
            ids=[item.strip() for item in ids] or [str(number) for number in range(len(texts))],
            texts=texts,
            pairs=pairs,
            labels=None if labels is None else [label.strip() for label in labels],
            lines=self.lines,
            digest=self.digest,
            left_out=self.left_out,
        )


def read_table(
    path: Path,
    *,
    kind: Kind | None = None,
    delimiter: str | None = None,
    wanted: Collection[str] = (),
    width: int | None = None,
    skip_bad: bool | None = False,
) -> Table:
    """Read a table: CSV, TSV (nothing is a quote there), JSON lines, Parquet or lines of text (the column `text`).

    The kind is that of the name unless given; gzip and zstd are taken off; `-` is standard input. `delimiter` and
    `wanted`: see tables.delimited. `width` is that of a TSV without header. Raises DataError for a file without
    rows and lines that are no JSON objects, TextError for rows of another width than the header, broken quoting and
    what is not UTF-8. With `skip_bad` rows of another width and lines that are no objects are left out; None where
    nobody can ask for that.
    """
    kind = kind or kind_of(path)
    hint = "; --skip-bad leaves such rows out" if skip_bad is False else ""
    with explained(path), seekable(path) as file:
        digest = _digest(file)
        with decompressed(contextlib.nullcontext(file), str(path)) as stream:
            if kind in ("csv", "tsv"):
                lines = _lines(stream, path, ends=True)
                options: Any = {"delimiter": delimiter, "wanted": wanted, "width": width, "advice": hint}
                records = delimited.Records(lines, str(path), kind=kind, skip_ragged=bool(skip_bad), **options)
                found = list(records)
                rows, numbers = [cells for _, cells in found], [line for line, _ in found]
                bad = {f"not of {len(records.header)} columns": records.ragged} if records.ragged else {}
                table = Table(str(path), records.header, rows, numbers, digest, bad)
            elif kind == "txt":
                rows = [[line] for line in _lines(stream, path)]
                table = Table(str(path), ["text"], rows, list(range(1, len(rows) + 1)), digest)
            else:
                table = _read_parquet(stream, path) if kind == "parquet" else _read_jsonl(stream, path, skip_bad, hint)
                table = replace(table, digest=digest)
    if not table.rows and table.left_out:
        raise DataError(f"{told_left_out(str(path), table.left_out)}; no row is left")
    if not table.rows:
        raise DataError(f"{path}: holds no rows{' below its header' * bool(table.header)}")
    return table


def kind_of(path: Path) -> Kind:
    """What a file holds by its name; standard input is lines of text. DataError for a name that does not tell."""
    if streams(path):
        return "txt"
    if suffix_of(path) not in KINDS:
        known = ", ".join(dict.fromkeys(KINDS))
        raise DataError(f"{path}: a file of the kind {path.suffix!r}; tables are {known}, gzip or zstd too")
    return KINDS[suffix_of(path)]


def _lines(stream: Stream, path: Path, *, ends: bool = False) -> Iterator[str]:
    return lines_of(stream.file, str(path), ends=ends, advice="convert it to UTF-8")


@contextlib.contextmanager
def seekable(path: Path) -> Iterator[BinaryIO]:
    """The file, or on disk what standard input or a shell's <(command) gives, to be read twice."""
    if not streams(path):
        with open_regular(path) as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy, opened(path) as stream:
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        yield copy


def streams(path: Path) -> bool:
    """Whether a path is standard input or a shell's <(command), which can be read once."""
    return path == STANDARD_INPUT or (path.parent == Path("/dev/fd") and not path.is_file())


def _digest(file: BinaryIO) -> str:
    sha = hashlib.sha256()
    file.seek(0)
    for block in iter(lambda: file.read(1 << 20), b""):
        sha.update(block)
    file.seek(0)
    return sha.hexdigest()


def read_glue(task: Task, sources: Sources, split: str) -> Examples | None:
    """A split of a GLUE task, from the official files (in `data` or its folder of the task's name) or the Hub's."""
    named = sources.files.get(split)
    if named is None:
        directory = _glue_directory(task, sources.data)
        layout = task.splits.get(split)
        if layout is None:
            return None
        found = found_in(directory, layout.files)
        if not found:
            return _read_hub_split(task, directory, split)
        named = found[0]
    else:
        _check_file(named)
    layout = task.splits[split]
    skip_bad = task.skip_short_rows or sources.skip_bad
    table = read_table(named, width=layout.width, skip_bad=skip_bad)
    return table.examples(layout.columns, labelled=True)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path}: a directory where a file is expected; --data names a directory of a task's files")
    if not path.is_file():
        kind = "no such file" if not path.exists() else "no file that can be read more than once; write it to disk"
        raise DataError(f"{path}: {kind}")


def read_glue_file(task: Task, path: Path, *, labelled: bool, skip_bad: bool = False) -> Examples:
    """Any file of a GLUE task: with or without labels, with or without header, as its first lines tell."""
    splits = ("train", "dev") if labelled else ("test", "dev")
    faults = []
    for split in splits:
        layout = task.splits[split]
        try:
            table = read_table(path, width=layout.width, skip_bad=task.skip_short_rows or skip_bad)
            return table.examples(layout.columns, labelled=labelled)
        except DataError as error:
            faults.append(error)
    hint = "; a file without labels can only be predicted: albert predict RUN --in FILE" if labelled else ""
    raise DataError(f"{faults[0]}{hint}")


def read_table_split(task: Task, sources: Sources, split: str) -> Examples | None:
    """A split of your own tables, by the columns that were named."""
    from albert_cli.tasks import Columns

    path = sources.files.get(split)
    if path is None and sources.data is not None:
        if not sources.data.is_dir():
            raise DataError(f"{sources.data}: no such directory")
        found = {item.name.lower(): item for item in sorted(sources.data.iterdir()) if item.is_file()}
        ends = [f"{suffix}{packed}" for packed in ("", *COMPRESSED_SUFFIXES) for suffix in KINDS if suffix != ".txt"]
        path = next((found[f"{split}{end}"] for end in ends if f"{split}{end}" in found), None)
    if path is None:
        return None
    _check_file(path)
    columns = Columns(
        sources.text_column or "text", sources.text_pair_column, label=sources.label_column or "label", id=None
    )
    wanted = [str(name) for name in (columns.first, columns.second) if name is not None]
    table = read_table(path, delimiter=sources.delimiter, wanted=wanted, skip_bad=sources.skip_bad)
    labelled = split != "test" or table.place(str(columns.label)) is not None
    return table.examples(columns, labelled=labelled)


def read_folders(task: Task, sources: Sources, split: str) -> Examples | None:
    """A split in folders: `data/<split>/<label>/*.txt`; where there is no `dev`, `test` serves as it."""
    if sources.data is None:
        raise DataError("imdb needs --data: a directory with train/pos, train/neg and the same under dev or test")
    directory = sources.data / split
    if split == "dev" and not directory.is_dir():
        directory = sources.data / "test"
    if not directory.is_dir():
        return None
    labels = sorted(item.name for item in directory.iterdir() if item.is_dir() and item.name != "unsup")
    files = [(label, path) for label in labels for path in sorted((directory / label).glob("*.txt"))]
    if not files:
        raise DataError(f"{directory}: no folders of .txt files, as pos/*.txt and neg/*.txt")
    sha, texts = hashlib.sha256(), []
    for label, path in files:
        with explained(path), open_regular(path) as file:
            data = file.read()
        sha.update(f"{label}/{path.name}\0{len(data)}\0".encode() + data)
        try:
            texts.append(data.decode("utf-8-sig").replace("<br />", " "))
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return Examples(
        where=str(directory),
        ids=[f"{label}/{path.stem}" for label, path in files],
        texts=texts,
        pairs=None,
        labels=[label for label, _ in files],
        lines=list(range(1, len(files) + 1)),
        digest=sha.hexdigest(),
    )


def found_labels(examples: Examples) -> tuple[str, ...]:
    """The labels of a training set in order, numbers by value.

    DataError for cells that hold no label, for one label written in several ways, for fewer than two labels or far too
    many.
    """
    _check_labels(examples)
    labels = set(_labels(examples))
    if len(labels) < 2:
        raise DataError(f"{examples.where}: every row has the label {min(labels)!r}; a classifier needs at least two")
    if len(labels) > 1000 or len(labels) > len(examples) / 2 + 2:
        raise DataError(
            f"{examples.where}: {len(labels)} different labels in {len(examples)} rows; "
            "is it the right --label-column, or do you want --regression?"
        )
    try:
        return tuple(sorted(labels, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def _check_labels(examples: Examples) -> None:
    """Refuse cells without a label, told with their lines, and what is hardly meant to be two labels."""
    found = _labels(examples)
    missing = [
        f"line {line} {why}"
        for line, label in zip(examples.lines, found, strict=True)
        if (why := labels_module.why_missing(label))
    ]
    if missing:
        raise DataError(
            f"{examples.where}: {_count(missing, 'row')} without a label: {_listing(missing, _LINES)}; fill them in "
            "(a class of such a name needs another one), or leave the rows out with --skip-bad"
        )
    doubts = [f"{' and '.join(group)} are one number" for group in labels_module.same_number(found)] + [
        "true and false stand beside numbers"
    ] * labels_module.mixes_truth_and_numbers(found)
    if doubts:
        suspects = {label for group in labels_module.same_number(found) for label in group}
        if labels_module.mixes_truth_and_numbers(found):
            suspects |= {label for label in found if label.lower() in ("true", "false", "0", "1", "0.0", "1.0")}
        common = max(suspects, key=found.count)
        lines = [
            f"line {line} has {label}"
            for line, label in zip(examples.lines, found, strict=True)
            if label in suspects and label != common
        ]
        raise DataError(
            f"{examples.where}: labels written in several ways: {', '.join(doubts)}: {_listing(lines, _LINES)}; "
            "write each label in one way"
        )


def alike_labels(examples: Examples) -> list[str]:
    """Notes on labels that differ only in case or white space, which stay different labels."""
    return [
        f"{examples.where}: {' and '.join(map(repr, group))} differ only in case or white space; they are "
        f"{len(group)} labels"
        for group in labels_module.alike(_labels(examples))
    ]


def doubtful_labels(examples: Examples) -> list[str]:
    """A note on labels that others write for a missing one, and that are classes here."""
    found = _labels(examples)
    doubtful = sorted({label for label in found if labels_module.may_be_missing(label)})
    if not doubtful:
        return []
    counted = ", ".join(f"{label!r} ({_count([item for item in found if item == label], 'row')})" for label in doubtful)
    return [
        f"{examples.where}: taken as a class: {counted}; where that stands for a missing label, leave the cell empty"
    ]


def without_bad_labels(
    examples: Examples, kind: str, labels: Sequence[str], value_range: tuple[float, float] | None
) -> Examples:
    """The rows that have a label one can learn (or, with `labels`, one of these); the lines of the others are kept."""

    def good(label: str) -> bool:
        if kind == "regression":
            return labels_module.number_of(label, value_range) is not None
        return label in known if known else labels_module.why_missing(label) is None

    known = frozenset(labels)
    rows = [row for row, label in enumerate(_labels(examples)) if good(label)]
    if not rows:
        raise DataError(f"{examples.where}: no row has a label that can be used")
    kept = frozenset(rows)
    without = [line for row, line in enumerate(examples.lines) if row not in kept]
    if not without:
        return examples
    return replace(examples.take(rows), left_out={**examples.left_out, "without a usable label": without})


def class_numbers(examples: Examples, labels: Sequence[str]) -> NDArray[np.int64]:
    """Each row's label as its place in `labels`; one DataError tells every unknown one with its line."""
    import numpy as np

    numbers = {label: number for number, label in enumerate(labels)}
    found = _labels(examples)
    unknown = [
        f"line {line} has {label!r}" for line, label in zip(examples.lines, found, strict=True) if label not in numbers
    ]
    if unknown:
        raise DataError(
            f"{examples.where}: {_count(unknown, 'unknown label')}: {_listing(unknown, _LINES)}; known: "
            f"{_listing(labels)}; correct them, or leave such rows out with --skip-bad"
        )
    return np.array([numbers[label] for label in found], np.int64)


def check_classes(numbers: NDArray[np.int64], labels: Sequence[str], where: str, hint: str = "") -> None:
    """Refuse training data in which a class has no row (DataError)."""
    absent = [label for number, label in enumerate(labels) if not (numbers == number).any()]
    if absent:
        raise DataError(
            f"{where}: no training row has the label {_listing(map(repr, absent))} (of {_listing(labels)}), "
            f"which the model could not learn; {hint or 'add such rows'}"
        )


def targets(examples: Examples, value_range: tuple[float, float] | None) -> NDArray[np.float64]:
    """Each row's label as a number within the range; one DataError tells every fault with its line."""
    import numpy as np

    values = [labels_module.number_of(label, value_range) for label in _labels(examples)]
    faults = [
        f"line {line} has {labels_module.shown(label)}"
        for line, label, value in zip(examples.lines, _labels(examples), values, strict=True)
        if value is None
    ]
    if faults:
        wanted = f"a number from {value_range[0]:g} to {value_range[1]:g}" if value_range else "a finite number"
        raise DataError(
            f"{examples.where}: {_count(faults, 'label')} not {wanted}: {_listing(faults, _LINES)}; correct them, or "
            "leave such rows out with --skip-bad"
        )
    return np.array(values, np.float64)


def _labels(examples: Examples) -> list[str]:
    if examples.labels is None:
        raise DataError(f"{examples.where}: has no labels; it can only be predicted: albert predict RUN --in FILE")
    return examples.labels


def _read_jsonl(stream: Stream, path: Path, skip_bad: bool | None, hint: str) -> Table:
    """A row for each line that is an object; DataError tells the others, unless they are to be left out."""
    header: dict[str, None] = {}
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    faults: dict[int, str] = {}
    array = False
    for number, line in delimited.json_lines(_lines(stream, path)):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            at = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            array = array or not (faults or records or not line.lstrip().startswith("["))
            faults[number] = f"line {number} is not JSON: {at}"
            continue
        if not isinstance(record, dict):
            faults[number] = f"line {number} holds a {type(record).__name__}, not an object of columns"
            continue
        header |= dict.fromkeys(record)
        records.append(record)
        lines.append(number)
    if faults and (array or not skip_bad):  # the lines of an array that is damaged are no rows to choose from
        raise DataError(f"{path}: {_listing(faults.values())}{'' if array else hint}")
    rows = [[_cell(record.get(name)) for name in header] for record in records]
    return Table(str(path), list(header), rows, lines, "", {"that are no JSON objects": list(faults)} if faults else {})


def _read_parquet(stream: Stream, path: Path) -> Table:
    need("pyarrow", "reading Parquet")
    import pyarrow as pa
    from pyarrow import parquet

    with tempfile.TemporaryFile() if stream.compressed else contextlib.nullcontext(stream.below) as file:
        if stream.compressed:
            shutil.copyfileobj(stream.file, file)
        try:
            table = parquet.read_table(file)
        except pa.ArrowException as error:
            raise DataError(f"{path}: not a sound Parquet file ({str(error).splitlines()[0]})") from None
    columns = [[_cell(value) for value in column.to_pylist()] for column in table.columns]
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    return Table(str(path), table.column_names, rows, list(range(1, len(rows) + 1)), "")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (bool, list, dict)) else str(value)


def _glue_directory(task: Task, data: Path | None) -> Path:
    """Where the task's files are: `data` itself, its folder of the task's name, or the Hub's download."""
    if data is None:
        return _download(task)
    if not data.is_dir():
        raise DataError(f"{data}: no such directory")
    folders = [data / task.directory, *([data / task.hub.directory] if task.hub else []), data]
    for folder in folders:
        names = [name for split in task.splits.values() for name in split.files if not name.startswith("..")]
        if found_in(folder, names) or any(folder.glob("train-*.parquet")):
            return folder
    raise DataError(f"{data}: no files of {task.name} there, nor in {task.directory}/ (train.tsv, dev.tsv, …)")


def _download(task: Task) -> Path:
    """The task's directory of `nyu-mll/glue`, downloaded once into the Hub's cache."""
    need("huggingface_hub", f"downloading {task.name}")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    assert task.hub is not None
    wanted = [f"{task.hub.directory}/*", *(["ax/*"] if task.directory == "MNLI" else [])]
    try:
        root = huggingface_hub.snapshot_download(GLUE_REPOSITORY, repo_type="dataset", allow_patterns=wanted)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise DataError(
            f"{task.name} could not be downloaded from {GLUE_REPOSITORY} ({reason}); "
            f"pass --data with a directory that holds its files (train.tsv, dev.tsv)"
        ) from None
    return Path(root) / task.hub.directory


def _read_hub_split(task: Task, directory: Path, split: str) -> Examples | None:
    """A split as `nyu-mll/glue` stores it: Parquet, labels numbered, -1 where there is none."""
    if task.hub is None or split not in task.hub.splits:
        return None
    name = Path(task.hub.splits[split])
    paths = sorted((directory / name.parent).glob(f"{name.name}-*.parquet"))
    if not paths:
        return None
    tables = [read_table(path, kind="parquet") for path in paths]
    rows = [row for table in tables for row in table.rows]
    whole = replace(
        tables[0],
        rows=rows,
        lines=list(range(1, len(rows) + 1)),
        digest=hashlib.sha256("".join(table.digest for table in tables).encode()).hexdigest(),
    )
    texts = whole.column(task.hub.first, "the text")
    numbers = whole.column("label", "the label")
    names = {str(number): label for number, label in enumerate(task.hub.labels)}
    hidden = {"-1", "-1.0", ""}
    labels = None if set(numbers) <= hidden else [names.get(number, number) for number in numbers]
    return Examples(
        where=whole.where,
        ids=whole.column("idx", "the index"),
        texts=texts,
        pairs=None if task.hub.second is None else whole.column(task.hub.second, "the second text"),
        labels=labels,
        lines=whole.lines,
        digest=whole.digest,
    )


def _count(items: Sequence[str], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _listing(items: Iterable[str], shown: int = _SHOWN) -> str:
    items = list(items)
    rest = len(items) - shown
    return ", ".join(items[:shown]) + (f" and {rest} more" if rest > 0 else "")
