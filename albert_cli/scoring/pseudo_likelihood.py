"""How expected each token of a text is where it is masked, and with them the text."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from albert_cli.batching import ranges
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining.masking import Vocabulary
from albert_cli.scoring.batches import OnTruncate, Queries, Tick, check_texts, in_turns, logits_of, ranks_of
from albert_cli.scoring.messages import Places, labeller
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer

Masking = Literal["word-l2r", "piece"]


@dataclass(frozen=True)
class TextScore:
    """The pseudo-log-likelihood of a text (Salazar et al. 2020, arXiv 1910.14659; within words by Kauf and Ivanova
    2023, arXiv 2305.10588); lists and arrays have one entry per token, special ones left out.

    `offsets`: spans in the text. `log_probabilities`: of the token itself when it is masked, natural logarithms.
    `ranks`: its place among all pieces, from 1. `choices` and `choice_log_probabilities`: what the model would put.
    `truncated`: tokens at the end that were left out.
    """

    text: str
    ids: list[int]
    pieces: list[str]
    offsets: list[tuple[int, int]]
    log_probabilities: NDArray[np.float32]
    ranks: NDArray[np.int64]
    choices: NDArray[np.int64]
    choice_log_probabilities: NDArray[np.float32]
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def log_likelihood(self) -> float:
        """The sum of the log-probabilities."""
        return float(self.log_probabilities.sum(dtype=np.float64))

    @property
    def mean(self) -> float | None:
        """Per token; None for an empty text."""
        return self.log_likelihood / len(self) if len(self) else None

    @property
    def pseudo_perplexity(self) -> float | None:
        """exp(-mean); None for an empty text."""
        return perplexity(self.mean)

    def odd(self, count: int = 1) -> set[int]:
        """The places of the `count` least likely tokens; one that the model would choose itself is none of them."""
        order = np.argsort(self.log_probabilities, kind="stable").tolist()
        return set([place for place in order if self.ranks[place] > 1][:count])


def perplexity(mean: float | None) -> float | None:
    """exp(-mean), infinity where that is beyond a float."""
    if mean is None:
        return None
    return math.exp(-mean) if mean > -700 else math.inf


def score_texts(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    mask: Masking = "word-l2r",
    on_truncate: OnTruncate = "warn",
    places: Sequence[str] | None = None,
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> list[TextScore]:
    """The scores of all texts at once; see `scores_of`."""
    common: dict[str, Any] = {"on_truncate": on_truncate, "places": places, "batch_tokens": batch_tokens, "tick": tick}
    return list(scores_of(model, tokenizer, texts, mask=mask, **common))


def scores_of(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    texts: Collection[str],
    *,
    mask: Masking = "word-l2r",
    on_truncate: OnTruncate = "warn",
    places: Places = None,
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> Iterator[TextScore]:
    """Mask each token in turn and ask how likely it is: a text of n tokens costs n texts.

    `mask`: with a token the rest of its word is masked (`word-l2r`), which would give it away, or it alone (`piece`).
    Words are those of whole-word masking: a piece that begins with a letter or digit continues the word before it.
    The scores come as they are made, some texts at a time; the texts are read twice. A text without tokens has a score
    without entries. Raises HeadError, and cuts a text that is too long, as `check_texts` does, before the first one
    comes.
    """
    total = check_texts(model, tokenizer, texts, labeller(len(texts), places), on_truncate)
    advance = tick and (lambda done, _: tick(done, total))
    for some in in_turns(texts):
        yield from _scored(model, tokenizer, some, mask, batch_tokens, advance)


def _scored(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    mask: Masking,
    batch_tokens: int | None,
    tick: Tick | None,
) -> Iterator[TextScore]:
    tokens = tokenizer.encode_batch(texts, max_length=model.config.max_tokens)
    counts = tokens.lengths - tokenizer.template.added(pair=False)
    queries, token_of, ids = _queries(tokens, counts, mask, tokenizer)
    own = torch.from_numpy(ids.astype(np.int64))
    pieces = len(tokenizer)
    log_probabilities, best = np.empty(len(own), np.float32), np.empty(len(own), np.float32)
    ranks, choices = np.empty(len(own), np.int64), np.empty(len(own), np.int64)
    for places_run, every in logits_of(model, tokens, queries, tokenizer.mask_id, batch_tokens, tick):
        asked = token_of[places_run] >= 0
        numbers, logits = token_of[places_run[asked]], every[torch.from_numpy(asked).to(every.device)]
        known, asked_ids = logits[:, :pieces], own[numbers].to(logits.device)
        choice = known.argmax(-1)  # the first of equals
        ranks[numbers], choices[numbers] = ranks_of(known, asked_ids).cpu(), choice.cpu()
        shares = logits.log_softmax(-1).gather(1, torch.stack([asked_ids, choice], 1)).cpu().numpy()
        log_probabilities[numbers], best[numbers] = shares.T
    ends = np.cumsum(counts)
    for row, (text, end) in enumerate(zip(texts, ends.tolist(), strict=True)):
        part = slice(end - int(counts[row]), end)
        encoding = tokenizer.encode(text, special_tokens=False, max_length=int(counts[row]) or None)
        yield TextScore(
            text,
            encoding.ids,
            encoding.pieces,
            encoding.offsets,
            log_probabilities[part],
            ranks[part],
            choices[part],
            best[part],
            int(tokens.truncated[row]),
        )


def _queries(
    tokens: TokenBatch, counts: NDArray[np.int64], mask: Masking, tokenizer: Tokenizer
) -> tuple[Queries, NDArray[np.int64], NDArray[np.int32]]:
    """A run for each token that is none of the special ones; for each place masked in them the token that is asked for
    there, -1 for one that is masked for another's sake; and the ids of the tokens."""
    rows = np.repeat(np.arange(len(counts)), counts)
    own_places = ranges(tokens.starts[:-1] + len(tokenizer.template.before), counts)
    masked = np.ones(len(rows), np.int64)
    if mask == "word-l2r":
        begins = np.flatnonzero(Vocabulary.of(tokenizer).begins[tokens.ids])  # [SEP] is one, so every word has an end
        masked = begins[np.searchsorted(begins, own_places, side="right")] - own_places
    firsts = np.cumsum(masked) - masked
    queries = Queries(rows, ranges(own_places, masked), masked)
    token_of = np.full(len(queries.places), -1)
    token_of[firsts] = np.arange(len(rows))
    return queries, token_of, tokens.ids[own_places]
