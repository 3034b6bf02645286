"""Templates of special tokens, by themselves and under a tokenizer: that of the BERT family and that of RoBERTa."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albert_cli.tokenization.batch import framed
from albert_cli.tokenization.loading import segmenter_of
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.tokenizers.files import TokenizerFiles
from converters.tokenizers.template import CLS_A_SEP_B_SEP, Template

S_A_S_S_B_S = Template(("cls",), ("sep", "sep"), ("sep",), types=(0, 0))
IDS = {"cls": 101, "sep": 102}
rows = st.lists(st.integers(0, 9), max_size=4)


@pytest.mark.parametrize(
    ("template", "pair", "ids", "types"),
    [
        (CLS_A_SEP_B_SEP, False, [101, 7, 8, 102], [0, 0, 0, 0]),
        (CLS_A_SEP_B_SEP, True, [101, 7, 8, 102, 9, 102], [0, 0, 0, 0, 1, 1]),
        (S_A_S_S_B_S, False, [101, 7, 8, 102], [0, 0, 0, 0]),
        (S_A_S_S_B_S, True, [101, 7, 8, 102, 102, 9, 102], [0] * 7),
        (Template((), ("sep",), ()), True, [7, 8, 102, 9], [0, 0, 0, 1]),
    ],
)
def test_a_frame_has_the_special_tokens_and_types(template, pair, ids, types):
    bound = template.map(IDS.__getitem__)
    texts = ([7, 8], [9]) if pair else ([7, 8],)
    assert bound.frame(*texts) == (ids, types)
    assert bound.added(pair=pair) == template.added(pair=pair) == len(ids) - sum(map(len, texts))
    parts = bound.parts(*texts)
    assert [list(part.tokens) for part in parts if part.sequence is not None] == list(texts)
    assert [token for part in parts for token in part.tokens] == ids


@given(texts=st.lists(st.tuples(rows, rows), max_size=4), pair=st.booleans(), number=st.integers(0, 2))
def test_many_frames_at_once_are_those_of_each_row(texts, pair, number):
    template = (CLS_A_SEP_B_SEP, S_A_S_S_B_S, Template((), (), ()))[number].map(IDS.__getitem__)
    firsts, seconds = [first for first, _ in texts], [second for _, second in texts] if pair else None
    ids, types, lengths = framed(firsts, seconds, template)
    each = [template.frame(first, second if pair else None) for first, second in texts]
    assert ids.tolist() == [token for row, _ in each for token in row]
    assert types.tolist() == [kind for _, row in each for kind in row]
    assert lengths.tolist() == [len(row) for row, _ in each]
    assert (ids.dtype, types.dtype) == (np.int32, np.uint8)


def test_a_tokenizer_takes_any_template():
    words = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", "an", "ox", "ran", "by"]
    roles = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    files = TokenizerFiles(wordpiece="\n".join(words).encode(), names=roles)
    tokenizer = Tokenizer(segmenter_of(files), roles=S_A_S_S_B_S)
    pair = tokenizer.encode("an ox", "ran by", pad_to=9)
    assert pair.pieces == ["<s>", "an", "ox", "</s>", "</s>", "ran", "by", "</s>", "<pad>"]
    assert pair.token_type_ids == [0] * 9
    assert pair.sequence_ids == [None, 0, 0, None, None, 1, 1, None, None]
    assert pair.special_tokens_mask == [1, 0, 0, 1, 1, 0, 0, 1, 1]
    assert tokenizer.encode_batch(["an ox"], ["ran by"])[0].tolist() == pair.ids[:8]
    assert tokenizer.encode("an ox").pieces == ["<s>", "an", "ox", "</s>"]
    # Four special tokens leave room for two of six.
    short = tokenizer.encode_batch(["an ox"], ["ran by"], max_length=6)
    assert short[0].tolist() == tokenizer.encode("an ox", "ran by", max_length=6).ids == [2, 5, 3, 3, 7, 3]
    assert short.truncated.tolist() == [2]
    windows = tokenizer.encode("an ox", "ran by", max_length=7, truncation="only_second", stride=0).windows()
    assert [window.pieces[5:-1] for window in windows] == [["ran"], ["by"]]
