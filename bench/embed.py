"""Sentences per second of the encoder: ours against transformers, sentence-transformers, ONNX Runtime and OpenVINO.

    python bench/embed.py                       # one table, all sides in turn, some minutes
    python bench/embed.py --lengths             # and how speed changes with the length of the texts
    python bench/embed.py --profile fp32        # where our time goes

All sides compute the same: the last hidden states of one ALBERT of base shape (random weights), mean-pooled, for the
same ids, on the same threads. Every round runs each side once, so that a disturbance strikes them alike; the table has
medians.

The limit is the time of the encoder's matrix products alone, at the rate at which oneDNN, the faster library here,
computes a layer's four products over and over (outputs thrown away, best of some batch sizes), measured in every round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from albert_cli.model import hidden_states, kernels
from albert_cli.model.encoder import Encoder
from albert_cli.model.packed import PackedEncoder
from albert_cli.tokenization.batch import TokenBatch
from converters.config import EncoderConfig
from converters.dialects import to_hf
from converters.families.albert import PRESETS

DATA = Path(__file__).parents[2] / "shared" / "data"
CLS, SEP = 2, 3
BATCH_TOKENS = 1024  # as albert embed's on a CPU
Ids = list[list[int]]
Side = Callable[[Ids], torch.Tensor]

clock = time.perf_counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU seconds of one thread, for a busy machine, instead of the clock's"
    )
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--only", default="", help="sides whose names begin with one of these, comma-separated")
    parser.add_argument("--lengths", action="store_true", help="add the table by length")
    parser.add_argument("--profile", choices=["fp32", "int8"], help="print where our time goes, nothing else")
    options = parser.parse_args()
    if options.cpu_time:
        global clock
        clock, options.threads = time.process_time, 1
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = PRESETS[options.preset]
    model = Encoder(config, pooler=False).eval()
    ids = sentences(options.sentences)
    if options.profile:
        profile(ours(PackedEncoder(model, options.profile)), ids)
        return
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        makers = sides(model, config, options.threads, Path(folder))
        only = tuple(options.only.split(","))
        named = {name: make() for name, make in makers.items() if name.startswith(only)}
        compare(named, config, ids, options.rounds)
        if options.lengths:
            by_length(model, config, options.rounds)


def sentences(number: int) -> Ids:
    """The first texts of QNLI's development set as ids, or, without the data, random ids of the same mean length."""
    path = DATA / "glue" / "QNLI" / "dev.tsv"
    if not path.is_file():
        print(f"{path} is not there: random ids, lengths around 38")
        generator = np.random.default_rng(0)
        lengths = generator.gamma(5, 38 / 5, number).astype(int).clip(8, 200)
        return [generator.integers(5, 30000, length).tolist() for length in lengths]
    import sentencepiece

    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(DATA / "tokenizer" / "spiece.model"))
    lines = path.read_text(encoding="utf-8").split("\n")[1 : number + 1]
    return [[CLS, *tokenizer.encode(line.split("\t")[2].lower())[:510], SEP] for line in lines]


