"""A corpus as tokens on disk: documents of sentences, read once, then mapped into memory, however large.

Text files hold one sentence or paragraph a line, an empty line between documents (Google's layout for
create_pretraining_data.py); paragraphs are cut into sentences here. Every n-th document is held out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from albert_cli.declared import Within, read_facts
from albert_cli.errors import DataError
from albert_cli.pretraining.sentences import sentences
from albert_cli.tables.input_files import decompressed
from albert_cli.tables.lines import lines_of
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.config import dump_json
from converters.errors import CorruptError, FileError
from converters.files import file_errors, noting, open_regular, sha256_of
from converters.staging import atomic_write

NAME, MANIFEST = "corpus", "corpus.json"
OURS = re.compile(r"corpus\.json|(ids|sentences|documents|sources)\.bin")
SUFFIXES = (".txt", ".txt.gz", ".txt.xz", ".txt.zst")
# The most sentences of a document: a novel in one piece would be held out, or not, as a whole.
_MOST_SENTENCES = 400
# Raised where the same files and tokenizer give other tokens than before.
_VERSION = 2
# Sentences tokenized at once.
_BLOCK = 65536


@dataclass(frozen=True)
class Files:
    """The text files of a corpus, with what is known of each: how often an epoch goes through it (`weight`), and
    whether its lines follow on one another (`ordered`: else no sentence-order pairs are made of it). `left_out`: what
    else is in the directories; `repeated`: what was named twice."""

    paths: tuple[Path, ...]
    weights: tuple[float, ...]
    ordered: tuple[bool, ...]
    left_out: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    @classmethod
    def find(
        cls, given: Sequence[Path], weights: Mapping[str, float] | None = None, unordered: Sequence[str] = ()
    ) -> Files:
        """Files, and directories of .txt files (.gz, .xz, .zst too); `weights` and `unordered` go by file name.

        A name may leave out its suffixes. Raises DataError for nothing found and for names that match no file.
        """
        named: list[Path] = []
        left_out: list[Path] = []
        for path in given:
            if path.is_dir():
                inside = sorted(path.iterdir())
                found = [item for item in inside if _is_text(item)]
                if not found:
                    raise DataError(f"{path}: no text files ({', '.join(SUFFIXES)}) in this directory")
                named += found
                left_out += [item for item in inside if item not in found]
            else:
                with file_errors(path), open_regular(path):  # a pipe could be read once
                    named.append(path)
        by_place: dict[Path, Path] = {}
        repeated = [path for path in named if by_place.setdefault(path.resolve(), path) is not path]
        paths = list(by_place.values())
        if not paths:
            raise DataError("no corpus is named; pass --corpus with a file or directory of text")
        weights = dict(weights or {})
        names = [{path.name, path.name.split(".", maxsplit=1)[0]} for path in paths]
        known = set().union(*names)
        unknown = [name for name in [*weights, *unordered] if name not in known]
        if unknown:
            raise DataError(
                f"{', '.join(unknown)}: no such file in the corpus; its files are {', '.join(p.name for p in paths)}"
            )
        wrong = [f"{name} is {weight}" for name, weight in weights.items() if not 0 <= weight <= 100]
        if wrong:
            raise DataError(f"weights are from 0 to 100: {', '.join(wrong)}")
        return cls(
            tuple(paths),
            tuple(next((weights[name] for name in known if name in weights), 1.0) for known in names),
            tuple(not known & set(unordered) for known in names),
            tuple(str(path) for path in left_out),
            tuple(str(path) for path in repeated),
        )

    def documents(self, progress: Callable[[int], None] | None = None) -> Iterator[tuple[int, list[str]]]:
        """Number of the file and sentences of each document, in order; `progress` is called with bytes of text.

        A document of more than _MOST_SENTENCES comes in parts of that size.
        """
        for number, path in enumerate(self.paths):
            for document in _documents(path, progress):
                for start in range(0, len(document), _MOST_SENTENCES):
                    yield number, document[start : start + _MOST_SENTENCES]


def is_held_out(document: int, hold_out: int) -> bool:
    """Whether the document of that number is kept for evaluation; with `hold_out` 0 none is."""
    return hold_out > 0 and document % hold_out == hold_out - 1


def _is_text(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".") and path.is_file()


def _documents(path: Path, progress: Callable[[int], None] | None) -> Iterator[list[str]]:
    document: list[str] = []
    any_text = False
    for line in lines(path, progress):
        text = line.replace("\0", "")
        if text.strip():
            document += sentences(text)
            any_text = True
        elif document:
            yield document
            document = []
    if document:
        yield document
    if not any_text:
        raise DataError(f"{path}: there is no text in it")


def lines(path: Path, progress: Callable[[int], None] | None = None) -> Iterator[str]:
    """The lines of a text file, compressed or not; LF, CRLF or CR ends them. Raises TextError."""
    with file_errors(path), decompressed(open_regular(path), str(path)) as stream:
        for line in lines_of(stream.file, str(path), progress=progress, advice="convert it to UTF-8"):
            yield from line.split("\r")


@dataclass(frozen=True)
class Corpus:
    """Tokens of a corpus, mapped from disk.

    `ids` (tokens), without special ones; `sentences` (sentences + 1): where each begins in `ids`; `documents`
    (documents + 1): where each begins in `sentences`; `sources` (documents): the number of the file each is from.
    """

    ids: NDArray[Any]
    sentences: NDArray[np.int64]
    documents: NDArray[np.int64]
    sources: NDArray[np.int32]
    facts: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.sources)

    def split(self, hold_out: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers of the documents to train on and of those held out."""
        numbers = np.arange(len(self))
        held = np.array([is_held_out(number, hold_out) for number in range(len(self))], bool)
        return numbers[~held], numbers[held]


