"""Texts per second: this tokenizer against raw SentencePiece and transformers, on the same texts in one run.

    python bench/tokenizing.py [MODEL FILE] [--texts 20000] [--rounds 15]

MODEL holds a SentencePiece model; FILE has a text per line. Without them the sample data beside the project is used:
sentences of QNLI and CoLA, then SST-2. Each round runs every side once; rates are medians over the rounds, ratios
medians of those within a round. SentencePiece alone has its texts cleaned and lower-cased beforehand, so it does the
least work that there is. Ids are compared with Google's rules, spelled out below on SentencePiece's own pieces.
"""

import sys

# This file's folder must not be on the path: its name is also that of a module of the standard library.
sys.path.pop(0)

import argparse
import gc
import os
import statistics
import tempfile
import time
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

_SENTENCEPIECE = "SentencePiece alone, texts prepared before"
_TRANSFORMERS = "transformers, own AlbertTokenizer"


def main() -> None:
    options = _options()
    lines = options.file.read_text("utf-8-sig").split("\n") if options.file else _glue(SHARED / "glue")
    texts = [line for line in lines if line.strip()][: options.texts]
    sides, expected = _sides(options.model, texts), _google(options.model, texts)
    wrong = {
        name: sum(ours != google for ours, google in zip(to_ids(run(texts)), expected, strict=True))
        for name, (run, to_ids) in sides.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds):
        names = list(sides)
        for name in names[number % len(names) :] + names[: number % len(names)]:  # no side always follows the same one
            run, _ = sides[name]
            gc.collect()
            gc.disable()  # as timeit does: one side must not pay for another's garbage
            start = time.perf_counter()
            result = run(texts)
            seconds[name].append(time.perf_counter() - start)
            gc.enable()
            del result
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts):,} texts, {size:.2f} MB, {len(os.sched_getaffinity(0))} cores, {options.rounds} rounds\n")
    print("| side | texts/s | MB/s | transformers = 1 | SentencePiece = 1 | texts with other ids than Google's |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, taken in seconds.items():
        against = [
            statistics.median(theirs / ours for theirs, ours in zip(seconds[other], taken, strict=True))
            for other in (_TRANSFORMERS, _SENTENCEPIECE)
        ]
        rate = statistics.median(taken)
        print(
            f"| {name} | {len(texts) / rate:,.0f} | {size / rate:.1f} | {against[0]:.2f} | {against[1]:.2f} "
            f"| {wrong[name]:,} |"
        )


def _sides(model: Path, texts: list[str]) -> dict:
    """Name -> (what is timed, how to get bare ids of its result)."""
    import sentencepiece
    from transformers import PreTrainedTokenizerFast
    from transformers.models.albert import AlbertTokenizer as TransformersAlbert

    from albert_cli.tokenization.loading import find_tokenizer_files
    from albert_cli.tokenization.tokenizer import Tokenizer
    from converters.config import dump_json
    from converters.tokenizers.tokenizer_json import tokenizer_config, tokenizer_json

    files = find_tokenizer_files(model)
    ours = Tokenizer.from_files(files)
    processor = sentencepiece.SentencePieceProcessor(model_proto=files.model())
    prepared = [ours.prepare(text) for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "spiece.model").write_bytes(files.model())
        own = TransformersAlbert.from_pretrained(folder)
        Path(folder, "tokenizer.json").write_bytes(tokenizer_json(files))
        Path(folder, "tokenizer_config.json").write_bytes(dump_json(tokenizer_config(files)))
        written = PreTrainedTokenizerFast.from_pretrained(folder)

    def bare(rows):  # without [CLS] and [SEP]
        return [list(row)[1:-1] for row in rows]

    return {
        "albert, ids": (ours.ids, list),
        "albert, batch with special tokens": (
            lambda texts: ours.encode_batch(texts, max_length=512),
            lambda batch: bare(batch[row].tolist() for row in range(len(batch))),
        ),
        _SENTENCEPIECE: (
            lambda _: processor.encode(prepared, out_type=int, num_threads=-1),
            list,
        ),
        _TRANSFORMERS: (
            lambda texts: own(texts, max_length=512, truncation=True),
            lambda result: bare(result["input_ids"]),
        ),
        "transformers, our tokenizer.json": (
            lambda texts: written(texts, max_length=512, truncation=True),
            lambda result: bare(result["input_ids"]),
        ),
    }


def _glue(folder: Path) -> list[str]:
    """Sentences as their authors wrote them, then lower-cased ones."""

    def column(name: str, *numbers: int) -> list[str]:
        lines = (folder / name / "train.tsv").read_text("utf-8").split("\n")
        return [line.split("\t")[number] for line in lines[1:] if line for number in numbers]

    return [*column("QNLI", 1, 2), *column("CoLA", 3), *column("SST-2", 0)]


def _google(model: Path, texts: list[str]) -> list[list[int]]:
    """Google's tokenization.py, line by line."""
    import sentencepiece

    from albert_cli.tokenization.loading import find_tokenizer_files

    processor = sentencepiece.SentencePieceProcessor(model_proto=find_tokenizer_files(model).model())
    rows = []
    for text in texts:
        prepared = unicodedata.normalize("NFKD", " ".join(text.strip().split()))
        prepared = "".join(c for c in prepared if not unicodedata.combining(c)).lower()
        pieces = []
        for piece in processor.encode(prepared, out_type=str):
            if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
                again = processor.encode(piece[:-1].replace("▁", ""), out_type=str)
                if piece[0] != "▁" and again[0][0] == "▁":
                    again = again[1:] if len(again[0]) == 1 else [again[0][1:], *again[1:]]
                pieces += [*again, ","]
            else:
                pieces.append(piece)
        rows.append([processor.piece_to_id(piece) for piece in pieces])
    return rows


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=SHARED / "tokenizer" / "spiece.model")
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if not options.file and not SHARED.is_dir():
        parser.error(f"the sample data is not at {SHARED}; name a MODEL and a FILE with a text per line")
    return options


if __name__ == "__main__":
    main()
