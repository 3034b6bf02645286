"""Texts that a quantized model is tried on: plain English of many lengths, the same every time."""

from __future__ import annotations

import torch
from torch import Tensor

from albert_cli.errors import TokenizerError
from albert_cli.onnx.checking import shaped
from albert_cli.onnx.heads import Exportable

_MOST_TOKENS = 128
# A model of pairs reads pairs, others every text by itself. Their number is a multiple of checking.CHOICES.
_PAIRS = (
    ("How do I reset my password?", "Open the settings, choose Account, and press Reset; a link is sent by e-mail."),
    ("Great film!", "I have seen it twice, and would gladly see it a third time."),
    (
        "When did people first walk on the Moon?",
        "In July 1969 two astronauts walked on the Moon while a third stayed in orbit; half a billion people watched.",
    ),
    ("Prices rose by 2.4 % last year.", "The bank raised its rates, as everybody had expected."),
    (
        "What lowers blood pressure?",
        "In a trial of eight weeks those who walked for half an hour a day had a lower pressure, most so over sixty.",
    ),
    ("She put the letter in the drawer.", "She never spoke of it again, though she thought of it often."),
    ("def add(a, b): return a + b", "The function returns the sum of its two arguments."),
    (
        "Which river flows through Vienna?",
        "The Danube: it passes Vienna, Bratislava, Budapest and Belgrade, more capitals than any other river does.",
    ),
    ("The food was cold.", "We waited an hour for a table and will not come back."),
)


def encoded(model: Exportable) -> dict[str, Tensor] | None:
    """The texts as the model's tokenizer gives them, padded, by input; None where it has none that fits."""
    from albert_cli.tokenization.tokenizer import Tokenizer

    firsts, seconds = ([pair[side] for pair in _PAIRS] for side in (0, 1))
    length = min(_MOST_TOKENS, model.checkpoint.config.max_tokens)
    try:
        tokenizer = Tokenizer.of_model(model.checkpoint)
        if model.head in ("qa", "choice", "nsp", "sop"):
            batch = tokenizer.encode_batch(firsts, seconds, max_length=length)
        else:
            batch = tokenizer.encode_batch([*firsts, *seconds], max_length=length)
    except TokenizerError:
        return None
    padded = batch.padded()
    return {name: shaped(model, torch.from_numpy(padded[name])) for name in model.inputs}
