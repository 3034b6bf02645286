"""Texts per second of BERT's WordPiece and RoBERTa's byte-level BPE: ours against the `tokenizers` library.

    python bench/relatives.py [--rounds 7]

Real vocabularies and all texts of GLUE in random order, from the sample data beside the project. Each round makes every
tokenizer anew, so its memory of words begins empty, and encodes all texts twice. Rates are medians over the rounds,
ratios medians of those within a round; the library uses all cores, ours one.
"""

import argparse
import lzma
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
_CHUNK = 32768


def main() -> None:
    from tokenizer_oracle import glue_texts

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    texts = glue_texts(SHARED)
    random.Random(1).shuffle(texts)
    print(f"{len(texts):,} texts, {len(os.sched_getaffinity(0))} cores, {rounds} rounds\n")
    print("| tokenizer | library, texts/s | ours, texts/s | ratio | ours again | ratio | other ids | processor time |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (ours, library) in _sides(Path(folder)).items():
            runs = [_round(ours(), library(), texts) for _ in range(rounds)]
            theirs, first, again = (
                statistics.median(len(texts) / run[0][side][0] for run in runs) for side in range(3)
            )
            ratios = [statistics.median(run[0][0][0] / run[0][side][0] for run in runs) for side in (1, 2)]
            processor = statistics.median(run[0][0][1] / run[0][1][1] for run in runs)
            print(
                f"| {name} | {theirs:,.0f} | {first:,.0f} | {ratios[0]:.2f} | {again:,.0f} | {ratios[1]:.2f} "
                f"| {runs[0][1]} | {processor:.2f} |"
            )


def _round(ours, library, texts):
    """Wall and processor seconds of the library, ours and ours again; how many texts have other ids."""
    blocks = [texts[low : low + _CHUNK] for low in range(0, len(texts), _CHUNK)]
    taken, rows = [], []
    for run in (
        lambda block: [row.ids for row in library.encode_batch_fast(block, add_special_tokens=False)],
        ours.ids,
        ours.ids,
    ):
        wall, processor = time.perf_counter(), time.process_time()
        rows.append([ids for block in blocks for ids in run(block)])
        taken.append((time.perf_counter() - wall, time.process_time() - processor))
    return taken, sum(one != other for one, other in zip(*rows[:2], strict=True))


def _sides(folder: Path) -> dict:
    """Name -> (how ours is made, how the library's is made)."""
    from tokenizers import BertWordPieceTokenizer, Tokenizer, models, pre_tokenizers

    from albert_cli.tokenization.tokenizer import Tokenizer as Ours
    from converters.tokenizers.files import TokenizerFiles

    def unpacked(name):
        content = lzma.decompress((SHARED / f"tokenizer/relatives/{name}.xz").read_bytes())
        (folder / name).write_bytes(content)
        return content

    def wordpiece(kind):
        listed, lower = unpacked(f"bert-{kind}-vocab.txt"), kind == "uncased"
        files = TokenizerFiles.of("x", wordpiece=listed, settings={"do_lower_case": lower})
        path = str(folder / f"bert-{kind}-vocab.txt")
        return lambda: Ours.from_files(files), lambda: BertWordPieceTokenizer(path, lowercase=lower)._tokenizer

    vocabulary, merges = unpacked("roberta-vocab.json"), unpacked("vocab.bpe")
    files = TokenizerFiles.of("x", vocab_json=vocabulary, merges=merges)

    def byte_level():
        made = Tokenizer(models.BPE.from_file(str(folder / "roberta-vocab.json"), str(folder / "vocab.bpe")))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return made

    return {
        "WordPiece, uncased": wordpiece("uncased"),
        "WordPiece, cased": wordpiece("cased"),
        "byte-level BPE": (lambda: Ours.from_files(files), byte_level),
    }


if __name__ == "__main__":
    main()
