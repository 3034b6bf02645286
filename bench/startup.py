"""How long commands on the built-in model take, beside a bare interpreter and `import torch`, in turns.

`python bench/startup.py [--rounds 9]`: seconds of the processor, median and best, as others may use the machine, and
the ratio to `import torch`, without which none of these commands can compute. Modules are compiled beforehand, as pip
does when it installs them.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ALBERT = [sys.executable, "-m", "albert_cli"]
TORCH = "import torch"
COMMANDS = {
    "python -c ''": [sys.executable, "-c", ""],
    TORCH: [sys.executable, "-c", TORCH],
    "albert --help": [*ALBERT, "--help"],
    "albert tokenize": [*ALBERT, "tokenize", "A cup of tea."],
    "albert fill-mask": [*ALBERT, "fill-mask", "A cup of [MASK]."],
    "albert score": [*ALBERT, "score", "A cup of tea."],
    "albert similarity": [*ALBERT, "similarity", "--in", "texts.txt"],
    "albert embed": [*ALBERT, "embed", "--in", "texts.txt", "--out", "out.parquet", "--force"],
    "before training": [sys.executable, "-c", "import albert_cli.training.session"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "texts.txt").write_text("A cup of tea.\nThen we left.\n")
        for command in COMMANDS.values():
            of_processor(command, folder)
        for _ in range(options.rounds):
            for name, command in COMMANDS.items():
                seconds[name].append(of_processor(command, folder))
    base = statistics.median(seconds[TORCH])
    print(f"{'':20}{'median s':>10}{'best s':>10}{'x import torch':>16}")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"{name:20}{middle:10.2f}{min(values):10.2f}{middle / base:16.2f}")


def of_processor(command: list[str], folder: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(
        command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