def fingerprint(files: Files, tokenizer_digest: str) -> dict[str, Any]:
    """What the tokens depend on: the files' contents and the tokenizer."""
    contents = []
    for path in files.paths:
        with file_errors(path), open_regular(path) as file:
            contents.append([path.name, sha256_of(file)])  # names may repeat
    return {
        "version": _VERSION,
        "files": contents,
        "tokenizer": tokenizer_digest,
        "most_sentences": _MOST_SENTENCES,
    }


@dataclass(frozen=True)
class _Counts:
    """How many values each array has."""

    ids: Annotated[int, Within(0)]
    sentences: Annotated[int, Within(1)]
    documents: Annotated[int, Within(1)]
    sources: Annotated[int, Within(0)]


@dataclass(frozen=True)
class _Digests:
    """The SHA-256 of each array."""

    ids: str
    sentences: str
    documents: str
    sources: str


@dataclass(frozen=True)
class _Facts:
    """What corpus.json says of the arrays beside it. `parts`: documents that were cut."""

    fingerprint: Mapping[str, Any]
    dtype: Literal["<u2", "<i4"]
    counts: _Counts
    sha256: _Digests
    parts: Annotated[int, Within(0)] = 0


def prepare(
    files: Files,
    tokenizer: Tokenizer,
    tokenizer_digest: str,
    directory: Path,
    *,
    resuming: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Corpus:
    """The tokens of the files: from `directory` if they are there, else tokenized into it in one step.

    Where those there are damaged, a run that is `resuming` gets a CorruptError, for it was trained on them.
    """
    with noting() as check:  # the tokens are those of what the fingerprint was taken of
        wanted = fingerprint(files, tokenizer_digest)
        if (directory / MANIFEST).exists():
            try:
                found = load(directory)
                if found.facts["fingerprint"] == wanted:
                    _check_ids(found, len(tokenizer), len(files.paths), directory)
                    return found
            except (CorruptError, FileError):
                if resuming:
                    raise
        with atomic_write(directory, force=True, ours=OURS) as beside:
            _write(files, tokenizer, beside, wanted, progress)
            check()
    return load(directory)


def load(directory: Path) -> Corpus:
    """Map a tokenized corpus; CorruptError where its files are damaged or do not fit together."""
    advice = f"remove {directory}, and the corpus is tokenized again"
    facts = read_facts(directory / MANIFEST, _Facts, advice)
    kinds = {"ids": facts["dtype"], "sentences": "<i8", "documents": "<i8", "sources": "<i4"}
    arrays: dict[str, NDArray[Any]] = {}
    for name, kind in kinds.items():
        path, count = directory / f"{name}.bin", facts["counts"][name]
        with file_errors(path), open_regular(path) as file:
            size, wanted = path.stat().st_size, count * np.dtype(kind).itemsize
            if size != wanted:
                raise CorruptError(f"{path}: has {size} bytes, where {MANIFEST} says {wanted}; {advice}")
            if sha256_of(file) != facts["sha256"][name]:
                raise CorruptError(f"{path}: its SHA-256 is not that in {MANIFEST}; {advice}")
            arrays[name] = np.memmap(path, kind, "r", shape=(count,)) if count else np.zeros(0, kind)
    for starts, of in (("sentences", "ids"), ("documents", "sentences")):
        last = facts["counts"][of] - (of == "sentences")
        if arrays[starts][0] != 0 or arrays[starts][-1] != last or (np.diff(arrays[starts]) < 0).any():
            raise CorruptError(f"{directory / starts}.bin: does not ascend from 0 to {last}, the {of}; {advice}")
    if len(arrays["sources"]) != len(arrays["documents"]) - 1:
        raise CorruptError(f"{directory}: sources.bin is not of as many documents as documents.bin; {advice}")
    return Corpus(arrays["ids"], arrays["sentences"], arrays["documents"], arrays["sources"], facts)


def _check_ids(corpus: Corpus, pieces: int, files: int, directory: Path) -> None:
    """CorruptError for an id that the tokenizer, or a number that the list of files, does not have."""
    for name, values, most in (("ids", corpus.ids, pieces), ("sources", corpus.sources, files)):
        if len(values) and not (values.min() >= 0 and values.max() < most):
            seen = f"{values.min()} to {values.max()}"
            raise CorruptError(f"{directory / name}.bin: holds {seen}, not 0 to {most - 1}; remove {directory}")


def _write(
    files: Files,
    tokenizer: Tokenizer,
    directory: Path,
    wanted: Mapping[str, Any],
    progress: Callable[[int], None] | None,
) -> None:
    kind = "<u2" if len(tokenizer) <= 2**16 else "<i4"
    counts = {"ids": 0, "sentences": 1, "documents": 1, "sources": 0}
    parts = 0
    with (
        open(directory / "ids.bin", "wb") as ids_file,
        open(directory / "sentences.bin", "wb") as sentences_file,
        open(directory / "documents.bin", "wb") as documents_file,
        open(directory / "sources.bin", "wb") as sources_file,
    ):
        sentences_file.write(np.zeros(1, "<i8").tobytes())
        documents_file.write(np.zeros(1, "<i8").tobytes())
        for block in _blocks(files.documents(progress)):
            rows = tokenizer.ids([sentence for _, document in block for sentence in document])
            # A sentence of nothing (white space the tokenizer drops) stays as an empty one: numbers do not shift.
            lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
            flat = np.fromiter((number for row in rows for number in row), kind, int(lengths.sum()))
            ids_file.write(flat.tobytes())
            sentences_file.write((counts["ids"] + np.cumsum(lengths)).astype("<i8").tobytes())
            sizes = np.array([len(document) for _, document in block])
            documents_file.write((counts["sentences"] - 1 + np.cumsum(sizes)).astype("<i8").tobytes())
            sources_file.write(np.array([number for number, _ in block], "<i4").tobytes())
            counts["ids"] += len(flat)
            counts["sentences"] += len(rows)
            counts["documents"] += len(block)
            counts["sources"] += len(block)
            parts += int((sizes == _MOST_SENTENCES).sum())
    digests = {}
    for name in counts:
        with open(directory / f"{name}.bin", "rb") as file:
            digests[name] = sha256_of(file)
    facts = {"fingerprint": wanted, "dtype": kind, "counts": counts, "sha256": digests, "parts": parts}
    (directory / MANIFEST).write_bytes(dump_json(json.loads(json.dumps(facts))))


def _blocks(documents: Iterable[tuple[int, list[str]]]) -> Iterator[list[tuple[int, list[str]]]]:
    block: list[tuple[int, list[str]]] = []
    size = 0
    for item in documents:
        block.append(item)
        size += len(item[1])
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block
