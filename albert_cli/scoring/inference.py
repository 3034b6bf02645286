"""What the pre-training heads say of texts: words for masks, the order of two segments, how expected each token is.

All is computed in fp32, in batches of texts of like length; a result depends neither on its neighbours nor on the size
of a batch, but for rounding. Of equal scores the lower id comes first.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.batching import evaluation_batches
from albert_cli.embedding.embedder import BATCH_TOKENS
from albert_cli.embedding.encoders import find_device
from albert_cli.embedding.settings import Device
from albert_cli.errors import HeadError
from albert_cli.finite import check_finite
from albert_cli.model.loading import load_model
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining.masking import Vocabulary
from albert_cli.registry import builtin
from albert_cli.registry.resolve import resolve
from albert_cli.scoring.texts import named, refuse
from albert_cli.tokenization.segmenters import SPACE
from albert_cli.tokenization.tokenizer import TokenBatch, Tokenizer
from albert_cli.training.inference import out_of_memory
from converters import spec

# Told how much is done now, and how much there is in all.
Tick = Callable[[int, int], None]

# Punctuation that stands right behind a word: for WordPiece the same with a space and without.
_AFTER_A_WORD = frozenset(".,;:!?%)]}…")
Masking = Literal["word-l2r", "piece"]
# Logits held at once: 64 MiB of them.
_LOGITS = 2**24
_ADVICE = {
    "mlm": "take a model that has it, such as Google's checkpoints or albert-base-v2",
    "sop": "models on the Hugging Face Hub leave it out; convert Google's checkpoint, which has it: "
    "albert convert albert_base_v2/ hf/, then --model hf/",
}


class Heads(NamedTuple):
    """A model with the head that is wanted, in eval mode, and its tokenizer."""

    model: PreTrainingModel
    tokenizer: Tokenizer
    name: str


def load(name: str | None, head: Literal["mlm", "sop"], *, device: Device = "auto") -> Heads:
    """The model of that name (see `albert_cli.registry.resolve.resolve`) on the device.

    Raises HeadError where it holds no such head: one of random weights would answer too, and mean nothing.
    """
    where = find_device(device)
    found = resolve(name)
    checkpoint = found.load()
    config = checkpoint.config
    if head not in spec.components(checkpoint.tensors, config):
        raise HeadError(f"{found.name}: holds no {spec.HEADS[head]}, and random weights say nothing; {_ADVICE[head]}")
    if found.name == builtin.NAME:
        builtin.warn_of_head(head)
    tokenizer = Tokenizer.of_model(checkpoint, found.name)
    return Heads(load_model(checkpoint).to(where), tokenizer, found.name)


# --- Masked words


class Candidate(NamedTuple):
    """A piece for a mask: its place among all, how likely it is, and the text filled in with it (other masks stay)."""

    rank: int
    id: int
    piece: str
    probability: float
    filled: str


def fill_masks(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    top: int = 5,
    targets: Sequence[str] = (),
    places: Sequence[str] | None = None,
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> list[list[list[Candidate]]]:
    """For each text, for each `[MASK]` in it, the `top` likeliest pieces, or all `targets`; the likeliest first.

    Where the tokenizer calls its mask otherwise, that is what stands for it. Probabilities are over the whole
    vocabulary. A target is a word of one piece; after a mask that goes on a word (`un[MASK]`) it is looked up as the
    rest of one. `places`: what messages call the texts. Raises HeadError, telling
    all of them, for texts without a mask or longer than the model's positions, and for targets of several pieces.
    """
    where = named(len(texts), places)
    mask_id = tokenizer.mask_id
    mask = tokenizer.segmenter.special_tokens["mask"]
    rows = [tokenizer.encode(text, special_in_text=(mask,)).ids for text in texts]
    spans = [[match.span() for match in re.finditer(re.escape(mask), text)] for text in texts]
    refuse(
        [f"{where(row)} has no {mask}" for row, found in enumerate(spans) if not found],
        f"write {mask} where a word is to be found",
    )
    _refuse_long([len(row) for row in rows], model, where)
    tokens = _batch(rows, tokenizer)
    counts = [len(found) for found in spans]
    queries = _Queries(np.arange(len(texts)), np.flatnonzero(tokens.ids == mask_id), np.array(counts))
    continued = [_goes_on(text, start) for text, found in zip(texts, spans, strict=True) for start, _ in found]
    wanted = _target_ids(tokenizer, targets, continued)
    pieces = len(tokenizer)
    answers: list[list[tuple[int, int, float]]] = [[]] * len(continued)  # (rank, id, probability) of each mask
    for numbers, logits in _logits(model, tokens, queries, mask_id, batch_tokens, tick):
        probabilities, known = logits.softmax(-1).cpu(), logits[:, :pieces].cpu()
        if targets:
            chosen = [_ranked(row, wanted[continued[number]]) for row, number in zip(known, numbers, strict=True)]
        else:
            chosen = [list(enumerate(ids, 1)) for ids in _best(known, min(top, pieces))]
        for number, shares, found in zip(numbers, probabilities, chosen, strict=True):
            answers[number] = [(rank, item, float(shares[item])) for rank, item in found]
    flat = iter(answers)
    return [
        [
            [
                Candidate(rank, item, piece, share, _filled(text, span, piece, tokenizer))
                for rank, item, share in next(flat)
                for piece in (tokenizer.segmenter.piece(item),)
            ]
            for span in masks
        ]
        for text, masks in zip(texts, spans, strict=True)
    ]


def _target_ids(tokenizer: Tokenizer, targets: Sequence[str], continued: Sequence[bool]) -> dict[bool, list[int]]:
    """The ids of the targets where a word begins (False) and where one goes on (True), as far as there are masks so."""
    faults: list[str] = []
    found: dict[bool, list[int]] = {}
    for going_on in sorted(set(continued)) if targets else ():
        ids = []
        for target in targets:
            pieces = tokenizer.segmenter.pieces(target, continued=going_on)
            if len(pieces) == 1 and pieces[0].kind != "unknown":
                ids.append(pieces[0].id)
            elif any(piece.kind == "unknown" for piece in pieces) or not pieces:
                faults.append(f"the vocabulary does not know {target!r}")
            else:
                within = " where a word goes on" if going_on else ""
                faults.append(f"{target!r} is {len(pieces)} pieces{within} ({' '.join(p.piece for p in pieces)})")
        found[going_on] = list(dict.fromkeys(ids))
    refuse(list(dict.fromkeys(faults)), "a mask stands for one piece of the vocabulary")
    return found


def _goes_on(text: str, start: int) -> bool:
    """Whether what begins there goes on a word."""
    return start > 0 and not text[start - 1].isspace()


def _filled(text: str, span: tuple[int, int], piece: str, tokenizer: Tokenizer) -> str:
    """The text with a piece in place of a mask, parted by a space from what stands before it if it begins a word."""
    before, after = text[: span[0]], text[span[1] :]
    special = tokenizer.segmenter.special_tokens
    if piece in special.values():
        return before + piece + after
    if tokenizer.is_added(piece):
        return before + (" " if _goes_on(text, span[0]) else "") + piece + after
    if tokenizer.segmenter.wordpiece:  # it marks what goes on a word, and Chinese has no spaces
        if piece.startswith("##") or piece in _AFTER_A_WORD:
            return before.rstrip() + piece.removeprefix("##") + after
        return before + piece + after
    if not piece.startswith(SPACE):
        return before.rstrip() + piece + after
    return before + (" " if _goes_on(text, span[0]) else "") + piece.removeprefix(SPACE) + after


# --- How expected each token is


@dataclass(frozen=True)
class TextScore:
    """The pseudo-log-likelihood of a text (Salazar et al. 2020, arXiv 1910.14659; within words by Kauf and Ivanova
    2023, arXiv 2305.10588); lists and arrays have one entry per token, special ones left out.

    `offsets`: spans in the text. `log_probabilities`: of the token itself when it is masked, natural logarithms.
    `ranks`: its place among all pieces, from 1. `choices` and `choice_log_probabilities`: what the model would put.
    """

    text: str
    ids: list[int]
    pieces: list[str]
    offsets: list[tuple[int, int]]
    log_probabilities: NDArray[np.float32]
    ranks: NDArray[np.int64]
    choices: NDArray[np.int64]
    choice_log_probabilities: NDArray[np.float32]

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
    places: Sequence[str] | None = None,
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> list[TextScore]:
    """Mask each token in turn and ask how likely it is: a text of n tokens costs n texts.

    `mask`: with a token the rest of its word is masked (`word-l2r`), which would give it away, or it alone (`piece`).
    Words are those of whole-word masking: a piece that begins with a letter or digit goes on the word before it.
    A text without tokens has a score without entries. Raises HeadError, telling all of them, for texts longer than the
    model's positions, and where there is no token at all.
    """
    where = named(len(texts), places)
    tokens = tokenizer.encode_batch(texts)
    counts = tokens.lengths - 2
    if not counts.any():
        raise HeadError(f"{where(0) if len(texts) == 1 else 'every text'} is empty; there is nothing to score")
    _refuse_long(tokens.lengths.tolist(), model, where)
    rows = np.repeat(np.arange(len(texts)), counts)
    plain = np.ones(len(tokens.ids), bool)
    plain[tokens.starts[:-1]] = plain[tokens.starts[1:] - 1] = False
    own_places = np.flatnonzero(plain)
    masked = np.ones(len(rows), np.int64)
    if mask == "word-l2r":
        begins = np.flatnonzero(Vocabulary.of(tokenizer).begins[tokens.ids])  # [SEP] is one, so every word has an end
        masked = begins[np.searchsorted(begins, own_places, side="right")] - own_places
    firsts = np.cumsum(masked) - masked
    queries = _Queries(rows, np.arange(masked.sum()) + np.repeat(own_places - firsts, masked), masked)
    token_of = np.full(len(queries.places), -1)  # of what is masked only for another's sake, none
    token_of[firsts] = np.arange(len(rows))
    own = torch.from_numpy(tokens.ids[plain].astype(np.int64))
    pieces = len(tokenizer)
    log_probabilities, best = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    ranks, choices = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for places_run, every in _logits(model, tokens, queries, tokenizer.mask_id, batch_tokens, tick):
        asked = token_of[places_run] >= 0
        numbers, logits = token_of[places_run[asked]], every[torch.from_numpy(asked).to(every.device)]
        known, ids = logits[:, :pieces], own[numbers].to(logits.device)
        choice = known.argmax(-1)  # the first of equals
        ranks[numbers], choices[numbers] = _ranks(known, ids).cpu(), choice.cpu()
        shares = logits.log_softmax(-1).gather(1, torch.stack([ids, choice], 1)).cpu().numpy()
        log_probabilities[numbers], best[numbers] = shares.T
    ends = np.cumsum(counts)
    found = []
    for row, (text, end) in enumerate(zip(texts, ends.tolist(), strict=True)):
        part = slice(end - int(counts[row]), end)
        encoding = tokenizer.encode(text, special_tokens=False)
        found.append(
            TextScore(
                text,
                encoding.ids,
                encoding.pieces,
                encoding.offsets,
                log_probabilities[part],
                ranks[part],
                choices[part],
                best[part],
            )
        )
    return found


# --- The order of segments


class Order(NamedTuple):
    """`in_order` float64 (pairs): how likely it is that the second text goes on the first. `n_tokens`, `truncated`
    (pairs): tokens read, and left out."""

    in_order: NDArray[np.float64]
    n_tokens: NDArray[np.int64]
    truncated: NDArray[np.int32]


def sentence_order(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    firsts: Sequence[str],
    seconds: Sequence[str],
    *,
    on_truncate: Literal["warn", "error"] = "warn",
    places: Sequence[str] | None = None,
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> Order:
    """Whether segments follow one another or were swapped: ALBERT's sentence-order prediction, its label 0.

    A pair that is longer than the model's positions loses tokens of its longer text, or with `on_truncate="error"` is
    refused. Raises HeadError, telling all of them, for pairs refused and for those with an empty text.
    """
    where = named(len(firsts), places, "pair")
    config, head = model.config, model.sop_classifier
    if head is None:
        raise HeadError(f"the model holds no {spec.HEADS['sop']}; {_ADVICE['sop']}")
    if config.type_vocab_size < 2:
        raise HeadError(f"the model knows {config.type_vocab_size} type of token, so it takes no pairs of texts")
    limit = config.max_position_embeddings
    tokens = tokenizer.encode_batch(firsts, seconds, max_length=limit)
    of_second = np.add.reduceat(tokens.token_type_ids, tokens.starts[:-1], dtype=np.int64) - 1
    of_first = tokens.lengths - of_second - 3
    empty = [
        (row, side)
        for row in range(len(firsts))
        for side, count in (("first", of_first), ("second", of_second))
        if not count[row]
    ]
    refuse([f"{where(row)}: the {side} segment is empty" for row, side in empty], "both must hold text")
    if on_truncate == "error":
        long = np.flatnonzero(tokens.truncated).tolist()
        refuse(
            [f"{where(row)} has {tokens.lengths[row] + tokens.truncated[row]:,} tokens" for row in long],
            f"the model takes at most {limit}; shorten the segments, or --on-truncate warn leaves the rest out",
        )
    logits = np.empty((len(firsts), 2), np.float64)
    for batch in _batches(tokens.lengths, model, batch_tokens):
        with torch.inference_mode(), _memory():
            encoded = model.albert(*_inputs(tokens, batch, model))
            logits[batch] = head(encoded.pooled_output).float().cpu()
        if tick:
            tick(len(batch), len(firsts))
    check_finite(logits, HeadError, lambda bad, rows: "the model's scores")
    in_order = np.exp(-np.logaddexp(0, logits[:, 1] - logits[:, 0]))  # softmax, without overflow
    return Order(in_order, tokens.lengths, tokens.truncated)


# --- Common to all


class _Queries(NamedTuple):
    """Texts to run, each with some tokens masked: `rows` (runs) of the texts, `places` of the masked tokens in the flat
    ids, run after run, and `counts` (runs) of them."""

    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    counts: NDArray[np.int64]


def _logits(
    model: PreTrainingModel,
    tokens: TokenBatch,
    queries: _Queries,
    mask_id: int,
    batch_tokens: int | None,
    tick: Tick | None,
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Numbers of masked tokens (n) and their logits (n, V), some at a time; only these tokens are projected."""
    head, device = model.predictions, model.albert.embeddings.word_embeddings.weight.device
    if head is None:
        raise HeadError(f"the model holds no {spec.HEADS['mlm']}; {_ADVICE['mlm']}")
    words = model.albert.embeddings.word_embeddings.weight
    ends = np.cumsum(queries.counts)
    at_once = max(1, _LOGITS // len(words))
    for batch in _batches(tokens.lengths[queries.rows], model, batch_tokens):
        rows, counts = queries.rows[batch], queries.counts[batch]
        numbers = np.concatenate([np.arange(ends[run] - queries.counts[run], ends[run]) for run in batch])
        row = torch.from_numpy(np.repeat(np.arange(len(batch)), counts)).to(device)
        column = torch.from_numpy(queries.places[numbers] - np.repeat(tokens.starts[rows], counts)).to(device)
        with torch.inference_mode(), _memory():
            input_ids, attention_mask, token_type_ids = _inputs(tokens, rows, model)
            input_ids[row, column] = mask_id
            hidden = model.albert(input_ids, attention_mask, token_type_ids).sequence_output[row, column]  # (n, H)
        for low in range(0, len(hidden), at_once):
            with torch.inference_mode(), _memory():
                logits: Tensor = head(hidden[None, low : low + at_once], words)[0].float()
            check_finite(logits, HeadError, lambda bad, rows: "the model's scores")
            yield numbers[low : low + at_once], logits
        if tick:
            tick(len(batch), len(queries.rows))


def _batches(lengths: NDArray[np.int64], model: PreTrainingModel, batch_tokens: int | None) -> list[NDArray[np.int64]]:
    device = model.albert.embeddings.word_embeddings.weight.device.type
    return evaluation_batches(lengths, len(lengths), tokens=batch_tokens or BATCH_TOKENS.get(device, 1024))


def _inputs(
    tokens: TokenBatch, rows: NDArray[np.int64], model: PreTrainingModel
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Ids, mask and token types (rows, width) on the model's device; no mask where nothing is padded."""
    device = model.albert.embeddings.word_embeddings.weight.device
    padded = {name: torch.from_numpy(array).to(device) for name, array in tokens.padded(rows).items()}
    mask = padded["attention_mask"]
    return padded["input_ids"], None if bool(mask.all()) else mask, padded["token_type_ids"]


def _best(logits: Tensor, count: int) -> list[list[int]]:
    """The ids of the `count` largest of each row (n, V), the largest first, of equals the lower id."""
    least = logits.topk(count).values[:, -1:]
    rows, ids = (logits >= least).nonzero(as_tuple=True)
    order = np.lexsort((ids.numpy(), -logits[rows, ids].numpy(), rows.numpy()))
    found: list[list[int]] = [[] for _ in range(len(logits))]
    for row, number in zip(rows[order].tolist(), ids[order].tolist(), strict=True):
        if len(found[row]) < count:
            found[row].append(number)
    return found


def _ranked(logits: Tensor, ids: Sequence[int]) -> list[tuple[int, int]]:
    """(rank, id) of some ids by the logits (V), the best first."""
    ranks = _ranks(logits.expand(len(ids), -1), torch.tensor(ids))
    return sorted(zip(ranks.tolist(), ids, strict=True))


def _ranks(logits: Tensor, ids: Tensor) -> Tensor:
    """The place of id `ids[i]` in row i of the logits (n, V), from 1; of equals the lower id comes first."""
    own = logits.gather(1, ids[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < ids[:, None]
    return 1 + ((logits > own) | ((logits == own) & earlier)).sum(-1)


def _batch(rows: Sequence[Sequence[int]], tokenizer: Tokenizer) -> TokenBatch:
    ids = np.array([number for row in rows for number in row], np.int32)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(row) for row in rows], dtype=np.int64)])
    return TokenBatch(ids, np.zeros(len(ids), np.uint8), starts, np.zeros(len(rows), np.int32), tokenizer.pad_id)


def _refuse_long(lengths: Sequence[int], model: PreTrainingModel, where: Callable[[int], str]) -> None:
    limit = model.config.max_position_embeddings
    refuse(
        [f"{where(row)} has {length:,} tokens" for row, length in enumerate(lengths) if length > limit],
        f"the model takes at most {limit}, [CLS] and [SEP] counted; shorten or split the text",
    )


def _memory() -> contextlib.AbstractContextManager[None]:
    message = "out of memory; lower --batch-tokens, or compute on --device cpu"
    memory: contextlib.AbstractContextManager[None] = out_of_memory(lambda: message, HeadError)
    return memory
