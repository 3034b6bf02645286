"""What a command holds as its input grows: peak memory and time by the number of rows.

    python bench/scale.py                               # embed, predict, tokenize, score at 10,000 and 100,000 rows
    python bench/scale.py --rows 100000 1000000 --words 2  # a million, where time allows: of short ones
    python bench/scale.py --only embed predict-csv      # the commands whose names begin so

Every run is a process of its own on one thread. Its peak is VmHWM of /proc/PID/status, polled: the peak that
getrusage tells begins with the memory of the parent. Rows are made of the built-in vocabulary's whole words, 10 of them
on average (--words) and a number, no two rows alike; the same count gives the same file. The model is the built-in one;
the labels of `predict` come from a run that is fine-tuned here on 64 rows; `score` masks every token in turn, so it has
a model of the shape `tiny`.

The verdict compares the last two numbers of rows: flat is at most 10 % more memory.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "albert_cli" / "builtin" / "model"
ALLOWED = 1.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--only", nargs="+", default=[""], help="commands whose names begin with one of these")
    parser.add_argument("--words", type=int, default=10, help="in a row, on average")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        names = [name for name in commands(folder, 0) if name.startswith(tuple(options.only))]
        prepare(folder, names)
        print("| command | rows | peak MB | s | CPU s | verdict |\n|---|---:|---:|---:|---:|---|", flush=True)
        for name in names:
            peaks: list[float] = []
            for rows in options.rows:
                inputs(folder, rows, options.words)
                peak, seconds, busy = measured(commands(folder, rows)[name])
                peaks.append(peak)
                said = ""
                if len(peaks) > 1:
                    said = "flat" if peaks[-1] <= ALLOWED * peaks[-2] else f"grows, x {peaks[-1] / peaks[-2]:.2f}"
                print(f"| {name} | {rows:,} | {peak:,.0f} | {seconds:.1f} | {busy:.1f} | {said} |", flush=True)


def commands(folder: Path, rows: int) -> dict[str, list[str]]:
    """What is measured, by name."""
    txt, csv, jsonl = (str(folder / f"{rows}.{kind}") for kind in ("txt", "csv", "jsonl"))
    out, one = str(folder / "out"), ["--threads", "1", "--force"]
    predict = ["predict", str(folder / "run")]
    score = ["score", "--model", str(folder / "tiny")]
    return {
        "embed": ["embed", "--in", txt, "--out", f"{out}.parquet", *one],
        "embed-ids": ["embed", "--in", jsonl, "--id-column", "id", "--out", f"{out}.parquet", *one],
        "predict-csv": [*predict, "--in", csv, "--out", f"{out}.csv", *one],
        "predict-parquet": [*predict, "--in", jsonl, "--out", f"{out}.parquet", "--probabilities", *one],
        "predict-json": [*predict, "--in", csv, "--json", "--threads", "1"],
        "tokenize-ids": ["tokenize", "--in", txt, "--format", "ids", "--out", f"{out}.txt", "--force"],
        "tokenize-table": ["tokenize", "--in", txt, "--out", f"{out}.txt", "--force"],
        "tokenize-stats": ["tokenize", "--in", txt, "--stats", "--json"],
        "score-totals": [*score, "--in", txt, "--totals", "--out", f"{out}.csv", *one],
        "score-json": [*score, "--in", txt, "--json", "--threads", "1"],
    }


def prepare(folder: Path, names: list[str]) -> None:
    """The models that the commands need."""
    if any(name.startswith("predict") for name in names):
        lines = ["text,label", *(f"{text},{number % 2}" for number, text in enumerate(texts(64, 10)))]
        (folder / "train.csv").write_text("\n".join(lines) + "\n")
        train = ["finetune", "csv", "--train", str(folder / "train.csv"), "--out", str(folder / "run")]
        albert([*train, "--steps", "2", "--batch-size", "8"])
    if any(name.startswith("score") for name in names):
        albert(["init", str(folder / "tiny"), "--preset", "tiny", "--tokenizer", str(MODEL / "spiece.model")])


def inputs(folder: Path, rows: int, words: int) -> None:
    """The same rows as lines, CSV and JSON lines."""
    if (folder / f"{rows}.txt").exists():
        return
    with (
        (folder / f"{rows}.txt").open("w") as txt,
        (folder / f"{rows}.csv").open("w") as csv,
        (folder / f"{rows}.jsonl").open("w") as jsonl,
    ):
        csv.write("id,text\n")
        for number, text in enumerate(texts(rows, words)):
            txt.write(f"{text}\n")
            csv.write(f"{number},{text}\n")
            jsonl.write(f'{{"id": {number}, "text": "{text}"}}\n')


def texts(rows: int, average: int) -> Iterator[str]:
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(MODEL / "spiece.model"))
    every = (pieces.id_to_piece(number) for number in range(len(pieces)))
    words = [piece[1:] for piece in every if piece.startswith("▁") and piece[1:].isalpha()]
    words = [word for word in words if word.isascii()]
    draw = random.Random(0)
    for number in range(rows):
        count = min(200, max(1, round(draw.gammavariate(2, average / 2))))
        yield f"{' '.join(draw.choices(words, k=count))} {number}"


def albert(arguments: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "albert_cli", *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def measured(arguments: list[str]) -> tuple[float, float, float]:
    """Peak memory (MB), seconds by the clock, and of the processor."""
    started = time.monotonic()
    command = [sys.executable, "-m", "albert_cli", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while True:
        lines = status.read_text().split("\n")
        peak = max([peak, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))])
        ended, code, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            process.returncode = os.waitstatus_to_exitcode(code)
            break
        time.sleep(0.02)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    return peak / 1024, time.monotonic() - started, used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
