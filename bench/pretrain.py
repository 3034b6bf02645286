"""Pretraining against transformers' Trainer: the same weights, sequences and masked words, in turns.

`python bench/pretrain.py [--corpus FILE…] [--tokenizer spiece.model] [--steps 60 --rounds 2 --cpu-time]`: tokens per
second, the median of the rounds, each of which runs every side. Both sides take the batches of `albert pretrain`, about
2,048 tokens each, mostly of 16 x 128, and mask them as it does; theirs gets its labels as
DataCollatorForLanguageModeling makes them, -100 where nothing is masked, so it projects every position onto the
vocabulary. That both did the same work shows in the losses, which have a column.
"""

import argparse
import itertools
import logging
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from accelerate import Accelerator

from albert_cli.model.loading import load_model
from albert_cli.pretraining import corpus as corpora
from albert_cli.pretraining import masking, sequences
from albert_cli.pretraining.job import Job
from albert_cli.pretraining.loop import train
from albert_cli.pretraining.settings import PretrainSettings
from albert_cli.registry.builtin import built_in
from albert_cli.runs.events import Event, Trained
from albert_cli.tokenization.loading import find_tokenizer_files
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.config import EncoderConfig
from converters.initialize import initialize

DATA = Path(__file__).parents[2] / "shared" / "data"
LOGGED = 20  # steps, as the loop does it
SKIPPED = 3

Inputs = dict[str, torch.Tensor]


@dataclass
class Run:
    """When each step of a run began, and its last loss; with `cpu`, in processor time, which other work on the machine
    does not stretch."""

    cpu = False
    begun: list[float] = field(default_factory=list)
    loss: float = float("nan")

    def tick(self, *_: object) -> None:
        self.begun.append(time.process_time() if self.cpu else time.perf_counter())

    def rate(self, tokens: list[int]) -> float:
        """Tokens per second after the first steps, from the tokens of each step."""
        steps = slice(SKIPPED, len(self.begun) - 1)
        return sum(tokens[steps]) / (self.begun[-1] - self.begun[SKIPPED])


@dataclass(frozen=True)
class Work:
    """What every side is given."""

    folder: Path
    corpus: corpora.Corpus
    tokenizer: Tokenizer
    settings: PretrainSettings

    def batches(self) -> Iterator[sequences.Sequences]:
        """The batches of `albert pretrain`, in its order."""
        settings = self.settings
        return sequences.epoch_batches(
            self.corpus,
            self.corpus.split(settings.hold_out)[0],
            weights=np.ones(1),
            ordered=np.ones(1, bool),
            max_length=settings.max_length,
            batch_tokens=settings.tokens_per_update,
            seed=settings.seed,
            epoch=0,
        )

    def inputs(self) -> Iterator[Inputs]:
        """The batches as AlbertForPreTraining takes them, made when asked for, as ours are."""
        vocabulary = masking.Vocabulary.of(self.tokenizer)
        for number, batch in enumerate(self.batches()):
            tokens = sequences.tokens(self.corpus, batch, self.tokenizer)
            masked = masking.mask(tokens, vocabulary, np.random.default_rng((self.settings.seed, 0, number, 4)))
            labels = np.full(tokens.input_ids.shape, -100)
            labels[masked.rows, masked.columns] = masked.labels
            arrays = {
                "input_ids": masked.input_ids,
                "token_type_ids": tokens.token_type_ids,
                "attention_mask": tokens.attention_mask,
                "labels": labels,
                "sentence_order_label": tokens.orders,
            }
            yield {name: torch.from_numpy(array) for name, array in arrays.items()}


class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    def __init__(self, work: Work) -> None:
        self.work = work

    def __iter__(self) -> Iterator[Inputs]:
        return self.work.inputs()


def ours(work: Work) -> Run:
    run = Run()
    model = load_model(work.folder).train()
    model.encoder.register_forward_pre_hook(lambda module, _: run.tick() if module.training else None)

    def report(event: Event) -> None:
        if isinstance(event, Trained):
            run.loss = event.figures["masked_lm_loss"] + event.figures["sentence_order_loss"]

    learnt, held_out = work.corpus.split(work.settings.hold_out)
    with tempfile.TemporaryDirectory() as directory:
        job = Job(
            model=model,
            corpus=work.corpus,
            train=learnt,
            held_out=held_out,
            weights=np.ones(1),
            ordered=np.ones(1, bool),
            tokenizer=work.tokenizer,
            settings=work.settings,
            directory=Path(directory),
            accelerator=Accelerator(cpu=True),
            save=lambda step: None,
            report=report,
        )
        train(job, resume=False)
    return run


