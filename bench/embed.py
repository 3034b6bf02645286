"""Sentences per second of the encoder: ours against CTranslate2, ONNX Runtime, OpenVINO and transformers.

    python bench/embed.py                        # ALBERT's base shape: one table, all sides in turn, some minutes
    python bench/embed.py --family bert          # BERT's base shape, whose layers share nothing
    python bench/embed.py --model DIR            # a model of your own, with its own tokenizer
    python bench/embed.py --lengths              # and how speed changes with the length of the texts
    python bench/embed.py --memory               # what each side holds, instead
    python bench/embed.py --profile int8         # where our time goes, instead

All sides compute the same: the last hidden states of one model, mean-pooled, for the same ids, on the same threads.
Every peer runs at its best batch size, found beforehand. Every round runs each side once, so that a disturbance strikes
them alike; the table has medians.

The limit is the time of the encoder's matrix products alone in float32, at the rate at which oneDNN, the faster library
here, computes a layer's four products over and over (outputs thrown away, best of some batch sizes), measured in every
round.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import encoder_peers
import numpy as np
import torch
from encoder_peers import Ids, Side
from torch.nn import functional as F

from albert_cli.model import hidden_states, kernels
from albert_cli.model.encoder import Encoder
from albert_cli.model.loading import load_model
from albert_cli.model.packed import PRECISIONS, PackedEncoder
from albert_cli.tokenization.batch import TokenBatch
from converters.config import EncoderConfig
from converters.dialects import read_config

DATA = Path(__file__).parents[2] / "shared" / "data"
CLS, SEP = 2, 3
BATCH_TOKENS = 1024  # as albert embed's on a CPU
PRESETS = {"albert": "base", "bert": "bert-base"}

clock = time.perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU seconds of one thread, for a busy machine, instead of the clock's"
    )
    parser.add_argument("--family", choices=PRESETS, default="albert", help="its base shape, random weights")
    parser.add_argument("--preset", help="another shape than that, as albert init has them")
    parser.add_argument("--model", type=Path, help="a directory of Hugging Face's, instead of random weights")
    parser.add_argument("--only", default="", help="sides whose names begin with one of these, comma-separated")
    parser.add_argument("--lengths", action="store_true", help="add the table by length")
    parser.add_argument("--memory", action="store_true", help="print what each side holds, nothing else")
    parser.add_argument("--profile", choices=PRECISIONS, help="print where our time goes, nothing else")
    options = parser.parse_args()
    if options.cpu_time:
        global clock
        clock, options.threads = time.process_time, 1
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        folder = options.model or fresh(options.preset or PRESETS[options.family], Path(scratch) / "model")
        ids = sentences(options.sentences, options.model)
        makers = sides(folder, options.threads, Path(scratch))
        names = [name for name in makers if name.startswith(tuple(options.only.split(",")))]
        if options.profile:
            profile(partial(ours(PackedEncoder(load_model(folder).encoder, options.profile)), ids))
        elif options.memory:
            memory(folder, options.threads, Path(scratch), names, ids)
        else:
            model = load_model(folder).encoder
            compare({name: at_its_best(name, makers[name], ids) for name in names}, model.config, ids, options.rounds)
            if options.lengths:
                by_length(model, model.config, options.rounds)


def fresh(preset: str, folder: Path) -> Path:
    """A model of random weights."""
    command = [sys.executable, "-m", "albert_cli", "init", str(folder), "--preset", preset]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def sentences(number: int, model: Path | None) -> Ids:
    """The first texts of QNLI's development set as ids, or, without the data, random ids of the same mean length."""
    path = DATA / "glue" / "QNLI" / "dev.tsv"
    if not path.is_file():
        print(f"{path} is not there: random ids, lengths around 38")
        generator = np.random.default_rng(0)
        lengths = generator.gamma(5, 38 / 5, number).astype(int).clip(8, 200)
        return [generator.integers(5, 30000, length).tolist() for length in lengths]
    lines = path.read_text(encoding="utf-8").split("\n")[1 : number + 1]
    texts = [line.split("\t")[2] for line in lines]
    if model:
        from albert_cli.tokenization.tokenizer import Tokenizer

        return [row[:512] for row in Tokenizer.from_pretrained(str(model)).ids(texts)]
    import sentencepiece

    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(DATA / "tokenizer" / "spiece.model"))
    return [[CLS, *tokenizer.encode(text.lower())[:510], SEP] for text in texts]


