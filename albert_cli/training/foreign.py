"""A model fine-tuned elsewhere: what it is for, by its head and its config."""

from __future__ import annotations

from pathlib import Path

from albert_cli.errors import RunError
from albert_cli.runs.files import RUN
from albert_cli.training import problems
from albert_cli.training.run_info import RunInfo
from converters import convert, roles
from converters.families import family_of
from converters.messages import brief

# What predict, evaluate and answer can make nothing of, by component.
_UNSUPPORTED = {
    "squad2": "is another network than the one that albert answer reads; albert finetune squad trains that",
}


def foreign_info(directory: Path) -> RunInfo:
    """The facts of a model with a head and (in a Hugging Face config) id2label and problem_type.

    RunError for a model without a head, for heads of other kinds, and for a config that contradicts its head.
    """
    checkpoint = convert.load(directory)
    parts = checkpoint.components
    length = min(checkpoint.tokenizer.max_length or 512, checkpoint.config.max_tokens)
    for problem in map(problems.named, problems.names()):
        if found := problem.foreign(checkpoint, parts, length):
            return found
    for part, why in _UNSUPPORTED.items():
        if part in parts:
            raise RunError(f"{checkpoint.where}: its {roles.HEADS[part]} {why}")
    if family_of(checkpoint.config).text_head not in parts:
        raise RunError(f"{directory}: no {RUN} and no fine-tuned head; make a run with albert finetune")
    said = checkpoint.config.extra.get("problem_type")
    raise RunError(
        f"{checkpoint.where}: problem_type {brief(said, 120)} in its config is none of transformers'; correct it there"
    )
