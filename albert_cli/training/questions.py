"""Extractive question answering: windows over long texts, answers from logits, exact match, F1.

The scores follow the official evaluation scripts of SQuAD v1.1 and v2.0, which agree where all questions have answers.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from albert_cli.errors import DataError
from albert_cli.tasks.examples import Question
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.encoding import Encoding
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.messages import brief

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# Google's settings: max_query_length, doc_stride, n_best_size, max_answer_length.
QUESTION_TOKENS, OVERLAP, CANDIDATES, ANSWER_TOKENS = 64, 128, 20, 30


@dataclass(frozen=True)
class Candidate:
    """One of the likeliest answers, `probability` among them; `text` is empty, with no span, for "no answer"."""

    text: str
    start: int
    end: int
    start_logit: float
    end_logit: float
    probability: float = 0.0


@dataclass(frozen=True)
class Answer:
    """`text` is `context[start:end]`; empty, with no span, where the model finds no answer. `score`: a sum of logits;
    `null_score`: that of "no answer". `candidates`: the likeliest answers, if they were asked for."""

    text: str
    start: int
    end: int
    score: float
    null_score: float
    candidates: tuple[Candidate, ...] = ()

    @property
    def odds(self) -> float:
        """By how much "no answer" scores more."""
        return self.null_score - self.score

    def given(self, threshold: float) -> Answer:
        """The answer, or none where the odds of that are above the threshold."""
        return replace(self, text="", start=-1, end=-1) if self.odds > threshold else self


@dataclass(frozen=True)
class Windows:
    """Questions as the model takes them: one row of `tokens` per window.

    `question` (rows) is the question each window belongs to; `offsets` per window: (tokens, 2) characters of the
    context, -1 at tokens that are not the context's; `central` per window: (tokens) whether no other window shows more
    text around the token; `spans` (rows, 2): first and last token of the answer, 0 and 0
    where the window does not hold it.
    """

    tokens: TokenBatch
    question: NDArray[np.int64]
    offsets: list[NDArray[np.int32]]
    central: list[NDArray[np.bool_]]
    spans: NDArray[np.int64]


def windows(questions: Sequence[Question], tokenizer: Tokenizer, max_length: int) -> Windows:
    """Cut each context into overlapping windows of at most `max_length` tokens, the question before each."""
    import numpy as np

    encodings: list[Encoding] = []
    owners, spans = [], []
    offsets: list[NDArray[np.int32]] = []
    central: list[NDArray[np.bool_]] = []
    pieces: tuple[str, Any] = ("", None)
    for number, item in enumerate(questions):
        if pieces[1] is None or pieces[0] != item.context:
            pieces = (item.context, tokenizer.segmenter.pieces(item.context))  # of all questions on one context
        asked = tokenizer.segmenter.pieces(item.question)[:QUESTION_TOKENS]
        room = max_length - tokenizer.template.added(pair=True)
        if len(asked) >= room:
            raise DataError(
                f"question {brief(item.id)} has {len(asked)} tokens, and --max-length {max_length} has room for "
                f"{max(0, room)} of question and text; train with a longer --max-length"
            )
        overlap = min(OVERLAP, (room - len(asked)) // 2)
        cut = tokenizer.assemble(asked, pieces[1], max_length=max_length, truncation="only_second", stride=overlap)
        first = len(offsets)
        for window in cut.windows():
            places = np.array(window.offsets, np.int32).reshape(-1, 2)
            places[[sequence != 1 for sequence in window.sequence_ids]] = -1
            encodings.append(window)
            owners.append(number)
            offsets.append(places)
            spans.append(_span(places, item.answers[0] if item.answers else None))
        central += _central(offsets[first:], overlap)
    tokens = TokenBatch.of_rows(
        [encoding.ids for encoding in encodings],
        [encoding.token_type_ids for encoding in encodings],
        pad_id=tokenizer.pad_id,
    )
    return Windows(tokens, np.array(owners, np.int64), offsets, central, np.array(spans, np.int64))


def answers(
    questions: Sequence[Question],
    cut: Windows,
    logits: Sequence[NDArray[np.float32]],
    *,
    no_answer: bool,
    threshold: float = 0.0,
    top: int = 0,
) -> list[Answer]:
    """The best span of each question over all its windows.

    As in Google's code, a token may begin the answer only in the window that shows the most text around it.
    `logits` per window: (tokens, 2), start and end. With `no_answer` the empty answer wins where its score, that of
    the first token, is higher by more than the `threshold` (SQuAD v2). `top`: how many candidates each answer has, and
    "no answer" after them where it may be given and is not among them.
    """
    best = best_spans(questions, cut, logits)
    if top:
        listed = _candidates(questions, cut, logits, no_answer=no_answer)
        best = [replace(item, candidates=_likeliest_of(found, top)) for item, found in zip(best, listed, strict=True)]
    return [item.given(threshold) for item in best] if no_answer else best


def best_spans(questions: Sequence[Question], cut: Windows, logits: Sequence[NDArray[np.float32]]) -> list[Answer]:
    """The best span of each question, whatever the score of "no answer"; arguments as `answers`."""
    import numpy as np

    best = [Answer("", -1, -1, -np.inf, np.inf) for _ in questions]
    for number, places, central, scores in zip(cut.question, cut.offsets, cut.central, logits, strict=True):
        found = best[number]
        null_score = min(found.null_score, float(scores[0].sum()))
        starts, ends, sums = _likeliest(places, central, scores)
        if sums.size:
            row, column = np.unravel_index(int(np.argmax(sums)), sums.shape)
            if sums[row, column] > found.score:
                start, end = int(places[starts[row], 0]), int(places[ends[column], 1])
                text = questions[number].context[start:end]
                found = Answer(text, start, end, float(sums[row, column]), null_score)
        best[number] = replace(found, null_score=null_score)
    return best


def _likeliest(
    places: NDArray[np.int32], central: NDArray[np.bool_], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """A window's likeliest first (m) and last (n) tokens, and the scores (m, n) of the spans, -inf of what is none."""
    import numpy as np

    context = places[:, 1] > places[:, 0]
    starts, ends = (
        allowed[np.argsort(-scores[allowed, side], kind="stable")[:CANDIDATES]]
        for side, allowed in enumerate((np.flatnonzero(context & central), np.flatnonzero(context)))
    )
    sums = scores[starts, 0][:, None] + scores[ends, 1][None, :]
    lengths = ends[None, :] - starts[:, None] + 1
    return starts, ends, np.where((lengths >= 1) & (lengths <= ANSWER_TOKENS), sums, -np.inf)


