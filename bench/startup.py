"""How long `albert --help` takes: median of ten runs, beside a bare interpreter, alternated."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c ''": [sys.executable, "-c", ""],
    "albert --help": [str(Path(sys.executable).parent / "albert"), "--help"],
}
ROUNDS = 10


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"{name:14}  median {statistics.median(values):.3f} s  best {min(values):.3f} s")


if __name__ == "__main__":
    main()
