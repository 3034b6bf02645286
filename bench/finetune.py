"""Fine-tuning against transformers' Trainer: the same weights, rows, batch and length, in turns; and a frozen encoder.

`python bench/finetune.py --data DIR/QNLI --tokenizer spiece.model [--hidden 256 --layers 6 --steps 120 --rounds 3]`:
steps per second, the median of the rounds, each of which runs every side; then the seconds of the first and the second
epoch with a frozen encoder.
"""

# ruff: noqa: E402
import os
import sys

# In place of this folder, whose tokenize.py would hide the standard library's.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH120

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
import transformers
from accelerate import Accelerator

from albert_cli import tasks
from albert_cli.model.task_heads import Classifier
from albert_cli.runs.events import EpochEnded, records_of, silent
from albert_cli.runs.log import read_log
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
    """When each step began; with `cpu`, in processor time, which other work on the machine does not stretch."""

    cpu = False

    def __init__(self) -> None:
        self.ends: list[float] = []

    def tick(self, *_: object) -> None:
        self.ends.append(time.process_time() if self.cpu else time.perf_counter())

    def rate(self, skipped: int) -> float:
        """Steps per second after the first `skipped`."""
        return (len(self.ends) - 1 - skipped) / (self.ends[-1] - self.ends[skipped])


def ours(weights: dict, config: EncoderConfig, rows: TokenRows, options: argparse.Namespace, folder: Path) -> float:
    torch.manual_seed(42)
    model = Classifier(config, 2)
    model.load_state_dict(weights)
    clock = Clock()
    steps = options.steps
    settings = Settings(task="qnli", model="", learning_rate=1e-5, batch_size=options.batch, max_length=options.length)
    job = FinetuneJob(
        model=model,
        problem=problems.named("classification"),
        rows=rows,
        plan=Plan(steps, steps // 10, steps + 1, -(-len(rows) // options.batch)),
        settings=settings,
        directory=folder,
        accelerator=Accelerator(),
        selection_metric="accuracy",
        evaluate=lambda model: {"accuracy": 0.0},
        save_best=lambda: None,
    )
    model.register_forward_pre_hook(clock.tick)
    train(job, resume=False)
    return clock.rate(3)


def trainers(
    weights: dict, config: EncoderConfig, rows: TokenRows, options: argparse.Namespace, folder: Path, *, grouped: bool
) -> float:
    model = transformers.AlbertForSequenceClassification(
        transformers.AlbertConfig(**(to_hf(config) | {"num_labels": 2}))
    )
    names = spec.canonical_names(config)
    model.load_state_dict({names[name]: item for name, item in weights.items()})
    clock = Clock()

    class Callback(transformers.TrainerCallback):
        def on_step_begin(self, *arguments: object, **more: object) -> None:
            clock.tick()

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
        max_steps=options.steps,
        learning_rate=1e-5,
        weight_decay=0.01,
        adam_epsilon=1e-6,
        warmup_steps=options.steps // 10,
        max_grad_norm=1.0,
        seed=42,
        use_cpu=True,
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
    return clock.rate(3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    for name, value in {"hidden": 256, "layers": 6, "batch": 32, "length": 128, "steps": 120, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--threads", type=int)
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
    examples = task.read(Sources(data=options.data), "train")
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
    rates: dict[str, list[float]] = {"transformers Trainer": [], "Trainer, group_by_length": [], "albert finetune": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        convert.save(initialize(config, files, seed=1), folder)
        for _ in range(options.rounds):
            rates["transformers Trainer"].append(trainers(weights, config, rows, options, folder, grouped=False))
            rates["Trainer, group_by_length"].append(trainers(weights, config, rows, options, folder, grouped=True))
            rates["albert finetune"].append(ours(weights, config, rows, options, folder))
        base = statistics.median(rates["transformers Trainer"])
        for name, values in rates.items():
            rate = statistics.median(values)
            print(f"{name:26}{rate:8.2f} steps/s   {rate / base:5.2f} x")
        given = {"model": str(folder), "data": str(options.data), "max_length": options.length, "freeze_encoder": True}
        choices = {"config": None, "seeds": [], "compare": [], "resume": False, "force": False}
        run = Path(temporary) / "frozen"
        session.one("qnli", given | {"epochs": 3}, run, report=silent, **choices)
        first, second = [record["seconds"] for record in records_of(read_log(run), EpochEnded)][:2]
        print(f"frozen encoder: first epoch {first:.2f} s, second {second:.2f} s: {first / second:.0f} x faster")


if __name__ == "__main__":
    main()
