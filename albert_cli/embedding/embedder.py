"""Embedder: texts -> vectors. The local engine, each actor of a Ray cluster and Python programs use this one class."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from albert_cli import batching
from albert_cli.embedding.encoders import find_precision, make_encoder
from albert_cli.embedding.modules import Modules
from albert_cli.embedding.pooling import joined_windows, pool
from albert_cli.embedding.settings import TOKENS, Precision, Settings, as_options, pooling_named
from albert_cli.embedding.units import unit
from albert_cli.errors import EmbeddingError, TokenizerError
from albert_cli.finite import check_finite
from albert_cli.machine import DeviceName, find_device, on_threads
from albert_cli.model.hidden_states import encode
from albert_cli.phases import phase
from albert_cli.registry.resolve import Model, resolve
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.encoding import Encoding
from albert_cli.tokenization.pieces import Pieces
from albert_cli.tokenization.preparation import check_texts
from albert_cli.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from converters.checkpoint import Checkpoint
    from converters.sentence_files import SentenceSettings

# Tokens computed at once, padding included: more than these gain nothing, and cost memory.
BATCH_TOKENS = {"cpu": 1024, "cuda": 65536, "mps": 16384}


@dataclass(frozen=True)
class Tokens:
    """Texts made ready for the encoder. A text has one window, or several with `on_truncate="window"`.

    `windows`: the token ids of each. `firsts` int64 (texts + 1): text i has the windows `firsts[i]` to `firsts[i + 1]`.
    `truncated` int32 (texts): tokens left out. `empty` bool (texts): there is no token but special ones. `encodings`
    are there for pooling "tokens" only. `skip` int64 (windows): tokens of a prompt that is not pooled, from the first.
    """

    windows: TokenBatch
    firsts: NDArray[np.int64]
    truncated: NDArray[np.int32]
    empty: NDArray[np.bool_]
    encodings: list[Encoding] | None = None
    skip: NDArray[np.int64] | None = None

    @property
    def n_tokens(self) -> NDArray[np.int64]:
        """Tokens of each text that are embedded, special ones and those of all windows counted."""
        return np.diff(self.windows.starts[self.firsts])


@dataclass(frozen=True, repr=False)
class Plan:
    """Which model, and how it is to compute: what an Embedder is made of, here or on another machine."""

    model: Model
    settings: Settings
    device: str
    precision: Precision
    batch_tokens: int
    threads: int | None
    checkpoint: Checkpoint
    sentence: SentenceSettings | None = None
    # Those of the settings that are not the caller's but the model's own.
    from_model: Mapping[str, Any] = field(default_factory=dict)
    # The prompt that the caller named, where that is an empty text.
    empty_prompt: str | None = None

    def __repr__(self) -> str:
        return f"<Plan {self.model.name!r}: {self.settings}, {self.precision} on {self.device}>"

    @classmethod
    def of(
        cls,
        model: Model,
        settings: Settings | None = None,
        *,
        device: str,
        precision: Precision = "auto",
        batch_tokens: int | None = None,
        threads: int | None = None,
    ) -> Plan:
        """The plan with everything put in that is left open; `device` is one that there is where it is carried out."""
        from converters import spec

        checkpoint, settings = model.load(), settings or Settings()
        config, files = checkpoint.config, checkpoint.sentence
        pooling = settings.pooling and pooling_named(settings.pooling)
        sentence = files.settings(config, checkpoint.where, pooling=pooling) if files else None
        has_pooler = "pooler" in spec.components(checkpoint.tensors, config)
        longest = checkpoint.tokenizer.max_length
        plan = cls(
            model,
            settings.resolved(config, has_pooler=has_pooler, longest=longest, sentence=sentence),
            device,
            find_precision(precision, device),
            batch_tokens or BATCH_TOKENS[device],
            threads,
            checkpoint,
            sentence,
            settings.said(sentence),
            settings.prompt if sentence and sentence.prompts.get(settings.prompt or "") == "" else None,
        )
        _ = plan.tokenizer, plan.modules  # their errors are reported before any work
        return plan

    def taken(self) -> str:
        """A line on what was taken from the model's files, or is empty there; empty where nothing was."""
        files, parts = "its Sentence-Transformers files", []
        if self.from_model:
            parts.append(f"{as_options(self.from_model)} as {files} say; the options override them")
        if self.modules.steps:
            parts.append(f"after the pooling {self.modules.describe()}{'' if parts else f', as {files} say'}")
        if self.empty_prompt is not None:
            parts.append(f"prompt {self.empty_prompt!r} is empty: nothing stands before the texts")
        return f"{self.model.name}: {'; '.join(parts)}" if parts else ""

    @property
    def prompt(self) -> str:
        """What stands before every text."""
        return self.sentence.prompts.get(self.settings.prompt or "", "") if self.sentence else ""

    @property
    def pooled_width(self) -> int:
        """Numbers of a vector when it is pooled, or of a token."""
        return self.checkpoint.config.hidden_size * len((self.settings.pooling or "").split("+"))

    @functools.cached_property
    def modules(self) -> Modules:
        """What follows the pooling; CorruptError where its weights do not fit."""
        files, steps = self.checkpoint.sentence, self.sentence.steps if self.sentence else ()
        return Modules(steps, files, self.checkpoint.where)

    @functools.cached_property
    def unpooled(self) -> int:
        """Tokens at the beginning of every text that are left out of the pooling: [CLS] and those of the prompt."""
        if self.sentence is None or self.sentence.include_prompt or not self.prompt or self.settings.pooling == TOKENS:
            return 0
        batch = self.tokenizer.encode_batch([self.prompt], None, max_length=self.settings.max_length)
        return int(batch.lengths[0]) - 1  # its [SEP] stands elsewhere

    def facts(self) -> dict[str, Any]:
        """What of a vector depends on the settings and the model's Sentence-Transformers files."""
        return {
            **self.settings.facts(),
            "prompt_text": self.prompt,
            "prompt_tokens_not_pooled": self.unpooled,
            "modules": self.modules.describe(),
            "modules_sha256": self.modules.digest,
        }

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; TokenizerError where it has none, or more pieces than the model has rows."""
        return Tokenizer.of_model(self.checkpoint, self.model.name, lowercase=self.settings.lowercase)

    @functools.cached_property
    def weights_sha256(self) -> str:
        """One digest of all weights, the same in every format."""
        from converters import proof

        return proof.weights_digest(self.checkpoint, proof.tensor_digests(self.checkpoint))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process opens the model again."""
        again = functools.partial(
            Plan.of,
            device=self.device,
            precision=self.precision,
            batch_tokens=self.batch_tokens,
            threads=self.threads,
        )
        return again, (self.model, self.settings)


