"""One model as a server has it: what it gives for texts, in items that a worker may compute with those of others."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from albert_cli import batching
from albert_cli.embedding.embedder import Embedder, Plan, Tokens
from albert_cli.errors import EmbeddingError, TokenizerError
from albert_cli.machine import DeviceName, Machine, on_threads
from albert_cli.memory import out_of_memory
from albert_cli.serving.bodies import no_such
from albert_cli.serving.errors import RequestError
from albert_cli.tokenization.batch import TokenBatch
from converters.errors import AlbertError

T = TypeVar("T")
# The code of OpenAI's API for it.
TOO_LONG = "context_length_exceeded"
# Characters of the candidates of one request at most, and those that a candidate takes beside its text.
_MOST_CHARACTERS, _CANDIDATE = 2**25, 256


class Row(NamedTuple):
    """A text for the encoder: the token ids of its windows, and how many tokens of the first are not pooled."""

    windows: list[NDArray[np.int32]]
    skip: int


@dataclass(frozen=True)
class Asked:
    """Items for a worker with what each costs, in tokens, and how many tokens of all were left out."""

    items: Sequence[Any]
    costs: list[int]
    truncated: int = 0


@dataclass(frozen=True)
class Filling:
    """What `POST /fill-mask` asks of texts, beside the texts."""

    served: Served
    top: int
    targets: tuple[str, ...]

    def __call__(self, items: Sequence[tuple[int, str]], /) -> Sequence[Any]:
        """For each text, with its number in its request, the candidates of each mask, as JSON."""
        from albert_cli.scoring.fill_mask import fill_masks

        served = self.served
        with served.machine.at_work():
            heads = served.filler()
            found = fill_masks(
                heads.model,
                heads.tokenizer,
                [text for _, text in items],
                top=self.top,
                targets=self.targets,
                on_truncate="error" if served.embedder.settings.on_truncate == "error" else "warn",
                places=[f"input[{row}]" for row, _ in items],
                batch_tokens=served.batch_tokens,
            )
        return [[[candidate._asdict() for candidate in mask] for mask in masks] for masks in found]


class _Once(Generic[T]):
    """What is made when it is first asked for; an error of that is kept, too."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Callable[[], T] = functools.cache(make)
        self._error: AlbertError | None = None

    def __call__(self) -> T:
        if self._error is not None:
            raise self._error
        try:
            return self._make()
        except AlbertError as error:
            self._error = error
            raise


