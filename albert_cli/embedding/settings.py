"""Settings: what decides a vector, beside the model and the text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from albert_cli.errors import EmbeddingError
from converters.config import EncoderConfig
from converters.errors import did_you_mean
from converters.messages import brief
from converters.sentence_files import SentenceSettings
from converters.sentence_keys import DEFAULT_MAX_LENGTH
from converters.sentence_keys import POOLINGS as OF_SENTENCE_FILES

# One vector of a text each; several are joined by +.
POOLINGS = ("mean", "cls", "pooler", "max", "weighted", "lasttoken", "mean_sqrt_len_tokens")
TOKENS = "tokens"  # the vectors of all tokens
NO_PROMPT = "none"
OutDtype = Literal["float32", "float16", "int8", "binary"]
VectorType = Literal["fixed", "list"]
OnTruncate = Literal["warn", "error", "window"]
Precision = Literal["auto", "fp32", "bf16", "int8"]


@dataclass(frozen=True)
class Settings:
    """How texts become vectors. What is None is as the model's Sentence-Transformers files say, if it has them.

    `layers`: numbers of hidden states, 0 for the projected embeddings, 1 for the first layer's output, negative ones
    from the end, None for all. `dims`: keep the first `dims` numbers of each vector. `normalize`: vectors of length 1;
    "before": of that length before `dims` cuts them, as a model's last Normalize makes them. `max_length` counts
    special tokens; by default 512 or what the model can take, if less. `pooling` is mean by default. `prompt`: the name
    of one of the model's prompts, or "none". `lowercase`: whether texts are lower-cased; by default as the tokenizer's
    files say. `on_truncate`: what happens to a longer text: "warn" and "error" leave the rest out (the latter refuses
    the file), "window" embeds it in consecutive windows and joins their vectors.
    """

    pooling: str | None = None
    layers: tuple[int, ...] | None = (-1,)
    normalize: bool | Literal["before"] | None = None
    dims: int | None = None
    max_length: int | None = None
    on_truncate: OnTruncate = "warn"
    lowercase: bool | None = None
    prompt: str | None = None

    def said(self, sentence: SentenceSettings | None) -> dict[str, Any]:
        """Those of the settings that are None here and that the model's files decide."""
        if sentence is None:
            return {}
        dims = self.dims or sentence.dims
        cut = sentence.normalize and dims is not None and dims < sentence.width
        said: dict[str, Any] = {
            "pooling": sentence.pooling,
            "normalize": "before" if cut else sentence.normalize,
            "max_length": sentence.max_length,
        }
        said |= {"lowercase": True} if sentence.lowercase else {}
        said |= {"dims": sentence.dims} if sentence.dims else {}
        said |= {"prompt": sentence.prompt} if sentence.prompts.get(sentence.prompt or "") else {}
        return {name: value for name, value in said.items() if getattr(self, name) is None}

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
        pooling = pooling_named(given.pooling or "mean")
        width = sentence.width if sentence else config.hidden_size * len(pooling.split("+"))
        if given.dims is not None and not 1 <= given.dims <= width:
            raise EmbeddingError(f"--dims {given.dims}: the model's vectors have 1 to {width} numbers")
        prompts = sentence.prompts if sentence else {}
        if given.prompt not in (None, NO_PROMPT, *prompts):
            own = [name for name, text in prompts.items() if text]
            there = f"its prompts are {', '.join(own)}" if own else "the model has no prompts"
            raise EmbeddingError(
                f"--prompt {given.prompt}: {there}; {NO_PROMPT!r} stands for no prompt"
                f"{did_you_mean(str(given.prompt), own)}"
            )
        return replace(
            given._resolved(config, pooling, has_pooler, longest),
            dims=given.dims or width,
            prompt=given.prompt if prompts.get(given.prompt or "") else NO_PROMPT,
        )

    def _resolved(self, config: EncoderConfig, pooling: str, has_pooler: bool, longest: int | None) -> Settings:
        states = config.num_hidden_layers * config.inner_group_num + 1
        wanted = range(states) if self.layers is None else self.layers
        beyond = [number for number in wanted if not -states <= number < states]
        if beyond or not wanted:
            seen = ", ".join(map(str, beyond)) or "none"
            raise EmbeddingError(f"layer {seen} was asked for; this model has 0 to {states - 1}, or -1 to {-states}")
        layers = tuple(number % states for number in wanted)
        if len(set(layers)) < len(layers):
            raise EmbeddingError(f"layers {', '.join(map(str, wanted))} name the same layer twice")
        if "pooler" in pooling and not has_pooler:
            raise EmbeddingError("--pooling pooler: the model has no pooler; choose mean, cls, max or weighted")
        if "pooler" in pooling and layers != (states - 1,):
            raise EmbeddingError("--pooling pooler is made of the last layer; leave out --layer, or choose cls")
        limit = config.max_tokens
        if self.max_length is not None and self.max_length > limit:
            raise EmbeddingError(
                f"--max-length {self.max_length}: the model has positions for {limit} tokens; "
                "albert embed --on-truncate window takes longer texts"
            )
        return Settings(
            pooling=pooling,
            layers=layers,
            normalize=self.normalize or False,
            max_length=self.max_length or min(DEFAULT_MAX_LENGTH, limit, longest or limit),
            on_truncate=self.on_truncate,
            lowercase=self.lowercase,
        )

    def facts(self) -> Mapping[str, Any]:
        """What a result depends on: leaving the rest out gives the same vectors with a warning or without."""
        return {
            "lower_case": self.lowercase,
            "pooling": self.pooling,
            "layers": list(self.layers or ()),
            "normalize": self.normalize,
            "dims": self.dims,
            "max_length": self.max_length,
            "on_truncate": "window" if self.on_truncate == "window" else "cut",
            "prompt": self.prompt,
        }


def pooling_named(text: str, *, tokens: bool = True) -> str:
    """A pooling, or several joined by +, by our names or those of sentence-transformers; EmbeddingError for others.

    Without `tokens`, "tokens" is none either.
    """
    modes = [OF_SENTENCE_FILES.get(name, name) for name in text.split("+")]
    for mode in () if tokens and text == TOKENS else modes:
        if mode not in POOLINGS:
            known = ", ".join(POOLINGS) + (f", {TOKENS}" if tokens else "")
            near = did_you_mean(mode, POOLINGS)
            raise EmbeddingError(f"pooling {brief(mode)} is not one of {known}, and several are joined by +{near}")
    return "+".join(modes)


def as_options(settings: Mapping[str, Any]) -> str:
    """Some of the settings as one would write them on the command line."""
    switches: dict[str, dict[Any, str]] = {
        "normalize": {False: "--no-normalize", True: "--normalize", "before": "--normalize (before --dims)"},
        "lowercase": {False: "--cased", True: "--uncased"},
    }
    return ", ".join(
        switches[name][value] if name in switches else f"--{name.replace('_', '-')} {value}"
        for name, value in settings.items()
    )
