"""Embedder: texts -> vectors. The local engine, each actor of a Ray cluster and Python programs use this one class."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from albert_cli import batching
from albert_cli.embedding.encoders import find_precision, make_encoder
from albert_cli.embedding.pooling import pool
from albert_cli.embedding.settings import Precision, Settings, as_options
from albert_cli.errors import EmbeddingError
from albert_cli.finite import check_finite
from albert_cli.machine import DeviceName, find_device, on_threads
from albert_cli.model.hidden_states import encode
from albert_cli.registry.resolve import Model, resolve
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.encoding import Encoding
from albert_cli.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from converters.checkpoint import Checkpoint

# Tokens computed at once, padding included: more than these gain nothing, and cost memory.
BATCH_TOKENS = {"cpu": 1024, "cuda": 65536, "mps": 16384}


@dataclass(frozen=True)
class Tokens:
    """Texts made ready for the encoder. A text has one window, or several with `on_truncate="window"`.

    `windows`: the token ids of each. `firsts` int64 (texts + 1): text i has the windows `firsts[i]` to `firsts[i + 1]`.
    `truncated` int32 (texts): tokens left out. `empty` bool (texts): there is no token but special ones. `encodings`
    are there for pooling "tokens" only.
    """

    windows: TokenBatch
    firsts: NDArray[np.int64]
    truncated: NDArray[np.int32]
    empty: NDArray[np.bool_]
    encodings: list[Encoding] | None = None

    @property
    def n_tokens(self) -> NDArray[np.int64]:
        """Tokens of each text that are embedded, special ones and those of all windows counted."""
        return np.diff(self.windows.starts[self.firsts])


@dataclass(frozen=True)
class Plan:
    """Which model, and how it is to compute: what an Embedder is made of, here or on another machine."""

    model: Model
    settings: Settings
    device: str
    precision: Precision
    batch_tokens: int
    threads: int | None
    checkpoint: Checkpoint
    # Those of the settings that are not the caller's but the model's own.
    from_model: Mapping[str, Any] = field(default_factory=dict)

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
        sentence = files.settings(config, checkpoint.where, pooling=settings.pooling) if files else None
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
            settings.said(sentence),
        )
        _ = plan.tokenizer  # its errors are reported before any work
        return plan

    def taken(self) -> str:
        """A line on what was taken from the model's files; empty where nothing was."""
        if not self.from_model:
            return ""
        return (
            f"{self.model.name}: {as_options(self.from_model)} as its Sentence-Transformers files say; the options "
            "override them"
        )

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

    @classmethod
    def from_pretrained(
        cls,
        name: str | None,
        settings: Settings | None = None,
        *,
        device: DeviceName = "auto",
        precision: Precision = "auto",
        batch_tokens: int | None = None,
        threads: int | None = None,
    ) -> Embedder:
        """The embedder of a model by path, name or Hub repository (see `albert_cli.registry.resolve.resolve`)."""
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

    def embed(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """The vectors of texts or pairs, (texts, dims), or (layers, texts, dims) for several layers."""
        if self.settings.pooling == "tokens":
            raise EmbeddingError("pooling tokens gives no vector per text; use tokenize and vectors")
        layers = self.vectors(self.tokenize(texts, pairs), progress)
        return layers[0] if len(layers) == 1 else np.stack(layers)

    def tokenize(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Tokens:
        """Texts or pairs as the encoder takes them."""
        settings, length = self.settings, self.settings.max_length
        windowed = settings.on_truncate == "window"
        if windowed and pairs is not None:
            raise EmbeddingError("--on-truncate window cuts single texts only; it does not go with pairs")
        if settings.pooling == "tokens":
            return self._explained(texts, pairs, windowed)
        if windowed:
            return self._windows(texts)
        batch = self.tokenizer.encode_batch(texts, pairs, max_length=length, threads=self._tokenizer_threads)
        special = self.tokenizer.template.added(pair=pairs is not None)
        return Tokens(batch, np.arange(len(texts) + 1), batch.truncated, batch.lengths == special)

    def vectors(self, tokens: Tokens, progress: Callable[[int], None] | None = None) -> list[NDArray[np.float32]]:
        """Per layer the vectors (texts, dims); of pooling "tokens" those of all tokens, (tokens, dims).

        `progress` receives the number of windows of each finished batch. Raises EmbeddingError where a number is
        not finite.
        """
        settings, windows = self.settings, tokens.windows
        by_token = settings.pooling == "tokens"
        rows = len(windows.ids) if by_token else len(windows)
        layers = settings.layers or ()
        made = [np.empty((rows, self.config.hidden_size), np.float32) for _ in layers]
        with on_threads(self.plan.threads):
            for batch in encode(self.encoder, windows, batch_tokens=self.plan.batch_tokens, layers=layers):
                for layer, states in zip(made, batch.layers, strict=True):
                    if by_token:
                        layer[windows.places(batch.rows)] = states.cpu().numpy()
                    else:
                        how: Any = settings.pooling
                        layer[batch.rows] = pool(states, batch.offsets, how, self._pooler).cpu().numpy()
                if progress:
                    progress(len(batch.rows))
        return [self._finished(layer, tokens, by_token) for layer in made]

    def _finished(self, vectors: NDArray[Any], tokens: Tokens, by_token: bool) -> NDArray[np.float32]:
        settings = self.settings
        if not by_token and len(vectors) > len(tokens.firsts) - 1:
            starts = tokens.firsts[:-1]
            if settings.pooling == "max":
                vectors = np.maximum.reduceat(vectors, starts)
            else:
                # Each window counts by its tokens: for "mean" that is the mean over all of them.
                lengths = tokens.windows.lengths.astype(np.float32)
                total = np.add.reduceat(vectors * lengths[:, None], starts)
                vectors = total / np.add.reduceat(lengths, starts)[:, None]
        vectors = vectors[:, : settings.dims]
        check_finite(
            vectors,
            EmbeddingError,
            lambda bad, rows: f"{self.plan.model.name}: {bad} of {rows} vectors",
            advice="the weights are damaged, or --precision fp32 is needed",
        )
        if settings.normalize:
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.where(length > 0, length, np.float32(1))
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