def sides(folder: Path, threads: int, scratch: Path) -> dict[str, Callable[[], Side | str]]:
    """What makes each side, by name; it gives the reason, for a peer that is not here."""
    family = read_config(folder / "config.json").family
    own = {
        f"ours {name}": lambda name=name: ours(PackedEncoder(load_model(folder).encoder, name)) for name in PRECISIONS
    }
    return own | encoder_peers.makers(folder, family, threads, scratch)


def ours(encoder: PackedEncoder) -> Side:
    def run(ids: Ids, _size: int = 0) -> torch.Tensor:
        tokens = TokenBatch.of_rows(ids)
        means = torch.empty(len(tokens), encoder.config.hidden_size)
        for batch in hidden_states.encode(encoder, tokens, batch_tokens=BATCH_TOKENS):
            lengths = torch.from_numpy(np.diff(batch.offsets))
            means[batch.rows] = torch.segment_reduce(batch.layers[0], "mean", lengths=lengths)
        return means

    return run


def at_its_best(name: str, maker: Callable[[], Side | str], ids: Ids) -> tuple[Side | str, int]:
    """A side, and the number of rows a batch at which it is fastest; 0 for ours, which counts tokens."""
    side = maker()
    if isinstance(side, str) or name.startswith("ours"):
        return side, 0
    times = {size: seconds(partial(side, ids, size)) for size in (4, *encoder_peers.BATCHES)}  # the first warms up
    for size in encoder_peers.BATCHES:  # in turns, as a disturbance lasts a while
        times[size] = min(times[size], seconds(partial(side, ids, size)))
    return side, min(times, key=lambda size: times[size])


def memory(folder: Path, threads: int, scratch: Path, names: list[str], ids: Ids) -> None:
    """What each side adds to a process of its own that has its libraries imported: once made, and at most at work."""
    print(f"{'':24}{'held MB':>10}{'peak MB':>10}")
    for name in names:
        for measured in (False, True):  # whatever a peer exports or converts is done before
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                line = pool.apply(_memory_of, (folder, threads, scratch, name, ids if measured else ids[:1]))
        print(f"{name:24}{line}", flush=True)


def _memory_of(folder: Path, threads: int, scratch: Path, name: str, ids: Ids) -> str:
    torch.set_num_threads(threads)
    library = {"CTranslate2": "ctranslate2", "OpenVINO": "openvino", "ONNX": "onnxruntime"}.get(
        name.split(maxsplit=1)[0]
    )
    if importlib.util.find_spec(library or "transformers") is None:
        return "  not installed"
    importlib.import_module(library or "transformers")
    makers = sides(folder, threads, scratch)
    gc.collect()
    before = _resident("VmRSS")
    with torch.inference_mode():
        side = makers[name]()
        if isinstance(side, str):
            return "  " + side
        gc.collect()
        held = _resident("VmRSS") - before
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        side(ids, 8)
    return f"{held:10.0f}{_resident('VmHWM') - before:10.0f}"


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) / 1024


def flops(config: EncoderConfig, lengths: list[int]) -> float:
    """Of the encoder's matrix products: the projection, the layers' four, and attention's two."""
    H, I, E = config.hidden_size, config.intermediate_size, config.embedding_size  # noqa: E741
    layers = config.num_hidden_layers * config.inner_group_num
    each = layers * 2 * (4 * H * H + 2 * H * I) + 2 * E * H
    return float(sum(length * each + layers * 4 * length**2 * H for length in lengths))


class Limit:
    """The rate, in FLOP/s, of a layer's four bare products: the best of some batch sizes, weights packed."""

    def __init__(self, config: EncoderConfig) -> None:
        H, I = config.hidden_size, config.intermediate_size  # noqa: E741
        shapes = ((3 * H, H), (H, H), (I, H), (H, I))
        self.products = [(into, kernels.linear(torch.randn(out, into), torch.zeros(out))) for out, into in shapes]
        self.inputs = [{size: torch.randn(tokens, size) for size in (H, I)} for tokens in (512, 1024, 2048)]
        self.work = 2.0 * sum(out * into for out, into in shapes)  # per token

    def measure(self, repeats: int = 4) -> float:
        rates = []
        for inputs in self.inputs:
            start = clock()
            for _ in range(repeats):
                for into, product in self.products:
                    product(inputs[into], None)
            rates.append(repeats * len(next(iter(inputs.values()))) * self.work / (clock() - start))
        return max(rates)