def trainers(work: Work) -> Run:
    run = Run()
    settings = work.settings
    model = transformers.AlbertForPreTraining.from_pretrained(work.folder)

    class Callback(transformers.TrainerCallback):
        def on_step_begin(self, *arguments: object, **more: object) -> None:
            run.tick()

        def on_log(self, *arguments: object, logs: dict[str, float], **more: object) -> None:
            run.loss = float(logs.get("loss", run.loss))

    class Trainer(transformers.Trainer):
        def get_train_dataloader(self) -> torch.utils.data.DataLoader[Inputs]:
            return torch.utils.data.DataLoader(Stream(work), batch_size=None)

    with tempfile.TemporaryDirectory() as directory:
        arguments = transformers.TrainingArguments(
            output_dir=directory,
            max_steps=settings.steps,
            learning_rate=settings.learning_rate,
            weight_decay=0.01,
            adam_epsilon=1e-6,
            warmup_steps=0,
            max_grad_norm=1.0,
            seed=settings.seed,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_steps=min(LOGGED, settings.steps or LOGGED),
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(model, arguments, train_dataset=Stream(work), callbacks=[Callback()])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return run


def random_text(tokenizer: Tokenizer, path: Path) -> Path:
    """Sentences of random words of the vocabulary, in documents, where there is no corpus."""
    pieces = (tokenizer.segmenter.piece(number) for number in range(len(tokenizer)))
    words = [piece[1:] for piece in pieces if piece[1:].isalpha()]
    draw = random.Random(1)
    sentences = (" ".join(draw.choices(words, k=draw.randint(4, 30))) + "." for _ in range(20_000))
    lines = (sentence + ("\n\n" if number % 50 == 49 else "\n") for number, sentence in enumerate(sentences))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    corpus = DATA / "corpus" / "sotu.txt.xz"
    parser.add_argument("--corpus", type=Path, default=corpus, help="a text file (random sentences if there is none)")
    parser.add_argument("--tokenizer", type=Path, default=built_in(), help="spiece.model (the built-in model's)")
    sizes = {"embedding": 128, "hidden": 256, "layers": 4, "batch": 16, "length": 128, "steps": 60, "rounds": 2}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"({value})")
    parser.add_argument("--vocab", type=int, help="rows of the vocabulary (as many as the tokenizer has pieces)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu-time", action="store_true", help="processor time, for a machine that is not idle")
    options = parser.parse_args()
    Run.cpu = options.cpu_time
    if options.threads or options.cpu_time:
        torch.set_num_threads(options.threads or 1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()

    files = find_tokenizer_files(options.tokenizer)
    tokenizer = Tokenizer.from_files(files)
    config = EncoderConfig(
        vocab_size=options.vocab or len(tokenizer),
        embedding_size=options.embedding,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden // 64),
        intermediate_size=4 * options.hidden,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout_prob=0.0,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        text = options.corpus if options.corpus.exists() else random_text(tokenizer, folder / "random.txt")
        convert.save(initialize(config, files, seed=1), folder / "model")
        settings = PretrainSettings(
            corpus=(str(text),),
            steps=options.steps,
            warmup=0.0,  # with one, theirs is a step behind
            tokens_per_update=options.batch * options.length,
            max_length=options.length,
            eval_every=options.steps,
            eval_sequences=options.batch,
        )
        found = corpora.prepare(corpora.Files.find([text]), tokenizer, files.digest(), folder / "tokens")
        work = Work(folder / "model", found, tokenizer, settings)
        tokens = [int(batch.lengths.sum()) for batch in itertools.islice(work.batches(), options.steps)]
        print(
            f"{text.name}: {np.mean(tokens):.0f} tokens a step, V={config.vocab_size} E={options.embedding} "
            f"H={options.hidden} L={options.layers} A={config.num_attention_heads}, {options.steps} steps, "
            f"{options.rounds} rounds, {torch.get_num_threads()} threads, "
            + ("processor time" if options.cpu_time else "wall time")
        )
        sides = {"transformers Trainer": trainers, "albert pretrain": ours}
        runs: dict[str, list[Run]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, side in sides.items():
                runs[name].append(side(work))
    rates = {name: statistics.median(run.rate(tokens) for run in done) for name, done in runs.items()}
    print(f"{'':22}tokens/s   x Trainer   loss of the last {LOGGED} steps")
    for name, done in runs.items():
        ratio = rates[name] / rates["transformers Trainer"]
        print(f"{name:22}{rates[name]:8.0f}{ratio:12.2f}   {done[-1].loss:.3f}")


if __name__ == "__main__":
    main()
