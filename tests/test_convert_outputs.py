"""The main job on the real checkpoint: what transformers and our own core compute from what we wrote."""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from albert_cli.model.loading import load_model
from converters import convert, libraries


@pytest.fixture(scope="module")
def expected(shared_data):
    with np.load(shared_data / "checkpoints/tf1-google/expected.npz") as file:
        return dict(file)


def test_transformers_loads_every_key_and_no_other(google_model):
    _, info = transformers.AlbertForPreTraining.from_pretrained(google_model, output_loading_info=True)
    assert {key: list(value) for key, value in info.items() if value} == {}


def test_outputs_equal_the_reference_graphs(google_model, expected):
    ids, mask, types = (torch.tensor(expected[key]).long() for key in ("input_ids", "input_mask", "token_type_ids"))
    positions = torch.tensor(expected["masked_lm_positions"]).long()[:2, :2]
    theirs = transformers.AlbertForPreTraining.from_pretrained(google_model).eval()
    ours = load_model(google_model)
    with torch.no_grad():
        encoded = theirs.albert(ids, mask, types)
        heads = theirs(ids, mask, types)
        own = ours(ids, mask, types, masked_positions=torch.tensor(expected["masked_lm_positions"]).long())
    real = expected["input_mask"].astype(bool)
    rows = torch.arange(2)[:, None]
    for sequence, pooled, words, order in (
        (
            encoded.last_hidden_state,
            encoded.pooler_output,
            heads.prediction_logits[:2][rows, positions],
            heads.sop_logits,
        ),
        (own.encoder.sequence_output, own.encoder.pooled_output, own.prediction_logits[:2, :2], own.pair_logits),
    ):
        assert np.abs(sequence.numpy() - expected["sequence_output"])[real].max() < 1e-5
        assert np.abs(pooled.numpy() - expected["pooled_output"]).max() < 1e-5
        word_log_probs = words.log_softmax(-1).numpy().reshape(-1)
        assert np.abs(word_log_probs - expected["mlm_log_probs"].reshape(-1)).max() < 5e-5
        assert np.abs(order.log_softmax(-1).numpy() - expected["sop_log_probs"]).max() < 5e-5


def test_every_format_gives_the_same_outputs(google_model, tmp_path):
    convert.convert(google_model, tmp_path / "m.npz")
    convert.convert(tmp_path / "m.npz", tmp_path / "tf", target_as="tf")
    ids = torch.arange(5, 37).reshape(2, 16)
    with torch.no_grad():
        first, *others = (load_model(path)(ids) for path in (google_model, tmp_path / "m.npz", tmp_path / "tf"))
    for other in others:
        assert torch.equal(other.prediction_logits, first.prediction_logits)
        assert torch.equal(other.pair_logits, first.pair_logits)


def test_a_tensorflow_checkpoint_needs_no_tensorflow(shared_data, tmp_path):
    code = (
        "import sys; sys.modules['tensorflow'] = None; sys.modules['torch'] = None\n"
        "from converters.convert import convert\n"
        f"convert({str(shared_data / 'checkpoints/tf1-google')!r}, {str(tmp_path / 'hf')!r})\n"
        f"convert({str(tmp_path / 'hf')!r}, {str(tmp_path / 'tf')!r}, target_as='tf')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "hf/model.safetensors").exists()
    assert (tmp_path / "tf/model.ckpt-best.index").exists()


@pytest.mark.parametrize(
    ("system", "processor", "says"),
    [
        ("linux", "x86_64", "which is not installed: pip install 'tensorflow-cpu'"),
        ("win32", "AMD64", "which is not installed: pip install 'tensorflow-cpu'"),
        ("linux", "aarch64", "which is not installed: pip install 'tensorflow'"),
        ("darwin", "arm64", "which is not installed: pip install 'tensorflow'"),
        ("darwin", "x86_64", "which does not exist for macOS on Intel; run it on another machine"),
    ],
)
def test_without_tensorflow_its_format_is_refused(
    letter_model, tmp_path, refused, monkeypatch, system, processor, says
):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "tensorflow" else find(name))
    monkeypatch.setattr(libraries, "sys", SimpleNamespace(platform=system))
    monkeypatch.setattr(libraries.platform, "machine", lambda: processor)
    message = refused("convert", letter_model, tmp_path / "out", "--to", "saved-model")
    assert message == f"writing a SavedModel needs the library 'tensorflow', {says}"
