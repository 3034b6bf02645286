"""Words for masks: the likeliest pieces of the vocabulary, or how likely given ones are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.errors import HeadError
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.scoring.batches import OnTruncate, Queries, Tick, logits_of, ranks_of, report_cut
from albert_cli.scoring.messages import labeller, raise_if_any
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.preparation import check_texts
from albert_cli.tokenization.segmenters import BYTE_SPACE, CONTINUED
from albert_cli.tokenization.spans import SPACE
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.messages import brief

# Punctuation that stands right behind a word: for WordPiece the same with a space and without.
_AFTER_A_WORD = frozenset(".,;:!?%)]}…")


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
    on_truncate: OnTruncate = "warn",
    places: Sequence[str] | None = None,
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> list[list[list[Candidate]]]:
    """For each text, for each `[MASK]` or `<mask>` in it, the `top` likeliest pieces, or all `targets`; the likeliest
    first.

    Both stand for the model's own mask, whatever that is called (`Tokenizer.masks`). Probabilities are over the whole
    vocabulary. A target is a word of one piece; for a mask that continues a word (`un[MASK]`) it is looked up as the
    rest of one, and for byte-level BPE without a space at the beginning of a text. `places`: what messages call the
    texts. Of a text longer than the model's positions the end is left out, with a Notice. Raises HeadError, listing all
    of them, for texts without a mask, or with one in what is left out, for longer ones with `on_truncate="error"`, and
    for targets of several pieces; TokenizerError for what is no text.
    """
    check_texts(texts)
    check_texts(targets)
    if not isinstance(top, int) or top < 1:
        raise HeadError(f"top is {brief(top)}, not a whole number of at least 1")
    tokens, spans = encode_masked(model, tokenizer, texts, places, on_truncate)
    counts = [len(found) for found in spans]
    queries = Queries(np.arange(len(texts)), np.flatnonzero(tokens.ids == tokenizer.mask_id), np.array(counts))
    starts = [(text, start) for text, found in zip(texts, spans, strict=True) for start, _ in found]
    continued = [_continues_word(text, start) or _without_space(tokenizer, start) for text, start in starts]
    wanted = _target_ids(tokenizer, targets, continued)
    runs = logits_of(model, tokens, queries, tokenizer.mask_id, batch_tokens, tick)
    answers = _answers(runs, continued, wanted, top, len(tokenizer))
    flat = iter(answers)
    return [
        [
            [
                Candidate(rank, item, tokenizer.segmenter.piece(item), share, filled_in(text, span, item, tokenizer))
                for rank, item, share in next(flat)
            ]
            for span in masks
        ]
        for text, masks in zip(texts, spans, strict=True)
    ]


def encode_masked(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    places: Sequence[str] | None,
    on_truncate: OnTruncate,
) -> tuple[TokenBatch, list[list[tuple[int, int]]]]:
    """The texts with their masks as ids, and where in each text these stand; HeadError as `fill_masks`."""
    where = labeller(len(texts), places)
    mask = tokenizer.segmenter.special_tokens["mask"]
    # As in fairseq's fill_mask, blanks at the end are no part of the text.
    limit = model.config.max_tokens
    encodings = [tokenizer.encode(text.rstrip(), special_in_text=(mask,), max_length=limit) for text in texts]
    rows, truncated = [one.ids for one in encodings], [one.truncated for one in encodings]
    spans = [tokenizer.mask_spans(text) for text in texts]
    raise_if_any(
        [f"{where(row)} has no {mask}" for row, found in enumerate(spans) if not found],
        f"write {mask} where a word is to be found",
    )
    lengths = [len(row) for row in rows]
    if on_truncate == "warn":
        left = [row.count(tokenizer.mask_id) for row in rows]
        raise_if_any(
            [
                f"{where(row)} has {lengths[row] + truncated[row]:,} tokens, and {mask} {left[row] + 1} of "
                f"{len(found)} stands beyond the {limit} that the model takes"
                for row, found in enumerate(spans)
                if left[row] < len(found)
            ],
            "shorten or split the text",
        )
    report_cut(lengths, truncated, model, where, on_truncate)
    return TokenBatch.of_rows(rows, pad_id=tokenizer.pad_id), spans


def _answers(
    runs: Iterable[tuple[NDArray[np.int64], Tensor]],
    continued: Sequence[bool],
    wanted: Mapping[bool, Sequence[int]],
    top: int,
    pieces: int,
) -> list[list[tuple[int, int, float]]]:
    """(rank, id, probability) of each mask's candidates: the `wanted` ones if there are any, else the `top` likeliest.

    `runs`: numbers of masks and their logits (n, V), of which the first `pieces` are those of pieces.
    """
    answers: list[list[tuple[int, int, float]]] = [[]] * len(continued)
    for numbers, logits in runs:
        probabilities, known = logits.softmax(-1).cpu(), logits[:, :pieces].cpu()
        if wanted:
            chosen = [_ranked(row, wanted[continued[number]]) for row, number in zip(known, numbers, strict=True)]
        else:
            chosen = [list(enumerate(ids, 1)) for ids in best(known, min(top, pieces))]
        for number, shares, found in zip(numbers, probabilities, chosen, strict=True):
            answers[number] = [(rank, item, float(shares[item])) for rank, item in found]
    return answers


def _target_ids(tokenizer: Tokenizer, targets: Sequence[str], continued: Sequence[bool]) -> dict[bool, list[int]]:
    """Ids of the targets where a word begins (False) and where one continues (True), as far as the masks need them."""
    spaced = tokenizer.segmenter.mark == BYTE_SPACE
    inside = " without a space before it" if spaced else " in the middle of a word"
    faults: list[str] = []
    found: dict[bool, list[int]] = {}
    for going_on in sorted(set(continued)) if targets else ():
        ids = []
        for target in targets:
            word = f" {target}" if spaced and not going_on else target
            pieces = tokenizer.segmenter.pieces(word, continued=going_on)
            if len(pieces) == 1 and pieces[0].kind != "unknown":
                ids.append(pieces[0].id)
            elif any(piece.kind == "unknown" for piece in pieces) or not pieces:
                faults.append(f"the vocabulary does not know {target!r}")
            else:
                shown = " ".join(piece.piece for piece in pieces)
                faults.append(f"{target!r} is {len(pieces)} pieces{inside if going_on else ''} ({shown})")
        found[going_on] = list(dict.fromkeys(ids))
    raise_if_any(list(dict.fromkeys(faults)), "a mask stands for one piece of the vocabulary")
    return found


def _continues_word(text: str, start: int) -> bool:
    """Whether what begins there continues a word."""
    return start > 0 and not text[start - 1].isspace()


def _without_space(tokenizer: Tokenizer, start: int) -> bool:
    """Whether a word that begins there has no space in its piece, though it continues no other."""
    return start == 0 and tokenizer.segmenter.mark == BYTE_SPACE


def filled_in(text: str, span: tuple[int, int], number: int, tokenizer: Tokenizer) -> str:
    """The text with a piece in place of a mask, separated by a space from what stands before it if it begins a word."""
    before, after = text[: span[0]], text[span[1] :]
    special, piece = tokenizer.segmenter.special_tokens, tokenizer.segmenter.piece(number)
    if piece in special.values():
        return before + piece + after
    if tokenizer.is_added(piece):
        return before + (" " if _continues_word(text, span[0]) else "") + piece + after
    if tokenizer.segmenter.mark == BYTE_SPACE:  # a space that it begins with takes the place of that in the text
        word = tokenizer.segmenter.decode([number])
        return before.rstrip() + (word if before.strip() else word.lstrip()) + after
    if tokenizer.segmenter.mark == CONTINUED:  # Chinese has no spaces
        if piece.startswith(CONTINUED) or piece in _AFTER_A_WORD:
            return before.rstrip() + piece.removeprefix(CONTINUED) + after
        return before + piece + after
    if not piece.startswith(SPACE):
        return before.rstrip() + piece + after
    return before + (" " if _continues_word(text, span[0]) else "") + piece.removeprefix(SPACE) + after


def best(logits: Tensor, count: int) -> list[list[int]]:
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
    ranks = ranks_of(logits.expand(len(ids), -1), torch.tensor(ids))
    return sorted(zip(ranks.tolist(), ids, strict=True))