class Embedder:
    """A model at work.

    The vector of a text depends neither on its neighbours nor on the order, but for rounding (1e-5 in fp32).
    """

    @phase("loading the model")
    def __init__(self, plan: Plan) -> None:
        from albert_cli.model.loading import load_model

        self.plan, self.settings, self.config = plan, plan.settings, plan.checkpoint.config
        self.tokenizer = plan.tokenizer
        pretrained = load_model(plan.checkpoint)
        where = torch.device(plan.device)
        self._pooler = copy.deepcopy(pretrained.encoder.pooler)  # stays in fp32 whatever the encoder computes in
        if self._pooler is not None:
            self._pooler.to(where)
        self.encoder = make_encoder(pretrained.encoder, device=plan.device, precision=plan.precision)
        # Beside a GPU the processor has nothing else to do.
        self._tokenizer_threads = None if plan.device != "cpu" else 1

    def __repr__(self) -> str:
        made, plan = self.settings, self.plan
        how = f"pooling {made.pooling}, vectors of {made.dims} numbers, {plan.precision} on {plan.device}"
        return f"<Embedder {plan.model.name!r}: {how}>"

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        settings: Settings | None = None,
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
        dims: int | None = None,
        max_length: int | None = None,
        prompt: str | None = None,
        device: DeviceName = "auto",
        precision: Precision = "auto",
        batch_tokens: int | None = None,
        threads: int | None = None,
    ) -> Embedder:
        """The embedder of a model by path, name or Hub repository (see `albert_cli.registry.resolve.resolve`).

        What is None is as the model's Sentence-Transformers files say, if it has them. `pooling`: mean, cls, pooler,
        max, weighted, lasttoken, mean_sqrt_len_tokens, several joined by +. `dims`: keep the first numbers. `prompt`:
        the name of one of the model's prompts. `settings`: instead of these, all that decides a vector.
        """
        own = Settings(pooling, normalize=normalize, dims=dims, max_length=max_length, prompt=prompt)
        if settings is not None and own != Settings():
            raise EmbeddingError("settings are given, and a part of them beside; put it into the settings")
        settings = settings or own
        return cls(
            Plan.of(
                resolve(name),
                settings,
                device=find_device(device),
                precision=precision,
                batch_tokens=batch_tokens,
                threads=threads,
            )
        )

    def prompted(self, name: str) -> Embedder:
        """The same model with one of its own prompts before every text; itself where it has none of that name."""
        sentence = self.plan.sentence
        if sentence is None or not sentence.prompts.get(name):
            return self
        other = copy.copy(self)
        other.settings = dataclasses.replace(self.settings, prompt=name)
        other.plan = dataclasses.replace(self.plan, settings=other.settings)
        return other

    def embed(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """The vectors of texts or pairs, (texts, dims), or (layers, texts, dims) for several layers."""
        if self.settings.pooling == TOKENS:
            raise EmbeddingError("pooling tokens gives no vector per text; use tokenize and vectors")
        layers = self.vectors(self.tokenize(texts, pairs), progress)
        return layers[0] if len(layers) == 1 else np.stack(layers)

    def tokenize(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tokens:
        """Texts or pairs as the encoder takes them, with the prompt before each; TokenizerError for what is no text."""
        check_texts(texts)
        check_texts(() if pairs is None else pairs)
        settings, length, prompt = self.settings, self.settings.max_length, self.plan.prompt
        windowed = settings.on_truncate == "window"
        if windowed and pairs is not None:
            raise EmbeddingError("--on-truncate window cuts single texts only; it does not go with pairs")
        texts = [prompt + text for text in texts] if prompt else texts
        if settings.pooling == TOKENS:
            tokens = self._explained(texts, pairs, windowed)
        elif windowed:
            tokens = self._windows(texts)
        else:
            batch = self.tokenizer.encode_batch(texts, pairs, max_length=length, threads=self._tokenizer_threads)
            special = self.tokenizer.template.added(pair=pairs is not None)
            tokens = Tokens(batch, np.arange(len(texts) + 1), batch.truncated, batch.lengths == special)
        return self._prompted(tokens, pairs) if prompt else tokens

    def frame(self, rows: Sequence[list[int]]) -> Tokens:
        """Token ids of texts as the encoder takes them, cut as texts are; no prompt stands before them.

        The special tokens are put around each, unless it has them already. Raises TokenizerError, naming the row, for
        an id that is no piece's.
        """
        template, pieces = self.tokenizer.template, len(self.tokenizer)
        before, after = list(template.before), list(template.after)
        width = max((self.settings.max_length or 0) - template.added(pair=False), 1)
        cut, truncated = [], []
        for number, row in enumerate(rows):
            if bad := [item for item in row if not 0 <= item < pieces][:1]:
                raise TokenizerError(f"text {number} has the token id {bad[0]}; the vocabulary has 0 to {pieces - 1}")
            ends = len(before), len(row) - len(after)
            framed = ends[0] <= ends[1] and (row[: ends[0]], row[ends[1] :]) == (before, after)
            bare = row[slice(*ends)] if framed else row
            windows = [bare[low : low + width] for low in range(0, len(bare), width)] or [bare]
            if len(windows) > 1 and self.settings.on_truncate != "window":
                windows = [self.tokenizer.kept(bare, width)]
            truncated.append(len(bare) - sum(map(len, windows)))
            cut.append(windows)
        return Tokens(
            TokenBatch.of_rows(
                [template.frame(window)[0] for windows in cut for window in windows], pad_id=self.tokenizer.pad_id
            ),
            batching.starts([len(windows) for windows in cut]),
            np.array(truncated, np.int32),
            np.array([not windows[0] for windows in cut], np.bool_),
        )

    def _prompted(self, tokens: Tokens, pairs: Sequence[str] | None) -> Tokens:
        """Texts with a prompt: one that adds no token to it is empty, and no part of a prompt lies in the text."""
        plan, windows = self.plan, tokens.windows
        second, length = None if pairs is None else [""], plan.settings.max_length
        alone = self.tokenizer.encode_batch([plan.prompt], second, max_length=length)[0]
        same = np.array([np.array_equal(windows[first], alone) for first in tokens.firsts[:-1]], np.bool_)
        empty = same & (np.diff(tokens.firsts) == 1) & (tokens.truncated == 0)
        skip = None
        if plan.unpooled:
            skip = np.zeros(len(windows), np.int64)
            skip[tokens.firsts[:-1]] = plan.unpooled
        encodings = tokens.encodings and [_moved(one, len(plan.prompt)) for one in tokens.encodings]
        return dataclasses.replace(tokens, empty=empty, skip=skip, encodings=encodings)

    def check_whole(self, tokens: Tokens, place: Callable[[int], str]) -> None:
        """EmbeddingError for the first text that was cut, which `place` names, where `on_truncate` is "error"."""
        if self.settings.on_truncate == "error" and tokens.truncated.any():
            row = int(np.flatnonzero(tokens.truncated)[0])
            raise EmbeddingError(
                f"{place(row)}: the text is {tokens.truncated[row]:,} tokens longer than --max-length "
                f"{self.settings.max_length}; --on-truncate window embeds all of it, warn leaves the rest out"
            )

    def vectors(self, tokens: Tokens, progress: Callable[[int], None] | None = None) -> list[NDArray[np.float32]]:
        """Per layer the vectors (texts, dims); of pooling "tokens" those of all tokens, (tokens, dims).

        `progress` receives the number of windows of each finished batch. Raises EmbeddingError where a number is
        not finite.
        """
        settings, windows = self.settings, tokens.windows
        how = settings.pooling or ""
        by_token = how == TOKENS
        rows = len(windows.ids) if by_token else len(windows)
        layers = settings.layers or ()
        made = [np.empty((rows, self.plan.pooled_width), np.float32) for _ in layers]
        with on_threads(self.plan.threads):
            for batch in encode(self.encoder, windows, batch_tokens=self.plan.batch_tokens, layers=layers):
                skip = None if tokens.skip is None else tokens.skip[batch.rows]
                for layer, states in zip(made, batch.layers, strict=True):
                    if by_token:
                        layer[windows.places(batch.rows)] = states.cpu().numpy()
                    else:
                        layer[batch.rows] = pool(states, batch.offsets, how, self._pooler, skip=skip).cpu().numpy()
                if progress:
                    progress(len(batch.rows))
            return [self._finished(layer, tokens, by_token) for layer in made]

    def _finished(self, vectors: NDArray[Any], tokens: Tokens, by_token: bool) -> NDArray[np.float32]:
        settings = self.settings
        if not by_token:
            if len(vectors) > len(tokens.firsts) - 1:
                pooled = tokens.windows.lengths if tokens.skip is None else tokens.windows.lengths - tokens.skip
                vectors = joined_windows(vectors, settings.pooling or "", tokens.firsts[:-1], pooled)
            vectors = self.plan.modules(vectors)
        if settings.normalize == "before":
            vectors = unit(vectors)
        vectors = vectors[:, : settings.dims]
        check_finite(
            vectors,
            EmbeddingError,
            lambda bad, rows: f"{self.plan.model.name}: {bad} of {rows} vectors",
            advice="the weights are damaged, or --precision fp32 is needed",
        )
        if settings.normalize is True:
            vectors = unit(vectors)
        return np.ascontiguousarray(vectors, np.float32)

    def _windows(self, texts: Sequence[str]) -> Tokens:
        """Consecutive windows of each text, as long as fits; the same as `encode(..., stride=0)`."""
        template = self.tokenizer.template
        special = template.added(pair=False)
        width = (self.settings.max_length or 0) - special
        if width < 1:
            raise EmbeddingError(
                f"--max-length {width + special} leaves no room for text beside {special} special tokens"
            )
        rows = self.tokenizer.ids(texts, threads=self._tokenizer_threads)
        cut = [[row[low : low + width] for low in range(0, len(row), width)] or [[]] for row in rows]
        ids = [template.frame(window)[0] for row in cut for window in row]
        return Tokens(
            TokenBatch.of_rows(ids, pad_id=self.tokenizer.pad_id),
            batching.starts([len(row) for row in cut]),
            np.zeros(len(texts), np.int32),
            np.array([not row for row in rows], bool),
        )

    def _explained(self, texts: Sequence[str], pairs: Sequence[str] | None, windowed: bool) -> Tokens:
        """With pieces and spans, which cost more to find."""
        encodings = [
            self.tokenizer.encode(text, pair, max_length=self.settings.max_length, stride=0 if windowed else None)
            for text, pair in zip(texts, pairs or repeat(None, len(texts)), strict=True)
        ]
        windows = [list(encoding.windows()) for encoding in encodings]
        every = list(chain.from_iterable(windows))
        return Tokens(
            TokenBatch.of_rows(
                [window.ids for window in every],
                [window.token_type_ids for window in every],
                pad_id=self.tokenizer.pad_id,
            ),
            batching.starts([len(row) for row in windows]),
            np.array([encoding.truncated for encoding in encodings], np.int32),
            np.array([all(encoding.special_tokens_mask) for encoding in encodings], bool),
            every,
        )


def _moved(encoding: Encoding, prompt: int) -> Encoding:
    """Spans in the text itself, which begins after `prompt` characters; those of the prompt become (0, 0)."""
    tokens = encoding.tokens
    starts, ends = (
        np.where(encoding.sequences == 0, np.maximum(0, places - prompt), places)
        for places in (tokens.starts, tokens.ends)
    )
    return dataclasses.replace(encoding, tokens=Pieces(tokens.ids, tokens.texts, starts, ends, tokens.kinds))
