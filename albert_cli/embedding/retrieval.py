"""Retrieval: whether the cosines of vectors put the texts that belong to a query before all others of a file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albert_cli.embedding.ranks import Ranks, curve, figures, ranks_of
from albert_cli.embedding.units import Tick, unit_vectors
from albert_cli.errors import EmbeddingError, Notice
from albert_cli.tables.input_files import Kind
from albert_cli.tables.lines import Errors
from albert_cli.tasks.layouts.pairs import PairTables, relevant
from albert_cli.tasks.task import Sources

if TYPE_CHECKING:
    from albert_cli.embedding.embedder import Plan
    from albert_cli.tasks.examples import Examples

_FEWEST = 2
# The prompts of a model that searches: of what is searched for, and of what is found.
_QUERY, _DOCUMENT = "query", "document"


@dataclass(frozen=True)
class Collection:
    """Different queries and texts of a file; `relevant`: the numbers of the texts that belong to each query."""

    where: str
    queries: list[str]
    texts: list[str]
    relevant: list[list[int]]

    @classmethod
    def of(cls, pairs: Examples) -> Collection:
        """All texts that belong to a query, and all negatives, in one collection; EmbeddingError for one text alone."""
        texts = list(dict.fromkeys([*(pairs.pairs or ()), *(one for row in pairs.negatives or () for one in row)]))
        if len(texts) < _FEWEST:
            raise EmbeddingError(f"{pairs.where}: one text is found first by any model; a ranking needs two at least")
        places, belong = {text: place for place, text in enumerate(texts)}, relevant(pairs)
        return cls(pairs.where, list(belong), texts, [sorted(places[one] for one in own) for own in belong.values()])


@dataclass(frozen=True)
class Retrieval:
    """The figures of `albert_cli.embedding.ranks.figures`, and what they were computed of."""

    data: str
    model: str
    queries: int
    texts: int
    mrr: float
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    ndcg_at_10: float
    texts_truncated: int
    settings: dict[str, Any]
    settings_of_the_model: list[str]
    query_prompt: str


def read_collection(
    path: Path,
    *,
    query: str | None = None,
    positive: str | None = None,
    negatives: str | None = None,
    kind: Kind | None = None,
    delimiter: str | None = None,
    errors: Errors = "strict",
    skip_bad: bool = False,
) -> Collection:
    """The collection of a table (what albert embed reads), by the names of its columns.

    Raises DataError for rows that are no pairs, unless `skip_bad` leaves them out with a Notice.
    """
    named = Sources(
        text_column=query, text_pair_column=positive, label_column=negatives, delimiter=delimiter, skip_bad=skip_bad
    )
    pairs = PairTables().pairs(path, named, kind=kind, errors=errors)
    if note := pairs.left_out_note():
        warnings.warn(note, Notice, stacklevel=2)
    return Collection.of(pairs)


def measure(
    plan: Plan, collection: Collection, tick: Tick | None = None, *, own_prompts: bool = True
) -> tuple[Retrieval, Ranks]:
    """The figures of a model on a collection, and the ranks of each query's texts.

    With `own_prompts` queries and texts have the prompts `query` and `document` of the model's files, where these say
    any, in place of the plan's.
    """
    from albert_cli.embedding.embedder import Embedder

    embedder = Embedder(plan)
    queries, texts = (embedder.prompted(name) if own_prompts else embedder for name in (_QUERY, _DOCUMENT))
    count = len(collection.queries) + len(collection.texts)
    first, cut = unit_vectors(queries, collection.queries, tick, total=count)
    second, also_cut = unit_vectors(texts, collection.texts, tick, total=count)
    ranks = ranks_of(first, second, collection.relevant)
    found = Retrieval(
        data=collection.where,
        model=plan.model.name,
        queries=len(collection.queries),
        texts=len(collection.texts),
        **figures(ranks),
        texts_truncated=cut + also_cut,
        settings=texts.plan.facts(),
        settings_of_the_model=list(plan.from_model),
        query_prompt=queries.plan.prompt,
    )
    return found, ranks


def draw(found: Retrieval, ranks: Ranks, target: Path, *, force: bool) -> None:
    """Recall at k over k; the ending of `target` says PNG, SVG or PDF."""
    from matplotlib.figure import Figure

    from albert_cli import pictures

    pictures.check(target, EmbeddingError, force=force)
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    name = pictures.plain(Path(found.model).name)
    title = f"{name}: {found.queries:,} queries, {found.texts:,} texts\n"
    curve(figure, ranks, found.texts, f"{title}MRR {found.mrr:.4f}, nDCG@10 {found.ndcg_at_10:.4f}")
    pictures.save(figure, target, force=force)