def sides(model: Encoder, config: EncoderConfig, threads: int, folder: Path) -> dict[str, Callable[[], Side | str]]:
    """What makes each side, by name; it gives the reason, for a peer that is not here."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    settings = transformers.AlbertConfig(**(to_hf(config) | {"pad_token_id": 0}))
    theirs = transformers.AlbertModel(settings, add_pooling_layer=False).eval()
    theirs.load_state_dict(model.state_dict())
    return {
        "ours fp32": lambda: ours(PackedEncoder(model, "fp32")),
        "ours int8": lambda: ours(PackedEncoder(model, "int8")),
        **{
            f"transformers sorted {n}": partial(padded, run_torch(theirs), n, in_order=True)
            for n in (1, 2, 4, 8, 16, 32)
        },
        "transformers unsorted 32": partial(padded, run_torch(theirs), 32, in_order=False),
        "sentence-transformers 32": partial(sentence_transformers, theirs, folder),
        "ONNX Runtime sorted 8": partial(onnx_runtime, theirs, threads, folder),
        "OpenVINO sorted 8": partial(openvino, theirs, threads, folder),
    }


def ours(encoder: PackedEncoder) -> Side:
    def run(ids: Ids) -> torch.Tensor:
        tokens = TokenBatch.of_rows(ids)
        means = torch.empty(len(tokens), encoder.config.hidden_size)
        for batch in hidden_states.encode(encoder, tokens, batch_tokens=BATCH_TOKENS):
            lengths = torch.from_numpy(np.diff(batch.offsets))
            means[batch.rows] = torch.segment_reduce(batch.layers[0], "mean", lengths=lengths)
        return means

    return run


def run_torch(model: torch.nn.Module) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state


def padded(run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], size: int, *, in_order: bool) -> Side:
    """Batches of `size` sentences, by length or as they come, padded to the longest."""

    def side(ids: Ids) -> torch.Tensor:
        order = sorted(range(len(ids)), key=lambda n: len(ids[n])) if in_order else list(range(len(ids)))
        vectors = torch.empty(len(ids), 0)
        for start in range(0, len(ids), size):
            numbers = order[start : start + size]
            batch = [torch.tensor(ids[n]) for n in numbers]
            tokens = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
            mask = torch.arange(tokens.shape[1]) < torch.tensor([len(row) for row in batch])[:, None]
            hidden_states = run(tokens, mask.long())
            means = (hidden_states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            if not vectors.shape[1]:
                vectors = torch.empty(len(ids), means.shape[1])
            vectors[numbers] = means
        return vectors

    return side


def sentence_transformers(model: torch.nn.Module, folder: Path) -> Side | str:
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Pooling, Transformer
    except ImportError as error:
        return f"not installed ({error.name})"
    from transformers import AlbertTokenizer

    # Its own loop, over ids handed in: the tokenizer is not what is measured here.
    path = folder / "sentence-transformers"
    model.save_pretrained(path)
    AlbertTokenizer(vocab=[("<pad>", 0.0), ("<unk>", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0)]).save_pretrained(path)
    transformer = Transformer(str(path))
    peer = SentenceTransformer(modules=[transformer, Pooling(model.config.hidden_size, "mean")], device="cpu")

    def tokenize(texts: list[str], **_: object) -> dict[str, torch.Tensor]:
        batch = [torch.tensor([int(n) for n in text.split()]) for text in texts]
        mask = [torch.ones(len(row), dtype=torch.int64) for row in batch]
        pad = torch.nn.utils.rnn.pad_sequence
        return {"input_ids": pad(batch, batch_first=True), "attention_mask": pad(mask, batch_first=True)}

    for name in ("tokenize", "preprocess"):
        if hasattr(peer, name):
            setattr(peer, name, tokenize)

    def side(ids: Ids) -> torch.Tensor:
        texts = [" ".join(map(str, row)) for row in ids]
        return torch.as_tensor(peer.encode(texts, batch_size=32, show_progress_bar=False))

    return side


def export(model: torch.nn.Module, folder: Path) -> Path:
    path = folder / "albert.onnx"
    if not path.is_file():
        example, mask = torch.ones(2, 2, 16, dtype=torch.int64)
        mask[1, 9:] = 0  # of ones alone, transformers leaves the mask out of the graph

        class Wrapped(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
                return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

        dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=512)}
        torch.onnx.export(
            Wrapped(),
            (example, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamic_shapes=(dims, dims),
            dynamo=True,
            verbose=False,
        )
    return path


def onnx_runtime(model: torch.nn.Module, threads: int, folder: Path) -> Side | str:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (what torch.onnx.export needs)
    except ImportError as error:
        return f"not installed ({error.name})"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(export(model, folder)), options, providers=["CPUExecutionProvider"])

    def run(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        feeds = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        return torch.from_numpy(session.run(None, feeds)[0])

    return padded(run, 8, in_order=True)


def openvino(model: torch.nn.Module, threads: int, folder: Path) -> Side | str:
    try:
        import onnxscript  # noqa: F401
        import openvino as ov
    except ImportError as error:
        return f"not installed ({error.name})"
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(str(export(model, folder)), "CPU", settings)

    def run(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(compiled([ids.numpy(), mask.numpy()])[0])

    return padded(run, 8, in_order=True)


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


def compare(named: dict[str, Side | str], config: EncoderConfig, ids: Ids, rounds: int) -> None:
    lengths = [len(row) for row in ids]
    tokens, work = sum(lengths), flops(config, lengths)
    here = {name: side for name, side in named.items() if callable(side)}
    vectors = {name: side(ids) for name, side in here.items()}  # and a warm-up
    limit = Limit(config)
    limit.measure()
    times: dict[str, list[float]] = {name: [] for name in here}
    rates = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        rates.append(limit.measure())
        for name, side in here.items():
            times[name].append(seconds(lambda side=side: side(ids)))
    bounds = [work / rate for rate in rates]
    best = {name: statistics.median(values) for name, values in times.items()}
    peers = [value for name, value in best.items() if name.startswith("transformers")]
    exact = vectors.get("ours fp32")
    print(
        f"{len(ids)} sentences, {tokens / len(ids):.1f} tokens each; {torch.get_num_threads()} threads; "
        f"{'CPU time; ' if clock is time.process_time else ''}{rounds} rounds; "
        f"limit {statistics.median(rates) / 1e9:.0f} GFLOP/s, "
        f"{len(ids) / statistics.median(bounds):.1f} sentences/s"
    )
    print(
        f"{'':28}{'sentences/s':>12}{'tokens/s':>10}{'of limit':>10}{'x transformers':>16}{'cosine to ours fp32':>22}"
    )
    for name, side in named.items():
        if isinstance(side, str):
            print(f"{name:28}{side}")
            continue
        share = statistics.median(bound / value for bound, value in zip(bounds, times[name], strict=True))
        ratio = f"{min(peers) / best[name]:.2f}" if peers else ""
        cosine = "" if exact is None else f"{F.cosine_similarity(exact, vectors[name]).mean():.5f}"
        rate = len(ids) / best[name]
        print(f"{name:28}{rate:12.1f}{tokens / best[name]:10.0f}{share:10.0%}{ratio:>16}{cosine:>22}")


def by_length(model: Encoder, config: EncoderConfig, rounds: int) -> None:
    """The same number of tokens in texts of each length."""
    generator = np.random.default_rng(0)
    encoders = {precision: ours(PackedEncoder(model, precision)) for precision in ("fp32", "int8")}
    limit = Limit(config)
    print(
        f"\n{'tokens a text':>14}{'fp32 texts/s':>14}{'tokens/s':>10}{'of limit':>10}"
        f"{'int8 texts/s':>14}{'tokens/s':>10}",
        flush=True,
    )
    for length in (16, 64, 128, 256, 512):
        ids = [generator.integers(5, config.vocab_size, length).tolist() for _ in range(4096 // length)]
        work = flops(config, [length] * len(ids))
        times: dict[str, list[float]] = {name: [] for name in encoders}
        shares = []
        for encoder in encoders.values():
            encoder(ids)
        for _ in range(rounds):
            bound = work / limit.measure()
            for name, encoder in encoders.items():
                times[name].append(seconds(lambda encoder=encoder, ids=ids: encoder(ids)))
            shares.append(bound / times["fp32"][-1])
        fp32, int8 = (statistics.median(times[name]) for name in ("fp32", "int8"))
        print(
            f"{length:14}{len(ids) / fp32:14.1f}{4096 / fp32:10.0f}{statistics.median(shares):10.0%}"
            f"{len(ids) / int8:14.1f}{4096 / int8:10.0f}"
        )


def profile(encode: Side, ids: Ids) -> None:
    encode(ids)
    with torch.profiler.profile() as profiler:
        encode(ids)
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=50))


if __name__ == "__main__":
    main()
