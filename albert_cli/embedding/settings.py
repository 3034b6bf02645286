"""Settings: what decides a vector, beside the model and the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from albert_cli.errors import EmbeddingError
from converters.config import EncoderConfig
from converters.sentence_files import SentenceSettings

Pooling = Literal["mean", "cls", "pooler", "max", "weighted", "tokens"]
OutDtype = Literal["float32", "float16", "int8", "binary"]
VectorType = Literal["fixed", "list"]
OnTruncate = Literal["warn", "error", "window"]
Precision = Literal["auto", "fp32", "bf16", "int8"]

DEFAULT_MAX_LENGTH = 512


@dataclass(frozen=True)
class Settings:
    """How texts become vectors. What is None is as the model's Sentence-Transformers files say, if it has them.

    `layers`: numbers of hidden states, 0 for the projected embeddings, 1 for the first layer's output, negative ones
    from the end, None for all. `dims`: keep the first `dims` numbers of each vector. `max_length` counts special
    tokens; by default 512 or what the model can take, if less. `pooling` is mean by default. `lowercase`: whether texts
    are lower-cased; by default as the tokenizer's files say. `on_truncate`: what happens to a longer text: "warn"
    and "error" leave the rest out (the latter refuses the file), "window" embeds it in consecutive windows and joins
    their vectors.
    """

    pooling: Pooling | None = None
    layers: tuple[int, ...] | None = (-1,)
    normalize: bool | None = None
    dims: int | None = None
    max_length: int | None = None
    on_truncate: OnTruncate = "warn"
    lowercase: bool | None = None

    def said(self, sentence: SentenceSettings | None) -> dict[str, Any]:
        """Those of the settings that are None here and that the model's files decide."""
        if sentence is None:
            return {}
        said = {"pooling": sentence.pooling, "normalize": sentence.normalize, "max_length": sentence.max_length}
        return {
            name: value
            for name, value in (said | ({"lowercase": True} if sentence.lowercase else {})).items()
            if getattr(self, name) is None
        }

    def resolved(
        self,
        config: EncoderConfig,
        *,
        has_pooler: bool,
        longest: int | None = None,
        sentence: SentenceSettings | None = None,
    ) -> Settings:
        """The settings with the model's own put in; EmbeddingError where they do not fit it.

        `longest`: the length at which the model's tokenizer cuts by itself. `sentence`: what the model's
        Sentence-Transformers files say.
        """
        given = replace(self, **self.said(sentence))
        return given._resolved(config, given.pooling or "mean", has_pooler, longest)

    def _resolved(self, config: EncoderConfig, pooling: Pooling, has_pooler: bool, longest: int | None) -> Settings:
        if pooling not in get_args(Pooling):
            raise EmbeddingError(f"pooling is {pooling!r}, not one of {', '.join(get_args(Pooling))}")
        states = config.num_hidden_layers * config.inner_group_num + 1
        wanted = range(states) if self.layers is None else self.layers
        beyond = [number for number in wanted if not -states <= number < states]
        if beyond or not wanted:
            seen = ", ".join(map(str, beyond)) or "none"
            raise EmbeddingError(f"layer {seen} was asked for; this model has 0 to {states - 1}, or -1 to {-states}")
        layers = tuple(number % states for number in wanted)
        if len(set(layers)) < len(layers):
            raise EmbeddingError(f"layers {', '.join(map(str, wanted))} name the same layer twice")
        if pooling == "pooler" and not has_pooler:
            raise EmbeddingError("--pooling pooler: the model has no pooler; choose mean, cls, max or weighted")
        if pooling == "pooler" and layers != (states - 1,):
            raise EmbeddingError("--pooling pooler is made of the last layer; leave out --layer, or choose cls")
        if self.dims is not None and not 1 <= self.dims <= config.hidden_size:
            raise EmbeddingError(f"--dims {self.dims}: the model's vectors have 1 to {config.hidden_size} numbers")
        limit = config.max_tokens
        if self.max_length is not None and self.max_length > limit:
            raise EmbeddingError(
                f"--max-length {self.max_length}: the model has positions for {limit} tokens; "
                "albert embed --on-truncate window takes longer texts"
            )
        return Settings(
            pooling=pooling,
            layers=layers,
            normalize=bool(self.normalize),
            dims=self.dims or config.hidden_size,
            max_length=self.max_length or min(DEFAULT_MAX_LENGTH, limit, longest or limit),
            on_truncate=self.on_truncate,
            lowercase=self.lowercase,
        )

    def facts(self) -> Mapping[str, Any]:
        """What a result depends on: leaving the rest out gives the same vectors with a warning or without."""
        cased = {} if self.lowercase is None else {"lower_case": self.lowercase}
        return cased | {
            "pooling": self.pooling,
            "layers": list(self.layers or ()),
            "normalize": self.normalize,
            "dims": self.dims,
            "max_length": self.max_length,
            "on_truncate": "window" if self.on_truncate == "window" else "cut",
        }


def as_options(settings: Mapping[str, Any]) -> str:
    """Some of the settings as one would write them on the command line."""
    switches = {"normalize": ("--no-normalize", "--normalize"), "lowercase": ("--cased", "--uncased")}
    return ", ".join(
        switches[name][value] if name in switches else f"--{name.replace('_', '-')} {value}"
        for name, value in settings.items()
    )
