"""Fine-tuning by one process on two threads, and by two of one thread each, as torchrun starts them.

`python bench/processes.py --data DIR/QNLI [--model MODEL…] [--rounds 2]`: seconds of the second epoch of 576 rows, the
median of the rounds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from albert_cli.registry.builtin import built_in
from albert_cli.runs.events import EpochEnded, records_of
from albert_cli.runs.log import read_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", nargs="+", default=[str(built_in())])
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    print(f"{'model':20}{'1 process, s an epoch':>22}{'2 processes':>14}{'x as fast':>12}")
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "rows.tsv"  # a few, so that its tenth, the development set, is small
        lines = (options.data / "dev.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        rows.write_text("".join(lines[:641]), encoding="utf-8")
        for model in options.model:
            found: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(options.rounds):
                for processes, seconds in found.items():
                    seconds.append(epoch(processes, model, rows, Path(scratch) / "run"))
            one, two = (statistics.median(seconds) for seconds in found.values())
            print(f"{Path(model).name:20}{one:22.3f}{two:14.3f}{one / two:12.2f}", flush=True)


def epoch(processes: int, model: str, rows: Path, out: Path) -> float:
    """Seconds of the second epoch of this run."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    columns = ["--text-column", "question", "--text-pair-column", "sentence", "--label-column", "label"]
    command = [*launcher, "-m", "albert_cli", "finetune", "csv", "--train", str(rows), *columns, "--model", model]
    threads = str((os.cpu_count() or 2) // processes)
    settings = ["--epochs", "2", "--max-length", "64", "--out", str(out), "--force"]
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    subprocess.run([*command, *settings], check=True, env=environment, stdout=subprocess.DEVNULL)
    return float(records_of(read_log(out), EpochEnded)[-1]["seconds"])


if __name__ == "__main__":
    main()
