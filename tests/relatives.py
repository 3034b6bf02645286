"""The real vocabularies of ALBERT's relatives, with golden ids, and texts to try them on."""

import functools
import json
import lzma
import random
import sys
import unicodedata


def unpacked(shared_data, name):
    """The bytes of a file of the relatives' tokenizers."""
    return lzma.decompress((shared_data / f"tokenizer/relatives/{name}.xz").read_bytes())


def golden(shared_data):
    """Texts with their ids; `electra` only where that differs from `bert_uncased`."""
    return [json.loads(line) for line in unpacked(shared_data, "golden.jsonl").splitlines()]


@functools.cache
def alphabets():
    """Every assigned character but those without case, and every code point but surrogates."""
    kinds = [(chr(code), unicodedata.category(chr(code))) for code in range(sys.maxunicode + 1)]
    assigned = [character for character, kind in kinds if kind not in ("Cn", "Cs", "Co", "Lo")]
    return assigned, [character for character, kind in kinds if kind != "Cs"]


def random_texts(count, seed):
    """Texts of characters from all over Unicode, many of those that the rules are about among them."""
    draw = random.Random(seed)
    assigned, anything = alphabets()
    awkward = (
        "aA1éÉ \t\n\r\x00\x0b\x1c\x7f\x85\u00a0\u200b\u2028\u3000\ufffd\ufeff.,'-_▁Σσςİß各가\u0301\u0327\U0001d165'"
    )
    pools = (awkward, assigned, anything, "abcdefghijklmnopqrstuvwxyz      ABC'''sd.,!?0123456789")
    return ["".join(draw.choice(draw.choice(pools)) for _ in range(draw.randrange(40))) for _ in range(count)]