def _candidates(
    questions: Sequence[Question], cut: Windows, logits: Sequence[NDArray[np.float32]], *, no_answer: bool
) -> list[list[Candidate]]:
    """The n-best list of each question: distinct texts by score, "no answer" among them, and their softmax.

    Google: run_squad.py, write_predictions.
    """
    import numpy as np

    spans: list[list[tuple[float, Candidate]]] = [[] for _ in questions]
    nulls: list[tuple[float, Candidate] | None] = [None] * len(questions)
    for number, places, central, scores in zip(cut.question, cut.offsets, cut.central, logits, strict=True):
        null, before = float(scores[0].sum()), nulls[number]
        if before is None or null < before[0]:
            nulls[number] = null, Candidate("", -1, -1, float(scores[0, 0]), float(scores[0, 1]))
        starts, ends, sums = _likeliest(places, central, scores)
        for row, column in np.argwhere(sums > -np.inf):
            first, last = starts[row], ends[column]
            start, end = int(places[first, 0]), int(places[last, 1])
            text = questions[number].context[start:end]
            found = Candidate(text, start, end, float(scores[first, 0]), float(scores[last, 1]))
            spans[number].append((float(sums[row, column]), found))
    listed = []
    for ranked, nothing in zip(spans, nulls, strict=True):
        every = [*ranked, nothing] if no_answer and nothing is not None else ranked
        distinct: dict[str, tuple[float, Candidate]] = {}
        for score, item in sorted(every, key=lambda pair: -pair[0]):
            distinct.setdefault(item.text, (score, item))
        chosen = list(distinct.values())[:CANDIDATES]
        if no_answer and nothing is not None and not any(item is nothing[1] for _, item in chosen):
            chosen.append(nothing)
        shares = _softmax([score for score, _ in chosen])
        listed.append([replace(item, probability=share) for (_, item), share in zip(chosen, shares, strict=True)])
    return listed


