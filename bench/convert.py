"""Time and memory of the commands on big models, each in a process of its own, against `cp` of the same bytes.

    python bench/convert.py [--shapes xlarge,xxlarge,bert-large] [--rounds 3] [--quick] [--only TEXT]
    python bench/convert.py --formats [--shapes base,xxlarge] …    reading and writing each format, in one table
    python bench/convert.py --measure convert SOURCE TARGET …      one `albert` command, as JSON

Every conversion is timed with its proof (all of the target read back and compared), and without the imports, which have
a column of their own. It ends on the disk (fsync), where `cp` leaves its bytes in the page cache, so there are two
yardsticks: `cp`, and `cp` followed by `sync FILE`. Copy and conversion alternate; figures are medians.

With `--formats`, reading is `albert inspect` (every tensor read and hashed), writing a conversion from safetensors;
onnx, which is only written, and only by torch's exporter, is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATHS = {
    "tf": "tf",
    "safetensors": "hf",
    "torch": "pt",
    "npz": "model.npz",
    "bson": "model.tfbson",
    "saved-model": "module",
}
# With each other; --formats has all of them.
CONVERTED = ("tf", "safetensors", "npz")
CONVERSIONS = [(source, target) for source in CONVERTED for target in CONVERTED if source != target]
# What writes a format takes all tensors at once.
WRITERS = {"saved-model": "tensorflow", "torch": "torch"}
OTHERS = [
    "init out/hf --preset {} --to safetensors",
    "init out/tf --preset {} --to tf",
    "inspect tf",
    "inspect model.npz",
    "diff tf hf",
    "diff tf model.npz",
]
SLACK = 200 * 10**6

Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shapes", default="xlarge,xxlarge,bert-large", help="presets, separated by commas (xlarge,xxlarge,bert-large)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each conversion is run (3)")
    parser.add_argument("--quick", action="store_true", help="the base shape, once")
    parser.add_argument("--formats", action="store_true", help="every format read and written, all shapes in one table")
    parser.add_argument("--only", default="", metavar="TEXT", help="the rows that hold this text")
    parser.add_argument("--measure", nargs=argparse.REMAINDER, metavar="ARGUMENT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    shapes, rounds = (["base"], 1) if options.quick else (options.shapes.split(","), options.rounds)
    table = []
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="albert-bench-") as work:
            if options.formats:
                table += bench_formats(shape, rounds, options.only, Path(work))
            else:
                bench(shape, rounds, options.only, Path(work))
    if options.formats:
        from albert_cli.console import print_table

        load = f"a load of {os.getloadavg()[2]:.0f} on {os.cpu_count()} cores"
        print(f"\n{rounds} round{'s' if rounds > 1 else ''}, {load}\n")
        headers = (
            "shape",
            "format",
            "",
            "MB",
            "s",
            "CPU s",
            "cp s",
            "its CPU s",
            "x cp",
            "x CPU",
            "peak MB",
            "allowed",
            "",
        )
        print_table(table, headers, right=range(3, 12))


def measure(arguments: list[str]) -> Figures:
    """Run one `albert` command in this process: seconds, CPU seconds, and bytes resident before it and at its peak."""
    start = time.perf_counter()
    from albert_cli.main import app
    from converters import convert
    from converters.tensorflow.runtime import tensorflow

    convert.formats()
    library = writer(arguments) or ("torch" if PATHS["torch"] in arguments[1:2] else None)
    if library == "tensorflow":
        tensorflow()
    elif library:
        importlib.import_module(library)
    imported, cpu = time.perf_counter(), time.process_time()
    before = resident("VmRSS")
    with contextlib.redirect_stdout(io.StringIO()):
        app(arguments, standalone_mode=False)
    return {
        "seconds": time.perf_counter() - imported,
        "cpu": time.process_time() - cpu,
        "import": imported - start,
        "before": before,
        "peak": resident("VmHWM"),
    }


def writer(arguments: list[str]) -> str | None:
    """The library that writes the target, where that is not ours."""
    return WRITERS.get(arguments[-1]) if arguments[-2] == "--to" else None


def allowed(before: float, largest: int, model: int, *, whole: bool) -> float:
    """The most bytes a command may have resident: TensorFlow's and torch's savers may hold the model once."""
    return before + 2 * largest + SLACK + (model if whole else 0)


def resident(key: str) -> int:
    """VmRSS (now) or VmHWM (at the most) of this process, in bytes (proc(5))."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition(f"{key}:")[2].split()[0]) * 1024


def bench(shape: str, rounds: int, only: str, work: Path) -> None:
    """Make a model of this shape in every format; run every row and its copy in turns; print one table."""
    from albert_cli.console import print_table
    from converters import convert

    for name in CONVERTED:
        in_fresh_process(["init", PATHS[name], "--preset", shape, "--to", name], work)
    sizes = [tensor.nbytes for tensor in convert.load(work / PATHS["safetensors"]).tensors.values()]
    plans = [f"convert {PATHS[source]} out/{PATHS[target]} --to {target}" for source, target in CONVERSIONS]
    plans += [plan.format(shape) for plan in OTHERS]
    results: dict[str, list[Figures]] = {plan: [] for plan in plans if only in plan}
    for done in range(rounds):
        for plan, figures in results.items():
            if done == 0 or plan.startswith("convert"):  # the others are here for their memory
                figures.append(run(plan.split(), work))
    rows = [row(plan, figures, sum(sizes), max(sizes)) for plan, figures in results.items()]
    print(
        f"\n{shape}: {len(sizes)} tensors of {sum(sizes) / 1e6:.0f} MB, the largest {max(sizes) / 1e6:.0f} MB; "
        f"{rounds} round{'s' if rounds > 1 else ''}\n"
    )
    headers = ("albert", "import s", "s", "CPU s", "cp s", "x cp", "+sync s", "x cp+sync", "MB", "allowed", "verdict")
    print_table(rows, headers, right=range(1, 10))


