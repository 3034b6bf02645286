"""Values that others published for Google's albert_base v1 and v2, and finding the real weights that somebody has.

v1: the README of ALBERT.jl, whose batch is three sentences in its own tokenizer's ids, without [CLS], padded to 32
tokens that nothing masks; the masked value is transformers' for the same ids. v2: what TensorFlow Hub's module gives.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from albert_cli.model.loading import load_model
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.errors import AlbertError
from converters.families.albert import PRESETS

SENTENCES = [
    "God is Great! I won a lottery.",
    (
        "If all their conversations in the three months he had been coming to the diner were put together, "
        "it was doubtful that they would make a respectable paragraph."
    ),
    "She had the job she had planned for the last three years.",
]
KATHMANDU = "Kathmandu is city of Temples and Gods."
SIZES = ("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


class Outputs:
    """What our model of some weights gives for the published inputs."""

    def __init__(self, path):
        self.checkpoint = convert.load(path)
        self.model = load_model(self.checkpoint)
        self.path = path

    @cached_property
    def julia_ids(self):
        rows = Tokenizer.from_pretrained(self.path, raw=True).ids(SENTENCES)
        return torch.tensor([row + [0] * (32 - len(row)) for row in rows])

    def run(self, ids, mask=None):
        with torch.inference_mode():
            return self.model.encoder(ids, mask)

    @cached_property
    def unmasked(self):
        return self.run(self.julia_ids)

    @cached_property
    def masked(self):
        return self.run(self.julia_ids, (self.julia_ids != 0).long())

    @cached_property
    def kathmandu(self):
        return self.run(torch.tensor([Tokenizer.from_pretrained(self.path).encode(KATHMANDU).ids]))


@dataclass(frozen=True)
class Value:
    """One published row of numbers; `most` is how far off the last digits may be, of each number and besides."""

    version: int
    name: str
    of: Callable[[Outputs], object]
    numbers: tuple[float, ...]
    most: tuple[float, float]

    def fault(self, outputs):
        """What differs, in words, or None."""
        found = np.asarray(self.of(outputs), np.float64)
        wanted = np.array(self.numbers)
        gaps = np.abs(found - wanted)
        if np.all(gaps <= self.most[0] * np.abs(wanted) + self.most[1]):
            return None
        return f"{self.name}: published {_row(wanted)}, found {_row(found)}, off by up to {gaps.max():.3g}"


def _row(numbers):
    return " ".join(f"{number:.6g}" for number in numbers)


# Another program's normalisation and GELU in single precision; without the mask, or with it, the numbers are others.
JULIA = (5e-3, 2e-3)
HUB = (0, 5e-4)
VALUES = [
    Value(1, "embedding output of token 1 of sentence 1", lambda o: o.unmasked.embedding_output[0, 0, :5],
          (0.215637, 0.382527, -1.06308, 0.0192553, -1.73208), JULIA),
    Value(1, "contextual output of token 1 of sentence 1, padding not masked",
          lambda o: o.unmasked.sequence_output[0, 0, :5], (0.304567, 0.765856, 0.760675, -0.0437517, 0.438816), JULIA),
    Value(1, "contextual output of token 1 of sentence 2, padding not masked",
          lambda o: o.unmasked.sequence_output[1, 0, :3], (-0.09183, -0.212849, -0.341473), JULIA),
    Value(1, "pooler output of sentence 1, padding not masked", lambda o: o.unmasked.pooled_output[0, :5],
          (-0.164622, -0.109313, -0.922526, -0.403019, 0.439029), JULIA),
    Value(1, "pooler output of sentence 2, padding not masked", lambda o: o.unmasked.pooled_output[1, :3],
          (-0.244687, -0.238238, -0.99792), JULIA),
    Value(1, "contextual output of token 1 of sentence 1, padding masked", lambda o: o.masked.sequence_output[0, 0, :5],
          (-0.428328, -0.569262, 0.0193166, -0.978615, 0.201378), JULIA),
    Value(1, "bias of the masked-word head", lambda o: o.checkpoint.tensors["predictions.bias"].read()[:5],
          (-5.345022, 2.1769698, -7.144285, -9.102521, -8.083536), (1e-6, 0)),
    Value(2, "last hidden state of token 1, first numbers", lambda o: o.kathmandu.sequence_output[0, 0, :3],
          (0.1889, -0.0525, 0.1712), HUB),
    Value(2, "last hidden state of token 1, last numbers", lambda o: o.kathmandu.sequence_output[0, 0, -3:],
          (-0.4810, -0.3654, 0.5008), HUB),
    Value(2, "last hidden state of token 2, first numbers", lambda o: o.kathmandu.sequence_output[0, 1, :3],
          (-1.4933, -0.6441, 1.0500), HUB),
    Value(2, "pooler output, first numbers", lambda o: o.kathmandu.pooled_output[0, :4],
          (0.7480, -0.7183, 0.7389, -0.3165), HUB),
    Value(2, "pooler output, last number", lambda o: o.kathmandu.pooled_output[0, -1:], (0.7081,), HUB),
]  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A model on disk: its version if it is an albert_base, else why it is none."""

    path: Path
    format: str
    version: int | None
    remark: str

    def __str__(self):
        what = f"albert_base v{self.version}" if self.version else "not used"
        return f"{self.path} ({self.format}): {what}, {self.remark}"


def find_models(directory):
    """Every model at a directory or file and up to two levels below, in any format that the hub reads."""
    found, todo = [], [(Path(directory), 0)]
    while todo:
        path, depth = todo.pop(0)
        try:
            form = convert.source_format(path).NAME
        except AlbertError as error:
            if "several formats" in str(error):
                found.append(Found(path, "?", None, str(error)))
            elif path.is_dir() and depth < 2:
                todo += [(entry, depth + 1) for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
            continue
        found.append(_judged(path, form, Path(directory)))
    return found


def _judged(path, form, directory):
    try:
        config = convert.load(path).config
    except AlbertError as error:
        return Found(path, form, None, str(error))
    odd = [
        f"{name} {getattr(config, name)}" for name in SIZES if getattr(config, name) != getattr(PRESETS["base"], name)
    ]
    if odd:
        return Found(path, form, None, "no albert_base: " + ", ".join(odd))
    names = [path.name, *(parent.name for parent in path.parents if parent.is_relative_to(directory))]
    for name in names:
        if version := re.search(r"v([12])(?!\d)", name):
            return Found(path, form, int(version[1]), f"by the name {name}")
    version = 1 if config.hidden_dropout_prob else 2
    return Found(path, form, version, f"by its hidden_dropout_prob of {config.hidden_dropout_prob}")
