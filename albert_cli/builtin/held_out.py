"""What the built-in model is measured on and what pages show of it: texts that nothing it learns from may hold.

STS-B's development and test set, a part of its training set (`sts_part`), and every text that README, card, docs and
`bench/` show. `cleaning.py` keeps them out.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

from albert_cli.errors import DataError
from albert_cli.pretraining.sentences import sentences
from converters.files import file_errors

# The sentences of TensorFlow Hub's article on sentence similarity, by which models are compared.
SIX = (
    "I like my phone",
    "My phone is not good.",
    "Recently a lot of hurricanes have hit the US",
    "Global warming is real",
    "How old are you?",
    "what is your age?",
)
# The second held-out set: of STS-B's training rows, in the file's order, the last of every four. It has all genres.
EVERY = 4
ROOT = Path(__file__).parents[2]
# Of fewer words than this a line of a page is a name or a number, no text.
_FEWEST_WORDS = 3
_BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r'"([^"\n]+)"')
_APART = re.compile(r"\t| {2,}|\\n")


class Pairs(NamedTuple):
    """Pairs of sentences and people's scores of their similarity, from 0 to 5."""

    firsts: list[str]
    seconds: list[str]
    scores: list[float]

    @property
    def texts(self) -> list[str]:
        """The first sentences, then the second ones."""
        return self.firsts + self.seconds


def sts_dev(folder: Path) -> Pairs:
    """STS-B's development set, of GLUE's folder `STS-B`."""
    return _pairs(_rows(folder / "dev.tsv"))


def sts_part(folder: Path) -> Pairs:
    """The second held-out set: the last of every `EVERY` rows of STS-B's training set."""
    return _pairs(_rows(folder / "train.tsv")[EVERY - 1 :: EVERY])


def held_out_texts(folder: Path, root: Path = ROOT) -> dict[str, list[str]]:
    """Texts by the list they are of; that of STS-B's test set is empty where GLUE's folder lacks `test.tsv`."""
    test = _rows(folder / "test.tsv") if (folder / "test.tsv").exists() else []
    return {
        "six sentences": list(SIX),
        "STS-B dev": sts_dev(folder).texts,
        "STS-B test": [row[name] for name in ("sentence1", "sentence2") for row in test],
        "STS-B train, part": sts_part(folder).texts,
        "pages": shown(root),
    }


def shown(root: Path = ROOT) -> list[str]:
    """The texts of README, card, docs and `bench/`: what is quoted there, and lines of blocks with their columns."""
    pages = [root / "README.md", root / "bench/README.md", Path(__file__).with_name("card.md")]
    found: list[str] = []
    for page in [*pages, *sorted((root / "docs").rglob("*.md"))]:
        content = page.read_text(encoding="utf-8")
        found += _QUOTED.findall(content)
        for block in _BLOCK.findall(content):
            for line in block.splitlines():
                found += [line, *_APART.split(line)]
    for script in [root / "Makefile", *sorted((root / "bench").glob("*.py"))]:
        found += _QUOTED.findall(script.read_text(encoding="utf-8"))
    parts = [part for text in found for part in [text, *sentences(text)]]
    return [text for text in dict.fromkeys(parts) if len(text.split()) >= _FEWEST_WORDS]


def _rows(path: Path) -> list[dict[str, str]]:
    with file_errors(path), path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or not {"sentence1", "sentence2"} <= rows[0].keys():
        raise DataError(f"{path}: no rows with sentence1 and sentence2; wanted is a file of GLUE's STS-B")
    return rows


def _pairs(rows: list[dict[str, str]]) -> Pairs:
    kept = [row for row in rows if row["score"]]
    return Pairs(
        [row["sentence1"] for row in kept], [row["sentence2"] for row in kept], [float(row["score"]) for row in kept]
    )
