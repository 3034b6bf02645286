"""A model made a Sentence-Transformers directory: its encoder, and the files that say how a text becomes one vector.

The files are those of today's settings under the names of old: versions 3 to 5 of the library read them alike.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from converters import roles, spec
from converters.checkpoint import Checkpoint
from converters.config import Json, dump_json
from converters.errors import CheckpointError
from converters.messages import listing
from converters.names import slot_of
from converters.sentence_files import SentenceFiles
from converters.sentence_keys import DEFAULT_MAX_LENGTH, FLAGS, MODEL, MODULES, POOLING, POOLINGS, TRANSFORMER

_CLASSES = "sentence_transformers.models"  # where every version finds them
_NAMES = {ours: theirs for theirs, ours in POOLINGS.items()}


@dataclass(frozen=True)
class SentenceRecipe:
    """What is to be written beside the encoder. `pooling`: our name, several joined by +; by default mean, for the
    reason `why`. `max_length`: tokens of a text at most; by default what albert embed takes."""

    pooling: str | None = None
    normalize: bool | None = None
    max_length: int | None = None
    why: str = "as albert embed has it by default; --pooling names another"

    def applied(self, checkpoint: Checkpoint) -> Checkpoint:
        """The encoder and its pooler with the files, heads left out; a model that has such files keeps them.

        Raises CheckpointError for what they cannot say, and for a model without a tokenizer.
        """
        where, config = checkpoint.where, checkpoint.config
        if not checkpoint.tokenizer:
            raise CheckpointError(where, "has no tokenizer, which sentence-transformers asks for")
        notes, files = list(checkpoint.notes), checkpoint.sentence
        if files is None:
            longest = min(config.max_tokens, checkpoint.tokenizer.max_length or config.max_tokens)
            if self.max_length is not None and self.max_length > config.max_tokens:
                raise CheckpointError(f"--max-length {self.max_length}: {where} takes {config.max_tokens} tokens")
            length = self.max_length or min(DEFAULT_MAX_LENGTH, longest)
            files = _files(self.pooling or "mean", bool(self.normalize), length, config.hidden_size)
            notes += [] if self.pooling else [f"mean pooling, {self.why}"]
        elif (self.pooling, self.normalize, self.max_length) != (None, None, None):
            raise CheckpointError(
                where,
                "a Sentence-Transformers model already, whose files are kept as they are",
                "leave out --pooling, --normalize and --max-length",
            )
        return dataclasses.replace(_without_heads(checkpoint), sentence=files, notes=notes)


def _files(pooling: str, normalize: bool, max_length: int, size: int) -> SentenceFiles:
    modes = [_NAMES.get(mode) for mode in pooling.split("+")]
    if None in modes:
        raise CheckpointError(f"--pooling {pooling}: sentence-transformers has but {', '.join(_NAMES)}")
    flags = {flag: mode in modes for flag, mode in FLAGS.items()}
    settings: Json = {"word_embedding_dimension": size, **flags, "include_prompt": True}
    if [mode for mode in FLAGS.values() if mode in modes] != modes:  # the flags have an order of their own
        settings = {"embedding_dimension": size, "pooling_mode": modes, "include_prompt": True}
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"{_CLASSES}.{kind}"}
        for number, (path, kind) in enumerate(kinds)
    ]
    return SentenceFiles(
        {
            MODULES: (json.dumps(modules, indent=2) + "\n").encode(),
            MODEL: dump_json({"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}),
            TRANSFORMER: dump_json({"max_seq_length": max_length, "do_lower_case": False}),
            POOLING: dump_json(settings),
        }
    )


def _without_heads(checkpoint: Checkpoint) -> Checkpoint:
    """The encoder and its pooler; what is left out is counted."""
    wanted = spec.spec(checkpoint.config)
    kept = {name for name in checkpoint.tensors if wanted[name].component in (*roles.REQUIRED, "pooler")}
    heads: Sequence[str] = [roles.HEADS[part] for part in checkpoint.components if part in roles.HEADS]
    dropped = dict(checkpoint.dropped)
    if heads:
        dropped[f"tensors of heads: {listing(heads)}"] = len(checkpoint.tensors) - len(kept)
    return dataclasses.replace(
        checkpoint,
        tensors={name: tensor for name, tensor in checkpoint.tensors.items() if name in kept},
        optimizer={
            name: tensor for name, tensor in checkpoint.optimizer.items() if (slot_of(name) or (name, ""))[0] in kept
        },
        dropped=dropped,
        beside=(),
    )