class Served:
    """The model that a plan names, ready to embed; its heads are loaded by the first request that needs them.

    `asked_for` is the model as it was typed, None for the built-in one; `name` what clients call it. Not safe for
    threads, but for one that calls `texts`, `ids` and `costs` while another one computes.
    """

    def __init__(
        self, plan: Plan, asked_for: str | None, name: str, *, device: DeviceName, batch_tokens: int | None
    ) -> None:
        self.embedder, self.name, self.batch_tokens = Embedder(plan), name, batch_tokens
        precision = plan.precision if plan.precision in ("fp32", "bf16") else "auto"  # int8 is of vectors alone
        self.machine = Machine(device, plan.threads, precision)
        self.filler = _Once(lambda: self._filler(asked_for, device))
        self.classifier = _Once(self._classifier)

    @property
    def budget(self) -> int:
        """The tokens of a batch that keep every thread busy once."""
        with on_threads(self.embedder.plan.threads):
            return self.embedder.plan.batch_tokens * self.embedder.encoder.chunks_at_once

    @property
    def dims(self) -> int:
        """Numbers of a vector."""
        return int(self.embedder.settings.dims or 0)

    @property
    def renormalizes(self) -> bool:
        """Whether vectors that are cut are scaled to length 1 again: as with --dims, unless the model's own files
        normalize them, which they do before the cut."""
        plan = self.embedder.plan
        return plan.settings.normalize is True and "normalize" not in plan.from_model

    # --- Vectors

    def texts(self, texts: Sequence[str]) -> Asked:
        """Texts to embed; RequestError where one is too long and is to be refused."""
        return self._asked(self.embedder.tokenize(texts))

    def ids(self, rows: Sequence[list[int]]) -> Asked:
        """Token ids to embed; RequestError also where there is a prompt, which has to stand before a text."""
        if self.embedder.plan.prompt:
            raise RequestError(
                "token ids are not taken where a prompt stands before every text; send texts", param="input"
            )
        try:
            return self._asked(self.embedder.frame(rows))
        except TokenizerError as error:
            raise RequestError(str(error), param="input") from None

    def _asked(self, tokens: Tokens) -> Asked:
        cut = np.flatnonzero(tokens.truncated).tolist()
        if cut and self.embedder.settings.on_truncate == "error":
            longest = self.embedder.settings.max_length
            raise RequestError(
                no_such(cut, f"longer than the {longest} tokens that a text may have, special ones counted"),
                param="input",
                code=TOO_LONG,
            )
        firsts, skip = tokens.firsts.tolist(), tokens.skip
        rows = [
            Row([tokens.windows[window] for window in range(first, last)], 0 if skip is None else int(skip[first]))
            for first, last in itertools.pairwise(firsts)
        ]
        return Asked(rows, tokens.n_tokens.tolist(), int(tokens.truncated.sum()))

    def vectors(self, rows: Sequence[Row], /) -> Sequence[Any]:
        """The vector (dims) of each row."""
        windows = [window for row in rows for window in row.windows]
        counts = [len(row.windows) for row in rows]
        firsts = batching.starts(counts)
        skip = None
        if any(row.skip for row in rows):
            skip = np.zeros(len(windows), np.int64)
            skip[firsts[:-1]] = [row.skip for row in rows]
        tokens = Tokens(
            TokenBatch.of_rows(windows, pad_id=self.embedder.tokenizer.pad_id),
            firsts,
            np.zeros(len(rows), np.int32),
            np.zeros(len(rows), np.bool_),
            skip=skip,
        )
        with out_of_memory(lambda: "out of memory; start the server with a lower --batch-tokens", EmbeddingError):
            return list(self.embedder.vectors(tokens)[0])

    # --- Heads

    def check_room_for_candidates(self, texts: Sequence[str], candidates: int) -> None:
        """RequestError where the candidates of all masks, each of which holds its whole text, are too much to hold."""
        masks = (len(self.embedder.tokenizer.mask_spans(text)) for text in texts)
        size = sum(count * candidates * (len(text) + _CANDIDATE) for count, text in zip(masks, texts, strict=True))
        if size > _MOST_CHARACTERS:
            raise RequestError(
                f"{candidates:,} candidates for each mask, each with its text filled in, are {size:,} characters, more "
                f"than the {_MOST_CHARACTERS:,} of one request; ask for fewer, or send fewer or shorter texts",
                param="input",
            )

    def costs(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text."""
        lengths: list[int] = self.embedder.tokenizer.encode_batch(texts, max_length=self.longest).lengths.tolist()
        return lengths

    @property
    def longest(self) -> int:
        """The tokens of a text that the encoder takes."""
        return self.embedder.config.max_tokens

    def classes(self, items: Sequence[tuple[str, ...]], /) -> Sequence[Any]:
        """What the model's head says of each text or pair, as `albert predict --json` does."""
        from albert_cli.training import prediction

        with self.machine.at_work():
            loaded = self.classifier()
            return [prediction.one(loaded, "predict", *texts) for texts in items]

    def _filler(self, asked_for: str | None, device: DeviceName) -> Any:
        from albert_cli.scoring import load

        with self._errors_name_it():
            return load.load(asked_for, "mlm", device=device)

    def _classifier(self) -> Any:
        from albert_cli.training.run_directory import load_run

        plan = self.embedder.plan
        with self._errors_name_it():
            return load_run(plan.model.path, device=plan.device, batch_tokens=self.batch_tokens)

    @contextlib.contextmanager
    def _errors_name_it(self) -> Iterator[None]:
        """Errors of the model call it as clients do, who need not know where it lies."""
        model = self.embedder.plan.model
        try:
            yield
        except AlbertError as error:
            place, _, what = str(error).partition(": ")
            raise RequestError(
                f"{self.name}: {what}" if place in (str(model.path), model.name) else str(error)
            ) from None