def seconds(run: Callable[[], object]) -> float:
    start = clock()
    run()
    return clock() - start


def compare(named: dict[str, tuple[Side | str, int]], config: EncoderConfig, ids: Ids, rounds: int) -> None:
    lengths = [len(row) for row in ids]
    tokens, work = sum(lengths), flops(config, lengths)
    here = {name: partial(side, ids, size) for name, (side, size) in named.items() if callable(side)}
    vectors = {name: run() for name, run in here.items()}  # and a warm-up
    limit = Limit(config)
    limit.measure()
    times: dict[str, list[float]] = {name: [] for name in here}
    rates = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        rates.append(limit.measure())
        for name, run in here.items():
            times[name].append(seconds(run))
    bounds = [work / rate for rate in rates]
    best = {name: statistics.median(values) for name, values in times.items()}
    exact = vectors.get("ours fp32")
    cpu = torch.backends.cpu.get_cpu_capability() + (
        " with AMX" if torch.cpu.get_capabilities().get("amx_bf16") else ""
    )
    print(
        f"{len(ids)} sentences, {tokens / len(ids):.1f} tokens each; {torch.get_num_threads()} threads; "
        f"{'CPU time; ' if clock is time.process_time else ''}{rounds} rounds; {cpu}; "
        f"limit {statistics.median(rates) / 1e9:.0f} GFLOP/s, {len(ids) / statistics.median(bounds):.1f} sentences/s"
    )
    print(
        f"{'':20}{'rows a batch':>12}{'sentences/s':>12}{'tokens/s':>10}{'of limit':>10}{'x ours fp32':>12}"
        f"{'cosine to fp32, mean':>21}{'least':>9}"
    )
    for name, (side, size) in named.items():
        if isinstance(side, str):
            print(f"{name:20} {side}")
            continue
        share = statistics.median(bound / value for bound, value in zip(bounds, times[name], strict=True))
        ratio = f"{best['ours fp32'] / best[name]:.2f}" if exact is not None else ""
        cosines = torch.ones(1) if exact is None else F.cosine_similarity(exact.double(), vectors[name].double())
        rate = len(ids) / best[name]
        print(
            f"{name:20}{size or '':>12}{rate:12.1f}{tokens / best[name]:10.0f}{share:10.0%}{ratio:>12}"
            f"{cosines.mean():21.6f}{cosines.min():9.5f}"
        )


def by_length(model: Encoder, config: EncoderConfig, rounds: int) -> None:
    """The same number of tokens in texts of each length."""
    generator = np.random.default_rng(0)
    encoders = {precision: ours(PackedEncoder(model, precision)) for precision in PRECISIONS}
    limit = Limit(config)
    columns = "".join(f"{name + ' texts/s':>14}{'tokens/s':>10}{'of limit':>10}" for name in encoders)
    print(f"\n{'tokens a text':>14}{columns}", flush=True)
    for length in (16, 38, 64, 128, 256, 512):
        ids = [generator.integers(5, config.vocab_size, length).tolist() for _ in range(4096 // length)]
        tokens, work = length * len(ids), flops(config, [length] * len(ids))
        times: dict[str, list[float]] = {name: [] for name in encoders}
        bounds = []
        for encoder in encoders.values():
            encoder(ids, 0)
        for _ in range(rounds):
            bounds.append(work / limit.measure())
            for name, encoder in encoders.items():
                times[name].append(seconds(partial(encoder, ids, 0)))
        row = f"{length:14}"
        for values in times.values():
            middle = statistics.median(values)
            share = statistics.median(bound / value for bound, value in zip(bounds, values, strict=True))
            row += f"{len(ids) / middle:14.1f}{tokens / middle:10.0f}{share:10.0%}"
        print(row, flush=True)


def profile(run: Callable[[], object]) -> None:
    run()
    with torch.profiler.profile() as profiler:
        run()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=50))


if __name__ == "__main__":
    main()
