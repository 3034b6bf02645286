"""Commands alone and beside a neighbour, by how PyTorch's threads wait for each other.

`python bench/neighbours.py --data DIR/QNLI [--rounds 3]`: seconds of the clock, medians. Every command runs alone, then
two at once, with each setting of GNU OpenMP, which PyTorch is built with: threads that spin are there at once, and hold
a core meanwhile.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS: dict[str, dict[str, str]] = {
    "as it comes": {"GOMP_SPINCOUNT": "300000"},
    "spin 20000": {"GOMP_SPINCOUNT": "20000"},
    "spin 2000": {"GOMP_SPINCOUNT": "2000"},
    "never spin": {"OMP_WAIT_POLICY": "passive"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = (options.data / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
        (folder / "texts.txt").write_text("\n".join(line.split("\t")[2] for line in lines))
        commands = {
            "finetune qnli, 60 steps": [
                "finetune",
                "qnli",
                "--data",
                options.data,
                "--steps",
                "60",
                "--eval-every",
                "60",
            ],
            "embed 800 texts": ["embed", "--in", folder / "texts.txt"],
        }
        print(f"{'':26}{'':14}{'alone':>9}{'beside one':>12}{'ratio':>8}")
        for title, words in commands.items():
            seconds: dict[tuple[str, int], list[float]] = {}
            for _ in range(options.rounds):
                for setting, environment in SETTINGS.items():
                    for at_once in (1, 2):
                        took = run(words, at_once, environment, folder)
                        seconds.setdefault((setting, at_once), []).append(took)
            for setting in SETTINGS:
                alone, beside = (statistics.median(seconds[setting, number]) for number in (1, 2))
                print(f"{title:26}{setting:14}{alone:9.1f}{beside:12.1f}{beside / alone:8.2f}", flush=True)


def run(words: list[object], at_once: int, environment: dict[str, str], folder: Path) -> float:
    """Seconds until the last of so many has ended."""
    start = time.perf_counter()
    suffix = ".parquet" if words[0] == "embed" else ""  # of a fine-tuning it is a directory
    outs = [folder / f"{words[0]}-{number}{suffix}" for number in range(at_once)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "albert_cli", *map(str, words), "--out", str(out), "--force"],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for out in outs
    ]
    codes = [process.wait() for process in running]
    assert not any(codes), codes
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
