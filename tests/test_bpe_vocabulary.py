"""The files of a byte-level BPE: what is read of them, and every bad one in one line."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from converters.errors import CorruptError
from converters.tokenizers.bpe import byte_symbols, parse_bpe
from converters.tokenizers.files import TokenizerFiles

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
MERGES = b"#version: 0.2\n\xc4\xa0 t\nh e\n\xc4\xa0t he\n"
PIECES = [*SPECIAL, *byte_symbols().values(), "\u0120t", "he", "\u0120the", "<mask>"]


def vocabulary(pieces: list[str] = PIECES) -> bytes:
    return json.dumps({piece: number for number, piece in enumerate(pieces)}).encode()


def test_the_pieces_are_in_the_order_of_their_ids_and_the_merges_in_theirs() -> None:
    shuffled = {piece: number for number, piece in reversed(list(enumerate(PIECES)))}
    pieces, merges = parse_bpe(json.dumps(shuffled).encode(), MERGES, "here")
    assert pieces == PIECES
    assert merges == [("\u0120", "t"), ("h", "e"), ("\u0120t", "he")]


@pytest.mark.parametrize("merges", [MERGES.removeprefix(b"#version: 0.2\n"), MERGES.replace(b"\n", b"\r\n")])
def test_merges_need_no_version_and_may_end_lines_as_windows_does(merges: bytes) -> None:
    assert len(parse_bpe(vocabulary(), merges, "here")[1]) == 3


def test_a_byte_is_written_as_in_gpt_2() -> None:
    symbols = byte_symbols()
    assert len(set(symbols.values())) == 256
    assert (symbols[ord(" ")], symbols[ord("!")], symbols[0], symbols[0xAD]) == ("\u0120", "!", "\u0100", "\u0143")


def test_the_real_vocabulary(shared_data: Path) -> None:
    unpacked = [
        lzma.decompress((shared_data / "tokenizer/relatives" / f"{name}.xz").read_bytes())
        for name in ("roberta-vocab.json", "vocab.bpe")
    ]
    pieces, merges = parse_bpe(*unpacked, "here")
    assert (len(pieces), len(merges)) == (50265, 50000)
    assert [*pieces[:4], pieces[-1]] == [*SPECIAL, "<mask>"]


@pytest.mark.parametrize(
    ("vocab_json", "merges", "said"),
    [
        (vocabulary(), None, "a byte-level BPE of vocab.json without merges.txt, which belongs beside it"),
        (None, MERGES, "a byte-level BPE of merges.txt without vocab.json, which belongs beside it"),
        (b"{", MERGES, "the BPE vocabulary is not JSON: Expecting property name enclosed in double quotes at line 1"),
        (b"\xff", MERGES, "the BPE vocabulary is not UTF-8 text (byte 0)"),
        (b"[1]", MERGES, "the BPE vocabulary is [1], not an object from piece to id"),
        (b"{}", MERGES, "the BPE vocabulary is {}, not an object from piece to id"),
        (b'{"a": "0"}', MERGES, "the id of 'a' in the BPE vocabulary is '0', not a number"),
        (b'{"a": true}', MERGES, "the id of 'a' in the BPE vocabulary is True, not a number"),
        (b'{"a": 0, "b": 2}', MERGES, "the id of 'b' in the BPE vocabulary is 2, but those of its 2 pieces are 0 to 1"),
        (
            b'{"a": 0, "b": 99999999999}',
            MERGES,
            "the id of 'b' in the BPE vocabulary is 99999999999, but those of its 2 pieces are 0 to 1",
        ),
        (b'{"a": -1}', MERGES, "the id of 'a' in the BPE vocabulary is -1, but those of its 1 pieces are 0 to 0"),
        (b'{"a": 0, "b": 0}', MERGES, "'a' and 'b' have the id 0 in the BPE vocabulary"),
        (b'{"a": 0, "a": 1}', MERGES, "the BPE vocabulary is not a usable JSON config"),
        (
            vocabulary([piece for piece in PIECES if piece not in ("!", "x")]),
            MERGES,
            "the BPE vocabulary has no piece for 2 of the 256 bytes: '!', 'x'",
        ),
        (vocabulary(), b"#version: 0.2\nh e\nh\n", "line 3 of the merges is 'h', not two pieces and a space between"),
        (vocabulary(), b"h e\n\nh e\n", "line 2 of the merges is '', not two pieces and a space between"),
        (vocabulary(), b"h  e\n", "line 1 of the merges is 'h  e', not two pieces and a space between"),
        (vocabulary(), b"he q\n", "line 1 of the merges is 'he q', but 'heq' is no piece"),
        (vocabulary(), b"h hh\n", "line 1 of the merges is 'h hh', but 'hh' is no piece"),
        (vocabulary(), b"h e\n\xff\xfe\n", "line 2 of the merges is not UTF-8"),
        (vocabulary(), b"h e\n" * 500_001, "the merges have more than 500000 lines"),
        (b" " * (32 * 2**20 + 1), MERGES, "the BPE vocabulary is larger than 32 MiB"),
    ],
)
def test_a_bad_vocabulary_is_one_line(vocab_json: bytes | None, merges: bytes | None, said: str) -> None:
    with pytest.raises(CorruptError) as raised:
        TokenizerFiles.of("here", vocab_json=vocab_json, merges=merges)
    assert str(raised.value).startswith(f"here: {said}")
    assert "\n" not in str(raised.value)
