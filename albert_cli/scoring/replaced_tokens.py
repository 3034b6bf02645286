"""Which tokens of a text were replaced, by the discriminator of an ELECTRA (arXiv 2003.10555, section 2)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from albert_cli.errors import HeadError
from albert_cli.finite import check_finite
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.scoring.batches import OnTruncate, Tick, batches, check_texts, in_turns, inputs, memory
from albert_cli.scoring.load import without_head
from albert_cli.scoring.messages import Places, labeller
from albert_cli.tokenization.tokenizer import Tokenizer

# More than that, and the token is more likely replaced than not: where the head's output is above 0.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Replacements:
    """What the discriminator says of a text; lists and arrays have one entry per token, special ones left out.

    `offsets`: spans in the text. `probabilities` float32: of being no token of the original text (the sigmoid).
    `truncated`: tokens at the end that were left out.
    """

    text: str
    ids: list[int]
    pieces: list[str]
    offsets: list[tuple[int, int]]
    probabilities: NDArray[np.float32]
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def replaced(self) -> list[int]:
        """The places of the tokens that are taken for replaced."""
        return np.flatnonzero(self.probabilities > THRESHOLD).tolist()

    @property
    def mean(self) -> float | None:
        """The mean of the probabilities; None for an empty text."""
        return float(self.probabilities.mean(dtype=np.float64)) if len(self) else None


def find_replaced(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    on_truncate: OnTruncate = "warn",
    places: Sequence[str] | None = None,
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> list[Replacements]:
    """What the discriminator says of all texts at once; see `replaced_in`."""
    common: dict[str, Any] = {"on_truncate": on_truncate, "places": places, "batch_tokens": batch_tokens, "tick": tick}
    return list(replaced_in(model, tokenizer, texts, **common))


def replaced_in(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    texts: Collection[str],
    *,
    on_truncate: OnTruncate = "warn",
    places: Places = None,
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> Iterator[Replacements]:
    """How likely each token of each text is to have been replaced; nothing is masked, so a text is computed once.

    `places`: what messages call the texts. The answers come as they are made, some texts at a time; the texts are
    read twice. Raises HeadError for a model that is no discriminator, and as `check_texts` does, which cuts long texts,
    before the first one comes.
    """
    if model.rtd is None:
        raise without_head(model.config, "rtd")
    check_texts(model, tokenizer, texts, labeller(len(texts), places), on_truncate)
    advance = tick and (lambda done, _: tick(done, len(texts)))
    for some in in_turns(texts):
        yield from _found(model, tokenizer, some, batch_tokens, advance)


def _found(
    model: PreTrainingModel, tokenizer: Tokenizer, texts: Sequence[str], batch_tokens: int | None, tick: Tick | None
) -> Iterator[Replacements]:
    head = model.rtd
    assert head is not None
    tokens = tokenizer.encode_batch(texts, max_length=model.config.max_tokens)
    before, added = len(tokenizer.template.before), tokenizer.template.added(pair=False)
    found: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(texts)
    for batch in batches(tokens.lengths, model, batch_tokens):
        with torch.inference_mode(), memory():
            hidden = model.encoder(*inputs(tokens, batch, model)).sequence_output
            logits = head(hidden).float().cpu()  # (rows, width)
        for number, row in zip(batch, logits, strict=True):
            own = row[before : before + int(tokens.lengths[number]) - added]
            check_finite(own, HeadError, lambda bad, rows: "the model's scores")
            found[number] = own.sigmoid().numpy()
        if tick:
            tick(len(batch), len(texts))
    for text, probabilities, cut in zip(texts, found, tokens.truncated.tolist(), strict=True):
        encoding = tokenizer.encode(text, special_tokens=False, max_length=len(probabilities) or None)
        yield Replacements(text, encoding.ids, encoding.pieces, encoding.offsets, probabilities, cut)
