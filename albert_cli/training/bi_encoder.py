"""What problems of pairs share whose model gives each text a vector: the encoder alone, and how it is written.

Texts are pooled as a Sentence-Transformers model's own files say, else as the settings do; the run is such a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.embedding.pooling import pooled
from albert_cli.embedding.settings import pooling_named
from albert_cli.errors import DataError, RunError, TrainingError
from albert_cli.model.task_heads import BiEncoder
from albert_cli.tasks.examples import Examples
from albert_cli.tasks.task import Task
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training.choice_rows import ChoiceRows
from albert_cli.training.rows import Split, no_targets
from albert_cli.training.run_info import RunInfo
from albert_cli.training.text_problem import Found, TextProblem
from converters import spec
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig
from converters.messages import listing
from converters.sentence_files import SentenceSettings
from converters.sentence_keys import POOLINGS
from converters.sentence_writing import SentenceRecipe

if TYPE_CHECKING:
    from albert_cli.training.settings import Settings

# By default cosines are multiplied by it, as in sentence-transformers.
SCALE = 20.0


class PairProblem(TextProblem):
    """A value is the cosine of a pair. Outputs of a row are the vectors of its texts, (texts, dims)."""

    advice = "compares two texts; use albert predict RUN TEXT TEXT"
    problem_type = ""

    # --- The model

    def suited(self, settings: Settings, base: Checkpoint) -> Settings:
        """With the pooling and the length of the model's Sentence-Transformers files, if it has them."""
        _check_options(settings)
        own = base.sentence.settings(base.config, base.where) if base.sentence else None
        pooling = pooling_named(settings.pooling or (own.pooling if own else "mean"), tokens=False)
        if own and (others := _untrained(own, pooling)):
            raise TrainingError(
                f"{base.where}: its Sentence-Transformers files say {listing(others)}, which is not trained here; "
                "albert convert MODEL hf/ and the model without these files can be"
            )
        if unknown := [mode for mode in pooling.split("+") if mode not in POOLINGS.values()]:
            known = ", ".join(dict.fromkeys(POOLINGS.values()))
            raise TrainingError(f"--pooling {unknown[0]}: a Sentence-Transformers directory has but {known}")
        length = min(settings.max_length, own.max_length) if own else settings.max_length
        return dataclasses.replace(settings, pooling=pooling, max_length=length)

    def head(self, config: EncoderConfig, info: RunInfo) -> BiEncoder:
        return BiEncoder(config, partial(pooled, how=info.settings["pooling"]))

    def config_keys(self, info: RunInfo) -> dict[str, Any]:
        return {}

    def saved(self, checkpoint: Checkpoint, base: Checkpoint, info: RunInfo) -> Checkpoint:
        """With the files of the model it started from, or those of its pooling; the pooler stays as it was."""
        names = spec.spec(base.config)
        kept = {name: item for name, item in base.tensors.items() if names[name].component == "pooler"}
        whole = dataclasses.replace(checkpoint, tensors=kept | dict(checkpoint.tensors), sentence=base.sentence)
        new = SentenceRecipe(info.settings["pooling"], max_length=info.max_length)
        return (SentenceRecipe() if base.sentence else new).applied(whole)

    def foreign(self, checkpoint: Checkpoint, parts: Collection[str], max_length: int) -> RunInfo | None:
        """None: albert evaluate --sts, embed and similarity take such models."""
        return None

    def claims(self, said: object, outputs: int, where: str) -> bool:
        return False

    # --- Rows

    def split(
        self, examples: Examples, info: RunInfo, task: Task, tokenizer: Tokenizer, *, labelled: bool = True
    ) -> Split[Examples]:
        """A row for each text: of an example those of its pair, and then its negatives."""
        if examples.pairs is None:
            raise DataError(f"{examples.where}: single texts, but the model compares two; give it pairs")
        negatives: Sequence[Sequence[str]] = examples.negatives or [()] * len(examples)
        every = [list(row) for row in zip(examples.texts, examples.pairs, strict=True)]
        texts = [text for pair, others in zip(every, negatives, strict=True) for text in (*pair, *others)]
        first = np.concatenate([[0], np.cumsum([2 + len(others) for others in negatives], dtype=np.int64)])
        targets = torch.from_numpy(self.targets(examples, info, task)) if labelled else no_targets()
        tokens = tokenizer.encode_batch(texts, None, max_length=info.max_length)
        return Split(examples, ChoiceRows(tokens, targets, first))

    def example(self, texts: Sequence[str]) -> Examples:
        if len(texts) < 2:
            raise RunError("", "its model compares two texts; give it a second one")
        return super().example(texts)

    def loss_by_batch(self, vectors: Tensor, targets: Tensor, size: int) -> float:
        """The mean loss of rows in batches as large as those of training: of all at once it would be another."""
        parts = [slice(low, low + size) for low in range(0, len(targets), size)]
        return sum(float(self.loss(vectors[part], targets[part])) for part in parts) / len(targets)

    # --- Predictions

    def values(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The cosines of the first two texts of each row, float64."""
        a, b = (outputs[:, number].astype(np.float64) for number in (0, 1))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines: NDArray[Any] = (a * b).sum(1) / np.where(lengths > 0, lengths, 1)
        return cosines

    def decide(self, split: Split[Examples], outputs: list[NDArray[Any]], info: RunInfo) -> NDArray[Any]:
        return self.values(np.stack([row[:2] for row in outputs]))

    def answer(self, split: Split[Examples], found: Found, info: RunInfo) -> dict[str, Any]:
        return {"prediction": round(float(found.values[0]), 6)}

    def columns(self, found: Found, info: RunInfo, *, probabilities: bool) -> dict[str, list[Any]]:
        return {"prediction": [round(float(value), 6) for value in found.values]}

    def value_shown(self, value: Any, info: RunInfo) -> str:
        return f"cosine {value:.4f}"


def _check_options(settings: Settings) -> None:
    """Refuse what an encoder without a head has no use for (TrainingError)."""
    if settings.hidden:
        raise TrainingError("--head mlp is for labels of texts; vectors have no head; leave --head out")
    if settings.freeze_encoder:
        raise TrainingError("--freeze-encoder would leave nothing to train: vectors have no head; leave it out")
    if settings.both_orders:
        raise TrainingError("--both-orders trains nothing else: a cosine has no order; leave it out")


def _untrained(own: SentenceSettings, pooling: str) -> list[str]:
    """What a model's files say that training does not heed."""
    others = [step.describe() for step in own.steps]
    others += [f"pooling {own.pooling}"] if own.pooling != pooling else []
    others += [f"the prompt {own.prompt!r} before every text"] if own.prompts.get(own.prompt or "") else []
    others += [f"{own.dims} numbers of {own.width}"] if own.dims else []
    return others + (["lower-cased texts"] if own.lowercase else [])
