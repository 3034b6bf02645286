"""What `albert score` shows of texts: tables for a terminal, one document for scripts, rows for a file, a picture."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """The scores of some texts, which may be made as they are shown; then they are shown once."""

    def __init__(self, found: Iterable[Scored]) -> None:
        self.found: Iterable[Scored] = found

    def rows(self, *, totals: bool) -> Iterator[dict[str, Any]]:
        """A row for each token, or with `totals` for each text."""
        for row, one in enumerate(self.found):
            if totals:
                yield self._total(row, one)
                continue
            for number, data in enumerate(self._tokens(one)):
                yield {"row": row, "token": number} | data | {"text": one.text[data["start"] : data["end"]]}

    def document(self, *, totals: bool) -> Iterator[dict[str, Any]]:
        """The items of one list."""
        for row, one in enumerate(self.found):
            yield self._document(row, one) | ({} if totals else {"token_scores": list(self._tokens(one))})

    def blocks(self, *, totals: bool) -> Blocks:
        figures: defaultdict[str, float] = defaultdict(float)
        table: list[tuple[str, ...]] = []
        texts = 0
        for number, one in enumerate(self.found):
            texts += 1
            own = self._figures(one)
            for name, figure in own.items():
                figures[name] += figure
            if totals:
                table.append(self._row_of_totals(self._total(number, one)))
                continue
            yield ("\n" if number else "") + escaped(one.text) + "\n"
            if len(one):
                yield self._table(one)
            yield Prose(self._summary(own))
        if totals:
            yield self._table_of_totals(table)
        if texts > 1:
            yield Prose(f"\n{texts:,} texts: {self._summary(figures)}")

    def _document(self, row: int, one: Scored) -> dict[str, Any]:
        return self._total(row, one)

    @abstractmethod
    def draw(self, target: Path, *, force: bool) -> None:
        """Draw the tokens as bars."""

    @abstractmethod
    def _total(self, row: int, one: Scored) -> dict[str, Any]: ...

    @abstractmethod
    def _tokens(self, one: Scored) -> Iterator[dict[str, Any]]: ...

    @abstractmethod
    def _table(self, one: Scored) -> Table: ...

    @abstractmethod
    def _row_of_totals(self, data: dict[str, Any]) -> tuple[str, ...]: ...

    @abstractmethod
    def _table_of_totals(self, rows: list[tuple[str, ...]]) -> Table: ...

    @abstractmethod
    def _figures(self, one: Scored) -> dict[str, float]:
        """What is added up over texts."""

    @abstractmethod
    def _summary(self, figures: Mapping[str, float]) -> str:
        """One line on some texts together, by the sums of their figures."""


class LikelihoodReport(Report[TextScore]):
    """How expected each token is; `odd` of each text, the least likely, are marked; `mask`: what was masked."""

    def __init__(self, found: Iterable[TextScore], tokenizer: Tokenizer, odd: int, mask: str) -> None:
        super().__init__(found)
        self.tokenizer, self.odd, self.mask = tokenizer, odd, mask

    def draw(self, target: Path, *, force: bool) -> None:
        from albert_cli.scoring import bars

        bars.draw(list(self.found), target, odd=self.odd, force=force)

    def _document(self, row: int, one: TextScore) -> dict[str, Any]:
        return self._total(row, one) | {"mask": self.mask}

    def _total(self, row: int, one: TextScore) -> dict[str, Any]:
        perplexity = one.pseudo_perplexity
        return {
            "row": row,
            "text": one.text,
            "tokens": len(one),
            "truncated": one.truncated,
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

    def _row_of_totals(self, data: dict[str, Any]) -> tuple[str, ...]:
        figures = [data["log_likelihood"], data["per_token"], data["pseudo_perplexity"]]
        shown = ["" if figure is None else f"{figure:.2f}" for figure in figures]
        return (str(data["row"] + 1), str(data["tokens"]), *shown, escaped(data["text"]))

    def _table_of_totals(self, rows: list[tuple[str, ...]]) -> Table:
        return Table(rows, ("row", "tokens", "log-likelihood", "per token", "pseudo-perplexity", "text"), range(5))

    def _figures(self, one: TextScore) -> dict[str, float]:
        return {"tokens": len(one), "total": one.log_likelihood}

    def _summary(self, figures: Mapping[str, float]) -> str:
        tokens, total = int(figures["tokens"]), figures["total"]
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

        bars.draw_replaced(list(self.found), target, force=force)

    def _total(self, row: int, one: Replacements) -> dict[str, Any]:
        return {
            "row": row,
            "text": one.text,
            "tokens": len(one),
            "truncated": one.truncated,
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

    def _row_of_totals(self, data: dict[str, Any]) -> tuple[str, ...]:
        mean = data["mean_probability"]
        shown = "" if mean is None else f"{mean:.4f}"
        return (str(data["row"] + 1), str(data["tokens"]), str(data["replaced"]), shown, escaped(data["text"]))

    def _table_of_totals(self, rows: list[tuple[str, ...]]) -> Table:
        return Table(rows, ("row", "tokens", "replaced", "mean P", "text"), range(4))

    def _figures(self, one: Replacements) -> dict[str, float]:
        return {
            "tokens": len(one),
            "replaced": len(one.replaced),
            "probability": float(one.probabilities.sum(dtype="float64")),
        }

    def _summary(self, figures: Mapping[str, float]) -> str:
        tokens, replaced = int(figures["tokens"]), int(figures["replaced"])
        if not tokens:
            return "no tokens\n"
        mean = figures["probability"] / tokens
        return f"{replaced:,} of {tokens:,} token{'s' * (tokens > 1)} replaced, mean probability {mean:.4f}\n"


def _style(probability: float, styles: Sequence[tuple[float, str]], *, bold: bool) -> str:
    style = next(style for least, style in styles if probability >= least)
    return f"bold {style}".strip() if bold else style
