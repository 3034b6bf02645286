"""The weights that a pretraining run starts from: those of a model, or fresh ones that know the pieces' frequencies."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from albert_cli.model.loading import assign, to_checkpoint, untied
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining.corpus import Corpus
from albert_cli.pretraining.distillation import principal_axes
from albert_cli.pretraining.teacher import Teacher
from albert_cli.runs.events import Note, Report, silent
from albert_cli.tokenization.tokenizer import Tokenizer
from converters import roles, spec
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig
from converters.messages import listing

# The spread of trained word embeddings (Google's initial one is 0.02), and what is left of positions and types.
_WORD_SPREAD = 0.05
_COMMON_SHARE = 0.1


def initial_model(
    config: EncoderConfig,
    base: Checkpoint | None,
    corpus: Corpus,
    documents: NDArray[np.int64],
    seed: int,
    report: Report = silent,
) -> PreTrainingModel:
    """The model to start from; of a fresh one, the output bias is the log-frequency of each piece in the documents.

    A head that the base lacks, as those on the Hub lack that of sentence order, starts from random weights, and a Note
    says so. Raises SpecError where more is missing.
    """
    torch.manual_seed(seed)
    model = PreTrainingModel(config, untied=untied(base) if base else ())
    if base is not None:
        fresh, wanted = to_checkpoint(model, config, base.tokenizer).tensors, spec.spec(config)
        absent = [part for part in ("pooler", "mlm", "sop") if part not in spec.components(base.tensors, base.config)]
        if absent:
            named = listing([roles.HEADS.get(part, part) for part in absent])
            report(Note(f"{base.where} has no {named}: it starts from random weights"))
        missing = {name: item for name, item in fresh.items() if wanted[name].component in absent}
        assign(model, dataclasses.replace(base, tensors=missing | dict(base.tensors)))
        return model
    frequencies = piece_counts(corpus, documents, config.vocab_size)
    with torch.no_grad():
        shares = (frequencies + 1) / (frequencies.sum() + len(frequencies))
        assert model.mlm is not None
        model.mlm.bias.copy_(torch.from_numpy(np.log(shares) - np.log(shares).mean()))
    return model


def piece_counts(corpus: Corpus, documents: NDArray[np.int64], pieces: int) -> NDArray[np.float64]:
    """How often each piece occurs in the documents."""
    total = np.zeros(pieces)
    for document in documents.tolist():
        first, last = corpus.documents[document : document + 2]
        total += np.bincount(corpus.ids[corpus.sentences[first] : corpus.sentences[last]], minlength=pieces)
    return total


@torch.no_grad()
def initialize_from_teacher(
    model: PreTrainingModel, teacher: Teacher, tokenizer: Tokenizer, axes: Any, frequencies: Any
) -> None:
    """Write the teacher's vectors of single pieces into the word embeddings, so that a mean of them is a fair start.

    Their frequency-weighted mean is subtracted; the projection E -> H leads from their principal axes to the teacher's.
    Positions and types, which all sentences have in common, start small beside them.
    """
    pieces = [tokenizer.segmenter.piece(number).replace("▁", " ").strip() for number in range(len(tokenizer))]
    vectors = teacher.vectors(pieces) @ axes  # (V, H)
    shares = frequencies / max(1.0, float(frequencies.sum()))
    vectors -= (shares[:, None] * vectors).sum(0)
    size = model.config.embedding_size
    embedding_axes = principal_axes(vectors.astype(np.float32), size)  # (H, E)
    words = vectors @ embedding_axes  # (V, E)
    words *= _WORD_SPREAD / max(float(np.sqrt(np.mean(words**2))), 1e-12)
    embeddings = model.encoder.embeddings
    embeddings.words.weight[: len(words)] = torch.from_numpy(words.astype(np.float32))
    embeddings.positions.weight *= _COMMON_SHARE
    embeddings.types.weight *= _COMMON_SHARE
    assert model.encoder.projection is not None
    model.encoder.projection.weight.copy_(torch.from_numpy(embedding_axes))