def bench_formats(shape: str, rounds: int, only: str, work: Path) -> list[tuple[str, ...]]:
    """Write and read a model of this shape in every format, each beside a copy of what is read; the table's lines."""
    from converters import convert

    source = PATHS["safetensors"]
    in_fresh_process(["init", source, "--preset", shape, "--to", "safetensors"], work)
    sizes = [tensor.nbytes for tensor in convert.load(work / source).tensors.values()]
    plans = {}
    for name, path in PATHS.items():
        if only in name:
            plans[name, "write"] = f"convert {source} out/{path} --to {name}"
            plans[name, "read"] = f"inspect {path}"
    results: dict[tuple[str, str], list[Figures]] = {key: [] for key in plans}
    for _ in range(rounds):
        for key, figures in results.items():
            figures.append(run(plans[key].split(), work, copy=True))
            print(shape, *key, json.dumps(figures[-1]), file=sys.stderr)
    return format_lines(shape, sizes, results)


def format_lines(shape: str, sizes: list[int], results: dict[tuple[str, str], list[Figures]]) -> list[tuple[str, ...]]:
    """Medians against the median of all copies of this shape, which are of as many bytes; the highest peaks."""
    copies = medians([item for figures in results.values() for item in figures])
    lines = []
    for (name, what), figures in results.items():
        mid = medians(figures)
        peak = max(item["peak"] for item in figures)
        most = allowed(mid["before"], max(sizes), sum(sizes), whole=what == "write" and name in WRITERS)
        seconds = [f"{mid['seconds']:.2f}", f"{mid['cpu']:.2f}", f"{copies['cp']:.2f}", f"{copies['cp_cpu']:.3f}"]
        ratios = [f"{mid['seconds'] / copies['cp']:.1f}", f"{mid['cpu'] / copies['cp_cpu']:.1f}"]
        memory = [f"{peak / 1e6:.0f}", f"{most / 1e6:.0f}", "ok" if peak <= most else "too much memory"]
        lines.append((shape, name, what, f"{sum(sizes) / 1e6:.0f}", *seconds, *ratios, *memory))
    return lines


def run(arguments: list[str], work: Path, *, copy: bool = False) -> Figures:
    """One command in a fresh process; before a conversion, or where asked, its source is copied with `cp`.

    A model that the folder has not yet in this format stays there.
    """
    out = work / "out"
    out.mkdir()
    copies = copied(work / arguments[1], out / "copy") if copy or arguments[0] == "convert" else {}
    figures = in_fresh_process(arguments, work)
    for made in out.iterdir():
        if not (work / made.name).exists():
            made.rename(work / made.name)
    shutil.rmtree(out)
    return figures | copies


def copied(model: Path, copy: Path) -> Figures:
    """Seconds of `cp` of a model's weights, alone and with `sync`; CPU seconds of `cp`."""
    files = [file for file in model.rglob("*") if file.is_file()] if model.is_dir() else [model]
    times, cpu = [time.perf_counter()], [children_cpu()]
    for command in ("cp", str(max(files, key=lambda file: file.stat().st_size)), str(copy)), ("sync", str(copy)):
        subprocess.run(command, check=True)
        times.append(time.perf_counter())
        cpu.append(children_cpu())
    copy.unlink()
    return {"cp": times[1] - times[0], "sync": times[2] - times[0], "cp_cpu": cpu[1] - cpu[0]}


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def in_fresh_process(arguments: list[str], work: Path) -> Figures:
    command = [sys.executable, os.path.abspath(__file__), "--measure", *arguments]
    figures: Figures = json.loads(subprocess.run(command, cwd=work, check=True, stdout=subprocess.PIPE).stdout)
    return figures


def medians(results: list[Figures]) -> Figures:
    return {key: statistics.median(figures[key] for figures in results) for key in results[0]}


def row(plan: str, results: list[Figures], model: int, largest: int) -> tuple[str, ...]:
    """One line of the table: medians, the highest peak, and whether time and memory keep to their limits."""
    mid = medians(results)
    peak = max(figures["peak"] for figures in results)
    most = allowed(mid["before"], largest, model, whole=writer(plan.split()) is not None)
    verdicts = ["ok" if peak <= most else "too much memory"]
    copies = [""] * 4
    if "cp" in mid:
        limit = 4 if "tf" in plan else 3
        ratios = [statistics.median(figures["seconds"] / figures[key] for figures in results) for key in ("cp", "sync")]
        copies = [f"{mid['cp']:.2f}", f"{ratios[0]:.1f}", f"{mid['sync']:.2f}", f"{ratios[1]:.1f}"]
        kept = [f"{limit} x {name}" for name, ratio in zip(("cp", "cp+sync"), ratios, strict=True) if ratio <= limit]
        verdicts.append(f"within {kept[0]}" if kept else f"over {limit} x cp+sync")
    times = [f"{mid['import']:.1f}", f"{mid['seconds']:.2f}", f"{mid['cpu']:.2f}", *copies]
    return (plan.replace("out/", ""), *times, f"{peak / 1e6:.0f}", f"{most / 1e6:.0f}", ", ".join(verdicts))


if __name__ == "__main__":
    main()
