"""What `albert score` shows of texts: tables for a terminal, one document for scripts, rows for a file, a picture."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from albert_cli.console import Prose, Table
from albert_cli.scoring.pseudo_likelihood import TextScore, perplexity
from albert_cli.scoring.replaced_tokens import Replacements
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.messages import escaped

Scored = TypeVar("Scored", TextScore, Replacements)
Blocks = Iterator[str | Table]

# How a terminal shows a token that is at least this likely, and one that was at least so likely replaced.
_EXPECTED = ((0.5, "green"), (0.01, ""), (0.0001, "yellow"), (0.0, "red"))
_REPLACED = ((0.5, "red"), (0.2, "yellow"), (0.0, ""))


class Report(ABC, Generic[Scored]):
    """The scores of some texts."""

    def __init__(self, found: Sequence[Scored]) -> None:
        self.found: Sequence[Scored] = found

    def rows(self, *, totals: bool) -> Iterator[dict[str, Any]]:
        """A row for each token, or with `totals` for each text."""
        if totals:
            yield from self._totals()
            return
        for row, one in enumerate(self.found):
            for number, data in enumerate(self._tokens(one)):
                yield {"row": row, "token": number} | data | {"text": one.text[data["start"] : data["end"]]}

    def document(self, *, totals: bool) -> list[dict[str, Any]]:
        return [
            data | ({} if totals else {"token_scores": list(self._tokens(one))})
            for one, data in zip(self.found, self._document(), strict=True)
        ]

    def blocks(self, *, totals: bool) -> Blocks:
        if totals:
            yield self._table_of_totals()
        else:
            for number, one in enumerate(self.found):
                yield ("\n" if number else "") + escaped(one.text) + "\n"
                if len(one):
                    yield self._table(one)
                yield Prose(self._summary([one]))
        if len(self.found) > 1:
            yield Prose(f"\n{len(self.found):,} texts: {self._summary(self.found)}")

    def _document(self) -> Iterator[dict[str, Any]]:
        return self._totals()

    @abstractmethod
    def draw(self, target: Path, *, force: bool) -> None:
        """Draw the tokens as bars."""

    @abstractmethod
    def _totals(self) -> Iterator[dict[str, Any]]: ...

    @abstractmethod
    def _tokens(self, one: Scored) -> Iterator[dict[str, Any]]: ...

    @abstractmethod
    def _table(self, one: Scored) -> Table: ...

    @abstractmethod
    def _table_of_totals(self) -> Table: ...

    @abstractmethod
    def _summary(self, found: Sequence[Scored]) -> str:
        """One line on some texts together."""


class LikelihoodReport(Report[TextScore]):
    """How expected each token is; `odd` of each text, the least likely, are marked; `mask`: what was masked."""

    def __init__(self, found: Sequence[TextScore], tokenizer: Tokenizer, odd: int, mask: str) -> None:
        super().__init__(found)
        self.tokenizer, self.odd, self.mask = tokenizer, odd, mask

    def draw(self, target: Path, *, force: bool) -> None:
        from albert_cli.scoring import bars

        bars.draw(self.found, target, odd=self.odd, force=force)

    def _document(self) -> Iterator[dict[str, Any]]:
        return (data | {"mask": self.mask} for data in self._totals())

    def _totals(self) -> Iterator[dict[str, Any]]:
        for row, one in enumerate(self.found):
            perplexity = one.pseudo_perplexity
            yield {
                "row": row,
                "text": one.text,
                "tokens": len(one),
                "log_likelihood": one.log_likelihood,
                "per_token": one.mean,
                # JSON has no infinity
                "pseudo_perplexity": perplexity if perplexity is None or math.isfinite(perplexity) else None,
            }

    def _tokens(self, one: TextScore) -> Iterator[dict[str, Any]]:
        marked = one.odd(self.odd)
        for place, (start, end) in enumerate(one.offsets):
            yield {
                "id": one.ids[place],
                "piece": one.pieces[place],
                "start": start,
                "end": end,
                "log_probability": float(one.log_probabilities[place]),
                "rank": int(one.ranks[place]),
                "choice_id": int(one.choices[place]),
                "choice": self.tokenizer.segmenter.piece(int(one.choices[place])),
                "choice_log_probability": float(one.choice_log_probabilities[place]),
                "odd": place in marked,
            }

    def _table(self, one: TextScore) -> Table:
        headers = ("", "log p", "rank", "piece", "text", "first choice", "log p")
        rows, styles = [], []
        for data in self._tokens(one):
            logs = [f"{data[name]:.2f}" for name in ("log_probability", "choice_log_probability")]
            text = escaped(one.text[data["start"] : data["end"]])
            mark = "odd" if data["odd"] else ""
            rows.append(
                (mark, logs[0], str(data["rank"]), escaped(data["piece"]), text, escaped(data["choice"]), logs[1])
            )
            styles.append(_style(math.exp(data["log_probability"]), _EXPECTED, bold=data["odd"]))
        return Table(rows, headers, (1, 2, 6), styles)

    def _table_of_totals(self) -> Table:
        headers = ("row", "tokens", "log-likelihood", "per token", "pseudo-perplexity", "text")
        rows = []
        for data in self._totals():
            figures = [data["log_likelihood"], data["per_token"], data["pseudo_perplexity"]]
            shown = ["" if figure is None else f"{figure:.2f}" for figure in figures]
            rows.append((str(data["row"] + 1), str(data["tokens"]), *shown, escaped(data["text"])))
        return Table(rows, headers, range(5))

    def _summary(self, found: Sequence[TextScore]) -> str:
        tokens, total = sum(map(len, found)), sum(one.log_likelihood for one in found)
        if not tokens:
            return "no tokens\n"
        mean = total / tokens
        return (
            f"log-likelihood {total:.2f} of {tokens:,} token{'s' * (tokens > 1)}, {mean:.2f} per token, "
            f"pseudo-perplexity {perplexity(mean):.2f}\n"
        )


class ReplacedReport(Report[Replacements]):
    """How likely each token was replaced; those that more likely were than not are marked."""

    def draw(self, target: Path, *, force: bool) -> None:
        from albert_cli.scoring import bars

        bars.draw_replaced(self.found, target, force=force)

    def _totals(self) -> Iterator[dict[str, Any]]:
        for row, one in enumerate(self.found):
            yield {
                "row": row,
                "text": one.text,
                "tokens": len(one),
                "replaced": len(one.replaced),
                "mean_probability": one.mean,
            }

    def _tokens(self, one: Replacements) -> Iterator[dict[str, Any]]:
        marked = set(one.replaced)
        for place, (start, end) in enumerate(one.offsets):
            yield {
                "id": one.ids[place],
                "piece": one.pieces[place],
                "start": start,
                "end": end,
                "probability": float(one.probabilities[place]),
                "replaced": place in marked,
            }

    def _table(self, one: Replacements) -> Table:
        rows, styles = [], []
        for data in self._tokens(one):
            mark = "replaced" if data["replaced"] else ""
            text = escaped(one.text[data["start"] : data["end"]])
            rows.append((mark, f"{data['probability']:.4f}", escaped(data["piece"]), text))
            styles.append(_style(data["probability"], _REPLACED, bold=data["replaced"]))
        return Table(rows, ("", "P(replaced)", "piece", "text"), (1,), styles)

    def _table_of_totals(self) -> Table:
        rows = []
        for data in self._totals():
            mean = data["mean_probability"]
            shown = "" if mean is None else f"{mean:.4f}"
            rows.append(
                (str(data["row"] + 1), str(data["tokens"]), str(data["replaced"]), shown, escaped(data["text"]))
            )
        return Table(rows, ("row", "tokens", "replaced", "mean P", "text"), range(4))

    def _summary(self, found: Sequence[Replacements]) -> str:
        tokens, replaced = sum(map(len, found)), sum(len(one.replaced) for one in found)
        if not tokens:
            return "no tokens\n"
        mean = sum(float(one.probabilities.sum(dtype="float64")) for one in found) / tokens
        return f"{replaced:,} of {tokens:,} token{'s' * (tokens > 1)} replaced, mean probability {mean:.4f}\n"


def _style(probability: float, styles: Sequence[tuple[float, str]], *, bold: bool) -> str:
    style = next(style for least, style in styles if probability >= least)
    return f"bold {style}".strip() if bold else style
