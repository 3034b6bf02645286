"""albert init: a fresh, randomly initialised model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from albert_cli import console, options
from converters.dialects import read_config
from converters.errors import ConfigError
from converters.families import heads_of, presets

if TYPE_CHECKING:
    from albert_cli.tokenization.tokenizer import Tokenizer
    from converters.tokenizers.files import TokenizerFiles

app = typer.Typer()


@app.command(rich_help_panel="Models")
def init(
    target: options.Target,
    preset: options.Preset = None,
    model_config: options.ModelConfig = None,
    tokenizer: Annotated[Path | None, options.TOKENIZER] = None,
    seed: options.Seed = 42,
    target_as: options.To = None,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Make a model with random weights, in any format.

    Weights as Google initialises them: truncated normal, zero biases, unit LayerNorm. It has the heads of pre-training:
    ALBERT's and BERT's for masked words and pairs, RoBERTa's for masked words, an ELECTRA discriminator's for replaced
    tokens, a generator's for masked words. With --tokenizer the vocabulary size of a preset follows the tokenizer's.

    Examples:

        albert init tiny/ --preset tiny

        albert init tf/ --preset base --tokenizer spiece.model --to tf

        albert init mine.npz --model-config albert_config.json --seed 1

        albert init small/ --preset bert-small --tokenizer vocab.txt
    """
    from converters import convert
    from converters.initialize import initialize
    from converters.tokenizers.vocabulary import misfits

    if (preset is None) == (model_config is None):
        raise typer.BadParameter("give either --preset or --model-config")
    inputs = [path for path in (model_config, tokenizer) if path is not None]
    writer = convert.check_place(target, target_as, force=force, inputs=inputs)
    files, made = _tokenizer(tokenizer)
    pieces = len(made) if made else 0
    settings = read_config(model_config) if model_config else presets()[str(preset)]
    heads = None if preset is None else heads_of(preset)
    if preset and pieces:
        settings = dataclasses.replace(settings, vocab_size=pieces)
    elif pieces and pieces != settings.vocab_size:
        raise ConfigError(f"{model_config}: vocab_size is {settings.vocab_size}, but {tokenizer} has {pieces} pieces")
    if faults := misfits(files, settings):
        raise ConfigError(f"{tokenizer}: {'; '.join(faults)}")
    checkpoint = initialize(settings, files, seed=seed, heads=heads)
    with console.progress_bytes() as progress:
        digests = convert.write_proved(checkpoint, target, writer, force=force, progress=progress).digests
    parameters = sum(tensor.size for tensor in checkpoint.tensors.values())
    if json:
        data = {"out": str(target), "format": writer.NAME, "parameters": parameters, "seed": seed}
        console.print_json(data | {"digests": digests})
    else:
        console.say(f"{target} ({writer.NAME}): {parameters:,} parameters, random, seed {seed}")
        if not files:
            console.say("tokenizer none; --tokenizer FILE adds one")


def _tokenizer(path: Path | None) -> tuple[TokenizerFiles, Tokenizer | None]:
    """The tokenizer and its files; none without a path."""
    from albert_cli.tokenization.loading import find_tokenizer_files
    from albert_cli.tokenization.tokenizer import Tokenizer
    from converters.tokenizers.files import TokenizerFiles

    if path is None:
        return TokenizerFiles(), None
    files = dataclasses.replace(find_tokenizer_files(path), origin=path.name)
    return files, Tokenizer.from_files(files)
