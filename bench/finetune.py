"""Fine-tuning against transformers' Trainer: the same weights and rows, each once, in turns; and a frozen encoder.

`python bench/finetune.py --data DIR/QNLI --tokenizer spiece.model [--hidden 768 --layers 12 --rows 320 --rounds 3]`.

A side trains one epoch of the same rows, and its figure is real tokens, without padding, per second: both sides sort
rows by length into batches, but not into the same ones, so steps do not compare. A limit is what the linear layers'
products alone would take in float32, forwards and backwards, in the same round, by MKL (PyTorch's own choice) and by
oneDNN; attention and all else have no time there. bf16 is `--precision bf16`, and Trainer's `bf16=True`. Medians of
the rounds; then the seconds of the first and the second epoch with a frozen encoder.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import transformers
from accelerate.state import AcceleratorState
from torch import Tensor

from albert_cli import tasks
from albert_cli.model.products import onednn
from albert_cli.model.task_heads import Classifier
from albert_cli.runs.events import EpochEnded, records_of, silent
from albert_cli.runs.log import read_log
from albert_cli.runs.processes import accelerator_for
from albert_cli.tasks.task import Sources
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import labels, problems, session
from albert_cli.training.loop import FinetuneJob, train
from albert_cli.training.rows import TokenRows
from albert_cli.training.settings import Plan, Settings
from converters import convert, spec
from converters.config import EncoderConfig
from converters.dialects import to_hf
from converters.initialize import initialize
from converters.tokenizers.files import TokenizerFiles


class Clock:
    """When each step began and how many real tokens it had; with `cpu`, in processor time of all threads."""

    cpu = False

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.tokens: list[int] = []

    def watch(self, model: torch.nn.Module) -> None:
        model.register_forward_pre_hook(self._step, with_kwargs=True)

    def _step(self, _: object, arguments: tuple, given: dict) -> None:
        mask = given.get("attention_mask")
        self.tokens.append(int(given["input_ids"].numel() if mask is None else mask.sum()))
        self.starts.append(self.now())

    @classmethod
    def now(cls) -> float:
        return time.process_time() if cls.cpu else time.perf_counter()

    def rate(self, skipped: int = 2) -> float:
        """Real tokens per second after the first `skipped` steps."""
        return sum(self.tokens[skipped:]) / (self.now() - self.starts[skipped])


def ours(
    weights: dict, config: EncoderConfig, rows: TokenRows, options: argparse.Namespace, folder: Path, precision: str
) -> float:
    torch.manual_seed(42)
    model = Classifier(config, 2)
    model.load_state_dict(weights)
    clock = Clock()
    steps = -(-len(rows) // options.batch)
    settings = Settings(task="qnli", model="", learning_rate=1e-5, batch_size=options.batch, max_length=options.length)
    job = FinetuneJob(
        model=model,
        problem=problems.named("classification"),
        rows=rows,
        plan=Plan(steps, steps // 10, steps + 1, steps),
        settings=settings,
        directory=folder,
        accelerator=accelerator_for(precision, "cpu"),
        selection_metric="accuracy",
        evaluate=lambda model: {"accuracy": 0.0},
        save_best=lambda: rates.append(clock.rate()),
    )
    rates: list[float] = []
    clock.watch(model)
    train(job, resume=False)
    return rates[0]


def trainers(
    weights: dict,
    config: EncoderConfig,
    rows: TokenRows,
    options: argparse.Namespace,
    folder: Path,
    *,
    grouped: bool = True,
    bf16: bool = False,
) -> float:
    model = transformers.AlbertForSequenceClassification(
        transformers.AlbertConfig(**(to_hf(config) | {"num_labels": 2}))
    )
    names = spec.canonical_names(config)
    model.load_state_dict({names[name]: item for name, item in weights.items()})
    clock, rates = Clock(), []
    clock.watch(model)

    class Callback(transformers.TrainerCallback):
        def on_step_end(
            self, arguments: object, state: transformers.TrainerState, *rest: object, **more: object
        ) -> None:
            if state.global_step == state.max_steps:
                rates.append(clock.rate())

    tokens = rows.tokens
    examples = [
        {
            "input_ids": tokens[row].tolist(),
            "token_type_ids": tokens.token_type_ids[tokens.starts[row] : tokens.starts[row + 1]].tolist(),
            "attention_mask": [1] * len(tokens[row]),
            "labels": int(rows.targets[row]),
        }
        for row in range(len(rows))
    ]
    pad = transformers.AutoTokenizer.from_pretrained(folder)
    arguments = transformers.TrainingArguments(
        output_dir=folder / "trainer",
        per_device_train_batch_size=options.batch,
        num_train_epochs=1,
        learning_rate=1e-5,
        weight_decay=0.01,
        adam_epsilon=1e-6,
        warmup_steps=len(rows) // options.batch // 10,
        max_grad_norm=1.0,
        seed=42,
        use_cpu=True,
        bf16=bf16,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **({"train_sampling_strategy": "group_by_length"} if grouped else {}),
    )
    collator = transformers.DataCollatorWithPadding(pad)
    trainer = transformers.Trainer(
        model, arguments, train_dataset=examples, data_collator=collator, callbacks=[Callback()]
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return rates[0]


def by_mkl(x: Tensor, weight: Tensor, gradient: Tensor) -> None:
    torch.mm(x, weight.T)
    torch.mm(gradient, weight)
    torch.mm(gradient.T, x)


def by_onednn(x: Tensor, weight: Tensor, gradient: Tensor) -> None:
    onednn(x, weight)
    onednn(gradient, weight.T)
    onednn(gradient.T, x.T)


LIMITS = {"limit of MKL": by_mkl, "limit of oneDNN": by_onednn}


def limit(name: str, config: EncoderConfig, rows: TokenRows, options: argparse.Namespace) -> float:
    """Tokens per second of the linear layers' products alone, in batches of a mean number of tokens."""
    H, I = config.hidden_size, config.intermediate_size  # noqa: E741
    tokens = int(rows.lengths.mean() * options.batch)
    products = []
    for out, into, times in ((H, H, 4), (I, H, 1), (H, I, 1)):
        x, weight, gradient = torch.randn(tokens, into), torch.randn(out, into), torch.randn(tokens, out)
        products.append((x, weight, gradient, times))
    best = 0.0
    for _ in range(4):
        seconds = 0.0
        for x, weight, gradient, times in products:
            start = Clock.now()
            for _ in range(times):
                LIMITS[name](x, weight, gradient)
            seconds += Clock.now() - start
        best = max(best, tokens / seconds)
    return best / config.num_hidden_layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    for name, value in {"hidden": 256, "layers": 6, "batch": 16, "length": 128, "rows": 320, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", default="", help="sides with this in their names")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, for a machine that is not idle")
    options = parser.parse_args()
    Clock.cpu = options.cpu_time
    if options.threads:
        torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()

    files = TokenizerFiles.of("the bench", spiece=options.tokenizer.read_bytes(), origin="spiece.model")
    tokenizer = Tokenizer.from_files(files)
    hidden = options.hidden
    config = EncoderConfig(
        vocab_size=len(tokenizer),
        embedding_size=128,
        hidden_size=hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, hidden // 64),
        intermediate_size=4 * hidden,
    )
    task = tasks.named("qnli")
    examples = task.read(Sources(data=options.data), "train").take(range(options.rows))
    rows = TokenRows(
        tokenizer.encode_batch(examples.texts, examples.pairs, max_length=options.length),
        torch.from_numpy(labels.class_numbers(examples, task.labels)),
    )
    torch.manual_seed(1)
    weights = Classifier(config, 2).state_dict()
    print(
        f"QNLI, {len(rows)} rows, mean {rows.lengths.mean():.0f} tokens, H={hidden} L={options.layers}, "
        f"batch {options.batch}, up to {options.length} tokens, {torch.get_num_threads()} threads, "
        + ("processor time" if options.cpu_time else "wall time")
    )
    sides: dict[str, Callable[..., float]] = {
        "Trainer": partial(trainers, grouped=False),
        "Trainer, group_by_length": trainers,
        "albert finetune": partial(ours, precision="fp32"),
        "Trainer bf16, group_by_length": partial(trainers, bf16=True),
        "albert finetune, bf16": partial(ours, precision="bf16"),
    }
    sides = {name: side for name, side in sides.items() if options.only in name}
    rates: dict[str, list[float]] = {name: [] for name in (*LIMITS, *sides)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        convert.save(initialize(config, files, seed=1), folder)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for name in LIMITS:
                rates[name].append(limit(name, config, rows, options))
            for name, side in sides.items():
                AcceleratorState._reset_state()  # of another precision
                rates[name].append(side(weights, config, rows, options, folder))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        base = medians.get("Trainer, group_by_length", medians["limit of MKL"])
        print(f"{'':32}{'tokens/s':>10}{'of MKL':>10}{'of oneDNN':>12}{'x grouped Trainer':>20}")
        for name, rate in medians.items():
            mkl, other = (
                statistics.median(a / b for a, b in zip(rates[name], rates[one], strict=True)) for one in LIMITS
            )
            print(f"{name:32}{rate:10.0f}{mkl:10.0%}{other:12.0%}{rate / base:20.2f}")
        given = {"model": str(folder), "data": str(options.data), "max_length": options.length, "freeze_encoder": True}
        choices = {"config": None, "seeds": [], "compare": [], "resume": False, "force": False}
        run = Path(temporary) / "frozen"
        session.one("qnli", given | {"epochs": 3}, run, report=silent, **choices)
        first, second = [record["seconds"] for record in records_of(read_log(run), EpochEnded)][:2]
        print(f"frozen encoder: first epoch {first:.2f} s, second {second:.2f} s: {first / second:.0f} x faster")


if __name__ == "__main__":
    main()
