"""Spearman on a development set of pairs with scores: albert finetune sts beside sentence-transformers' own trainer.

Both start from the same weights and take the same rows in batches of the same size for the same number of updates, once
with each seed, with CoSENT at the scale 20, AdamW without decay of biases and norms, linear warm-up over a tenth and
linear decay, gradients clipped at norm 1, mean pooling. The best of the evaluations is not chosen: the model at the end
is measured, of both sides by one program, and before. sentence-transformers' trainer needs the library `datasets`.

    python bench/biencoder.py --train glue/STS-B/train.tsv --dev glue/STS-B/dev.tsv --seeds 1,2,3
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from albert_cli.embedding.embedder import Plan
from albert_cli.embedding.sts import agreement, cosines_of, read_pairs
from albert_cli.machine import find_device
from albert_cli.registry.resolve import resolve
from albert_cli.runs.events import silent
from albert_cli.training import session
from converters import convert
from converters.sentence_writing import SentenceRecipe

SCALE, DECAY, WARMUP = 20.0, 0.01, 0.1


def measured(model: str, dev: Path) -> float:
    plan = Plan.of(resolve(model), device=find_device("auto"))
    pairs = read_pairs(dev)
    return agreement(plan, pairs, cosines_of(plan, pairs)[0]).spearman


def ours(base: str, options: argparse.Namespace, steps: int, seed: int, out: Path) -> str:
    given = {
        "model": base,
        "train": str(options.train),
        "dev": str(options.dev),
        "steps": steps,
        "eval_every": steps,
        "warmup": float(round(WARMUP * steps)),
        "batch_size": options.batch,
        "learning_rate": options.lr,
        "max_length": options.length,
        "weight_decay": DECAY,
        "scale": SCALE,
        "seed": seed,
    }
    session.one(
        "sts", given, out, config=None, seeds=[], compare=[], resume=False, force=False, report=silent, device="auto"
    )
    return str(out)


def theirs(base: str, options: argparse.Namespace, steps: int, seed: int, out: Path) -> str:
    import transformers
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    transformers.utils.logging.disable_progress_bar()
    model = SentenceTransformer(base)
    pairs = read_pairs(options.train)
    rows = Dataset.from_dict({"sentence1": pairs.firsts, "sentence2": pairs.seconds, "score": pairs.scores.tolist()})
    arguments = Arguments(
        output_dir=str(out / "trainer"),
        per_device_train_batch_size=options.batch,
        max_steps=steps,
        learning_rate=options.lr,
        weight_decay=DECAY,
        adam_epsilon=1e-6,
        warmup_steps=round(WARMUP * steps),
        max_grad_norm=1.0,
        seed=seed,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=rows, loss=CoSENTLoss(model, scale=SCALE))
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    model.save(str(out / "model"))
    return str(out / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--model", help="a model of any format; the built-in one by default")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--steps", type=int, help="in place of --epochs")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", default="", help="sides with this in their names")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    rows = len(read_pairs(options.train).scores)
    steps = options.steps or round(options.epochs * rows / options.batch)
    sides: dict[str, Callable[..., str]] = {"albert finetune sts": ours, "sentence-transformers": theirs}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = str(folder / "base")
        recipe = SentenceRecipe("mean", max_length=options.length)
        convert.convert(resolve(options.model).path, base, dtype="float32", sentence=recipe)  # as both compute
        print(f"{rows} rows, {steps} updates of {options.batch}, rate {options.lr:g}, up to {options.length} tokens")
        print(f"before training: Spearman {measured(base, options.dev):.4f}")
        for name, side in sides.items():
            if options.only not in name:
                continue
            found, seconds = [], []
            for seed in map(int, options.seeds.split(",")):
                start = time.perf_counter()
                made = partial(side, base, options, steps, seed)(folder / f"{seed} {name}")
                seconds.append(time.perf_counter() - start)
                found.append(measured(made, options.dev))
            spread = f" ± {statistics.stdev(found):.4f}" if len(found) > 1 else ""
            values = ", ".join(f"{value:.4f}" for value in found)
            print(
                f"{name:24} {statistics.fmean(found):.4f}{spread} ({values}); {statistics.median(seconds):.0f} s a seed"
            )


if __name__ == "__main__":
    main()
