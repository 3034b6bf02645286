"""PyTorch's own files: what it wrote over the years is read, what is no plain tensor is refused and never run."""

import json
import os
import pickle
import re
import shutil
from collections import OrderedDict

import making
import numpy as np
import pytest
import torch
from corruptions.torch import FILE, POOLER, WORDS, change, legacy, make, shard, state_dict
from making import TINY

from converters import convert
from converters.dialects import to_hf


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return make(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def source(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture
def weights(source):
    return source / FILE


# --- what transformers and PyTorch wrote


def transformers_config(**more):
    from transformers import AlbertConfig

    return AlbertConfig(**{key: value for key, value in to_hf(TINY).items() if key != "model_type"}, **more)


def test_transformers_loads_what_is_written(source, tmp_path):
    from transformers import AlbertForPreTraining

    convert.convert(source, tmp_path / "plain", target_as="torch")
    assert {path.name for path in (tmp_path / "plain").iterdir()} == {
        "config.json",
        "pytorch_model.bin",
        "spiece.model",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    found, report = AlbertForPreTraining.from_pretrained(
        tmp_path / "plain", use_safetensors=False, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert set(report["unexpected_keys"]) <= {"classifier.weight", "classifier.bias"}
    wanted = making.model().tensors
    for name, value in found.state_dict().items():
        if name in wanted:
            assert np.array_equal(value.numpy(), wanted[name].read()), name


@pytest.mark.parametrize(
    ("kind", "dropped"),
    [
        ("AlbertForPreTraining", {"position_ids buffer": 1, "tied decoder copies": 2}),
        ("AlbertForMaskedLM", {"position_ids buffer": 1, "tied decoder copies": 2}),
        ("AlbertForSequenceClassification", {"position_ids buffer": 1}),
        ("AlbertForQuestionAnswering", {"position_ids buffer": 1}),
        ("AlbertModel", {"position_ids buffer": 1}),
    ],
)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_what_transformers_saved(tmp_path, albert, kind, dropped, old):
    """State dicts of its classes, with the buffer and the tied copies that older versions stored."""
    import transformers

    torch.manual_seed(1)
    made = getattr(transformers, kind)(transformers_config())
    state = made.state_dict()
    prefix = "" if kind == "AlbertModel" else "albert."
    state[f"{prefix}embeddings.position_ids"] = torch.arange(10)[None]
    (tmp_path / "old").mkdir()
    (tmp_path / "old/config.json").write_text(json.dumps(made.config.to_dict() | {"architectures": [kind]}))
    torch.save(state, tmp_path / "old/pytorch_model.bin", _use_new_zipfile_serialization=not old)
    code, out, err = albert("convert", tmp_path / "old", tmp_path / "new", "--to", "safetensors", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["source_format"], report["dropped"]) == ("torch", dropped)
    back, loading = getattr(transformers, kind).from_pretrained(tmp_path / "new", output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, value in back.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_an_untied_decoder_is_kept(weights, source, tmp_path):
    change(weights, lambda state: state.update({"predictions.decoder.weight": state[WORDS] + 1}))
    convert.convert(source, tmp_path / "out", target_as="safetensors")
    kept = convert.load(tmp_path / "out").tensors
    assert np.array_equal(kept["predictions.decoder.weight"].read(), kept[WORDS].read() + 1)


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.pth", "checkpoint"])
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_one_file_beside_its_config(weights, source, albert, name, old):
    (legacy if old else change)(weights, lambda state: None)
    weights.rename(source / name)
    code, out, err = albert("inspect", source / name, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["format"] == "torch"
    assert making.same(convert.load(source / name), making.model()) is True


def test_one_file_alone(weights, tmp_path, refused):
    (tmp_path / "alone").mkdir()
    shutil.copy(weights, tmp_path / "alone")
    assert refused("inspect", tmp_path / "alone/pytorch_model.bin") == (
        f"{tmp_path / 'alone'}: no config.json beside the weights; copy the model's one there"
    )


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
def test_dtypes(tmp_path, kind, old):
    dtype = making.BFLOAT16 if kind == "bfloat16" else np.dtype(kind)
    model = making.model(dtype=dtype, special=True)
    convert.save(model, tmp_path / "hf", format="torch")
    assert state_dict(tmp_path / "hf/pytorch_model.bin")[WORDS].dtype == getattr(torch, kind)
    if old:
        legacy(tmp_path / "hf/pytorch_model.bin")
    assert making.same(convert.load(tmp_path / "hf"), model) is True


def test_parameters_and_metadata_of_a_module(weights, source):
    """A state dict saved with keep_vars, and the attribute that PyTorch gives every state dict."""

    def alter(state):
        for name in state:
            state[name] = torch.nn.Parameter(state[name])
        state._metadata = OrderedDict([("", {"version": 1}), ("albert", {"version": 1})])

    change(weights, alter)
    assert making.same(convert.load(source), making.model(step=None)) is True


# --- how tensors lie


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_views_strides_and_shared_storage(weights, source, old):
    """All of one flat storage; transposed; every second column of a wider one; rows that are all the same."""
    model = making.model()

    def flat(state):
        whole = torch.cat([value.reshape(-1) for value in state.values()])
        start = 0
        for name, value in state.items():
            state[name] = whole[start : start + value.numel()].view(value.shape)
            start += value.numel()

    def odd(state):
        state[POOLER] = state[POOLER].t().contiguous().t()
        wide = torch.zeros(30, 12)
        wide[:, 1::2] = state[WORDS]
        state[WORDS] = wide[:, 1::2]
        state["predictions.bias"] = torch.tensor(0.5).expand(30)
        state["sop_classifier.classifier.bias"] = state["predictions.dense.bias"][2:4]

    (legacy if old else change)(weights, flat)
    assert making.same(convert.load(source), model) is True
    (legacy if old else change)(weights, odd)
    found = convert.load(source).tensors
    for name in (POOLER, WORDS):
        assert np.array_equal(found[name].read(), model.tensors[name].read())
    assert found["predictions.bias"].read().tolist() == [0.5] * 30
    assert np.array_equal(
        found["sop_classifier.classifier.bias"].read(), model.tensors["predictions.dense.bias"].read()[2:4]
    )


def test_a_changed_byte_around_a_view_is_noticed(weights, source, refused):
    """The CRC-32 is that of the storage, of which a tensor may be a part."""
    wide = torch.zeros(30, 12)
    change(weights, lambda state: state.update({WORDS: wide[:, 1:7]}))
    assert not convert.load(source).tensors[WORDS].read().any()
    sound = weights.read_bytes()
    begin = sound.index(bytes(wide.nbytes))
    for at in (begin + 8, begin, begin + wide.nbytes - 1):  # within the tensor, before it, behind it
        weights.write_bytes(sound[:at] + b"\1" + sound[at + 1 :])
        message = f"{weights}: tensor {WORDS} is damaged (its CRC-32 does not match)"
        assert refused("convert", source, source / "o.npz") == message


def test_shards_are_read(source):
    shard(source)
    assert making.same(convert.load(source), making.model(step=None)) is True


def test_an_archive_on_several_disks(weights, refused):
    content = bytearray(weights.read_bytes())
    disks = content.rfind(b"PK\6\7") + 16  # in the locator of a zip64 archive
    content[disks : disks + 4] = (2).to_bytes(4, "little")
    weights.write_bytes(content)
    assert refused("inspect", weights) == (
        f"{weights}: not a sound PyTorch file (zipfiles that span multiple disks are not supported)"
    )


# --- beside safetensors


def test_beside_safetensors_that_is_read_and_this_named(source, tmp_path, albert):
    """As the Hub's repositories have it, and as transformers chooses."""
    convert.save(making.model(seed=9), tmp_path / "other", format="safetensors")
    shutil.copy(tmp_path / "other/model.safetensors", source)
    code, out, err = albert("inspect", source)
    assert (code, err) == (0, "")
    assert "left out" in out
    assert "1 pytorch_model.bin beside model.safetensors (--from torch reads it)" in out
    assert making.same(convert.load(source), making.model(seed=9)) is True
    assert making.same(convert.load(source, format="torch"), making.model()) is True


@pytest.mark.parametrize(("first", "second"), [("safetensors", "torch"), ("torch", "safetensors")])
def test_the_kind_that_was_there_is_replaced(tmp_path, albert, first, second):
    """No directory is left with two models."""
    convert.save(making.model(seed=1, optimizer=True), tmp_path / "one", format=first)
    convert.save(making.model(seed=2), tmp_path / "two.npz", format="npz")
    code, _, err = albert("convert", tmp_path / "two.npz", tmp_path / "one", "--to", second, "--force")
    assert (code, err) == (0, "")
    found = convert.load(tmp_path / "one")
    assert (found.format, dict(found.dropped)) == (second, {})
    assert making.same(found, making.model(seed=2)) is True


@pytest.mark.parametrize("name", ["out.pt", "out.bin", "deep/pytorch_model.bin"])
def test_one_file_is_no_target(source, tmp_path, refused, name):
    target = tmp_path / name
    assert refused("convert", source, target, "--to", "torch") == (
        f"{target}: torch is a directory of pytorch_model.bin, config.json and tokenizer; name a directory"
    )


# --- nothing is run


class Runs:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_refused_and_not_run(weights, source, tmp_path, refused, old, protocol):
    marker = tmp_path / "marker"
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": not old}
    change(weights, lambda state: state.update({"x": Runs(marker)}), **options)
    assert refused("convert", source, tmp_path / "out") == (
        f"{weights}: holds posix.system, which is neither a tensor nor a plain value, and is never run; save the "
        "model's state_dict() alone"
    )
    assert not marker.exists()
    torch.load(weights, weights_only=False)  # it would have
    assert marker.exists()


def test_a_plain_pickle_is_not_run(weights, source, tmp_path, refused):
    marker = tmp_path / "marker"
    for protocol in (0, 2, 5):
        weights.write_bytes(pickle.dumps(Runs(marker), protocol))
        assert refused("inspect", source).startswith(f"{weights}: ")
        assert not marker.exists()


class Custom:
    pass


@pytest.mark.parametrize("made", [Custom, lambda: torch.nn.Linear(2, 2), lambda: np.float64(1)])
def test_a_pickled_object(weights, source, refused, made):
    torch.save({"model": made()}, weights)
    assert re.fullmatch(
        rf"{re.escape(str(weights))}: holds [\w.]+, which is neither a tensor nor a plain value, and is never run; "
        r"save the model's state_dict\(\) alone",
        refused("inspect", source),
    )
