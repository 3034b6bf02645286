"""A model as the library mteb measures it: `mteb.evaluate(MtebModel.from_pretrained("runs/sts"), tasks)`."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from albert_cli.embedding.embedder import Embedder
from albert_cli.embedding.nearest import cosines, unit
from albert_cli.embedding.settings import Settings
from converters.libraries import require_library

# What mteb calls the two kinds of texts of a search (`passage` before version 2), and the model's prompts for them.
_PROMPTS: Mapping[str, str] = {"query": "query", "document": "document", "passage": "document"}


class MtebModel:
    """An Embedder with the methods of mteb's `EncoderProtocol` (version 2), which takes lists of texts as well.

    Queries and documents have the prompts so called of the model's Sentence-Transformers files, if these say any.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    @classmethod
    def from_pretrained(cls, name: str | None, settings: Settings | None = None, **how: Any) -> MtebModel:
        """Arguments and errors are those of `Embedder.from_pretrained`."""
        return cls(Embedder.from_pretrained(name, settings, **how))

    def encode(
        self, inputs: Iterable[Mapping[str, Any]] | Sequence[str], *, prompt_type: Any = None, **others: Any
    ) -> NDArray[np.float32]:
        """The vectors (texts, dims) of batches with a list under `text`, as mteb's loaders give them, or of texts.

        What else mteb tells, such as the task, is not needed.
        """
        texts = [text for item in inputs for text in ([item] if isinstance(item, str) else item["text"])]
        kind = getattr(prompt_type, "value", prompt_type)
        embedder = self.embedder.prompted(_PROMPTS[kind]) if kind in _PROMPTS else self.embedder
        return embedder.embed(texts)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> NDArray[Any]:
        """The cosines of all pairs, (vectors of the first, vectors of the second)."""
        return cosines(_rows(embeddings1), _rows(embeddings2))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> NDArray[Any]:
        """The cosine of each pair, (pairs)."""
        found: NDArray[Any] = (unit(_rows(embeddings1)) * unit(_rows(embeddings2))).sum(-1)
        return found

    @functools.cached_property
    def mteb_model_meta(self) -> Any:
        """Name and revision, by which mteb keeps results: the latter begins the SHA-256 of the weights."""
        require_library("mteb", "measuring by mteb")
        from mteb.models.model_meta import ModelMeta

        plan = self.embedder.plan
        name = f"albert_cli/{Path(plan.model.name).name}"
        return ModelMeta.create_empty({"name": name, "revision": plan.weights_sha256[:12]})


def _rows(vectors: Any) -> NDArray[np.float32]:
    """An array of numpy or torch; one vector alone becomes a row."""
    return np.atleast_2d(np.asarray(vectors, np.float32))