def _likeliest_of(found: Sequence[Candidate], top: int) -> tuple[Candidate, ...]:
    """The first candidates, and "no answer" wherever it stands: Google's lists have it always."""
    return (*found[:top], *(item for item in found[top:] if not item.text and item.start < 0))


def _softmax(scores: Sequence[float]) -> list[float]:
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / math.fsum(weights) for weight in weights]


def scores(questions: Sequence[Question], texts: Sequence[str]) -> tuple[list[int], list[float]]:
    """Exact match and F1 of each answer, against the closest of the given ones (official SQuAD evaluation)."""
    exact, f1 = [], []
    for item, text in zip(questions, texts, strict=True):
        targets = [answer for answer, _ in item.answers if normal_form(answer)] or [""]
        exact.append(max(int(normal_form(answer) == normal_form(text)) for answer in targets))
        f1.append(max(_f1(normal_form(answer).split(), normal_form(text).split()) for answer in targets))
    return exact, f1


def normal_form(text: str) -> str:
    """Lower-cased, without punctuation, articles and superfluous white space, as the official scripts compare."""
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _f1(target: list[str], prediction: list[str]) -> float:
    """F1 of a prediction's words."""
    if not target or not prediction:
        return float(target == prediction)
    common = sum((Counter(target) & Counter(prediction)).values())
    if not common:
        return 0.0
    precision, recall = common / len(prediction), common / len(target)
    return 2 * precision * recall / (precision + recall)


def _central(windows: Sequence[NDArray[np.int32]], overlap: int) -> list[NDArray[np.bool_]]:
    """For the windows over one context: which of its tokens have their most context there, `offsets` for `offsets`.

    Google: squad_utils.py, _check_is_max_context. A token's context is the smaller number of tokens beside it in the
    window, and a hundredth of the window's length; the first window of the best ones counts.
    """
    import numpy as np

    inside = [np.flatnonzero(places[:, 1] >= 0) for places in windows]
    begins, at = [], 0
    for tokens in inside:
        begins.append(at)
        at += len(tokens) - overlap
    best: NDArray[np.float64] = np.full(at + overlap, -1.0)
    owner: NDArray[np.int64] = np.full(at + overlap, -1)
    for number, (begin, tokens) in enumerate(zip(begins, inside, strict=True)):
        left = np.arange(len(tokens))
        context = np.minimum(left, left[::-1]) + 0.01 * len(tokens)
        covered = slice(begin, begin + len(tokens))
        owner[covered] = np.where(context > best[covered], number, owner[covered])
        best[covered] = np.maximum(context, best[covered])
    found = []
    for number, (begin, tokens, places) in enumerate(zip(begins, inside, windows, strict=True)):
        mine = np.zeros(len(places), np.bool_)
        mine[tokens] = owner[begin : begin + len(tokens)] == number
        found.append(mine)
    return found


def _span(places: NDArray[np.int32], answer: tuple[str, int] | None) -> tuple[int, int]:
    """The first and last token of the answer in a window; (0, 0), that is `[CLS]`, unless all of it is there."""
    import numpy as np

    if answer is None or not answer[0]:
        return 0, 0
    start, end = answer[1], answer[1] + len(answer[0])
    covering = np.flatnonzero((places[:, 0] < end) & (places[:, 1] > start) & (places[:, 0] >= 0))
    whole = len(covering) and places[covering[0], 0] <= start and places[covering[-1], 1] >= end
    return (int(covering[0]), int(covering[-1])) if whole else (0, 0)
