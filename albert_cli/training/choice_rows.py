"""Questions with choices as a model takes them: a row of tokens for each choice, all rows of a question together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.tasks.examples import Choosing
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.tokenization.truncation import Limit
from albert_cli.training.rows import TokenRows

# Google's max_qa_length: of a question with its choice so many tokens are kept, the last.
CHOICE_TOKENS = 128


@dataclass(frozen=True)
class ChoiceRows(TokenRows):
    """`tokens` has a row for each choice; those of question i are the rows `first[i]` to `first[i + 1]`."""

    first: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """The choices of each question."""
        counts: NDArray[np.int64] = np.diff(self.first)
        return counts

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens that are computed for each question: its longest choice, as often as it has choices."""
        if not len(self):
            return np.zeros(0, np.int64)
        longest: NDArray[np.int64] = np.maximum.reduceat(self.tokens.lengths, self.first[:-1])
        return longest * self.counts

    @property
    def cut(self) -> int:
        return int(np.count_nonzero(np.add.reduceat(self.tokens.truncated > 0, self.first[:-1]))) if len(self) else 0

    def inputs(self, rows: NDArray[np.int64], device: torch.device, length: int | None = None) -> dict[str, Tensor]:
        """Ids (rows, choices, width) and the like; where some have fewer choices than others, `choice_mask`.

        What is not a choice has the tokens of the question's last one.
        """
        counts = self.counts[rows]
        most = int(counts.max())
        places = self.first[:-1][rows][:, None] + np.minimum(np.arange(most), counts[:, None] - 1)
        flat = super().inputs(places.ravel(), device)
        found = {name: array.view(len(rows), most, -1) for name, array in flat.items()}
        if (counts < most).any():
            found["choice_mask"] = torch.from_numpy(np.arange(most) < counts[:, None]).to(device)
        return found


def rows_of(items: Sequence[Choosing], tokenizer: Tokenizer, max_length: int, targets: Tensor) -> ChoiceRows:
    """Each choice as a pair of the text and the question with it; the text is cut where the pair is too long.

    Google: race_utils.py, convert_single_example.
    """
    template = tokenizer.template
    room = Limit(max_length, "longest_first", pair=True, added=template.added(pair=True)).tokens
    assert room is not None
    most = CHOICE_TOKENS if room > CHOICE_TOKENS else room // 2
    texts = dict.fromkeys(item.text for item in items)
    first = dict(zip(texts, tokenizer.ids(list(texts)), strict=True))
    second = iter(tokenizer.ids([item.second(choice) for item in items for choice in item.choices]))
    ids, types, truncated = [], [], []
    for item in items:
        text = first[item.text]
        for _ in item.choices:
            pair = next(second)
            kept = pair[max(0, len(pair) - most) :]
            before = text[: room - len(kept)]
            framed, kinds = template.frame(before, kept)
            ids.append(framed)
            types.append(kinds)
            truncated.append(len(text) + len(pair) - len(before) - len(kept))
    tokens = TokenBatch.of_rows(ids, types, pad_id=tokenizer.pad_id)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(item.choices) for item in items], dtype=np.int64)])
    return ChoiceRows(replace(tokens, truncated=np.array(truncated, np.int32)), targets, starts)
