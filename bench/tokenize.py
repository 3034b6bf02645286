"""Texts per second: this tokenizer against raw SentencePiece and transformers, on the same texts in one run.

    python bench/tokenize.py MODEL FILE [--texts 20000] [--rounds 5]

MODEL holds a SentencePiece model; FILE has a text per line. Each round runs every side once; the best round counts.
SentencePiece alone has its texts cleaned and lower-cased beforehand, so it does the least work that there is. Ids are
compared with Google's rules, spelled out below on SentencePiece's own pieces.
"""

import sys

# This file's folder must not be on the path: its name is also that of a module of the standard library.
sys.path.pop(0)

import argparse
import gc
import os
import tempfile
import time
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def main() -> None:
    options = _options()
    with options.file.open(encoding="utf-8-sig") as file:
        texts = [line.rstrip("\n") for _, line in zip(range(options.texts), file, strict=False)]
    if len(texts) < options.texts:
        raise SystemExit(f"{options.file} has {len(texts)} lines only; give a longer file or --texts {len(texts)}")
    sides, expected = _sides(options.model, texts), _google(options.model, texts)
    wrong = {
        name: sum(ours != google for ours, google in zip(to_ids(run(texts)), expected, strict=True))
        for name, (run, to_ids) in sides.items()
    }
    best = dict.fromkeys(sides, float("inf"))
    for number in range(options.rounds):
        names = list(sides)
        for name in names[number % len(names) :] + names[: number % len(names)]:  # no side always follows the same one
            run, _ = sides[name]
            gc.collect()
            gc.disable()  # as timeit does: one side must not pay for another's garbage
            start = time.perf_counter()
            result = run(texts)
            best[name] = min(best[name], time.perf_counter() - start)
            gc.enable()
            del result
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(
        f"{len(texts):,} texts, {size:.2f} MB, {len(os.sched_getaffinity(0))} cores, best of {options.rounds} rounds\n"
    )
    print("| side | texts/s | MB/s | transformers = 1 | SentencePiece = 1 | texts with other ids than Google's |")
    print("|---|---:|---:|---:|---:|---:|")
    theirs, raw = best["transformers, own AlbertTokenizer"], best["SentencePiece alone, texts prepared before"]
    for name, seconds in best.items():
        print(
            f"| {name} | {len(texts) / seconds:,.0f} | {size / seconds:.1f} | {theirs / seconds:.2f} "
            f"| {raw / seconds:.2f} | {wrong[name]:,} |"
        )


def _sides(model: Path, texts: list[str]) -> dict:
    """Name -> (what is timed, how to get bare ids of its result)."""
    import sentencepiece
    from transformers import PreTrainedTokenizerFast
    from transformers.models.albert import AlbertTokenizer as TransformersAlbert

    from albert_cli.tokenizer import AlbertTokenizer, find_tokenizer_files
    from converters.config import dump_json
    from converters.tokenizer_json import tokenizer_config, tokenizer_json

    files = find_tokenizer_files(model)
    ours = AlbertTokenizer.from_files(files)
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
        "SentencePiece alone, texts prepared before": (
            lambda _: processor.encode(prepared, out_type=int, num_threads=-1),
            list,
        ),
        "transformers, own AlbertTokenizer": (
            lambda texts: own(texts, max_length=512, truncation=True),
            lambda result: bare(result["input_ids"]),
        ),
        "transformers, our tokenizer.json": (
            lambda texts: written(texts, max_length=512, truncation=True),
            lambda result: bare(result["input_ids"]),
        ),
    }


def _google(model: Path, texts: list[str]) -> list[list[int]]:
    """Google's tokenization.py, line by line."""
    import sentencepiece

    from albert_cli.tokenizer import find_tokenizer_files

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
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=10)
    return parser.parse_args()


if __name__ == "__main__":
    main()
