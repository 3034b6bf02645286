"""PyTorch's own files: what it wrote over the years is read, what is no plain tensor is refused and never run."""

import json
import os
import pickle
import re
import shutil
import warnings
import zipfile
from collections import OrderedDict

import making
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from making import TINY
from torch._utils import _rebuild_tensor_v2

from converters import convert
from converters.dialects import to_hf
from converters.errors import CheckpointError

WORDS = "albert.embeddings.word_embeddings.weight"
POOLER = "albert.pooler.weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "hf"
    convert.save(making.model(), path, format="torch")
    return path


@pytest.fixture
def source(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture
def weights(source):
    return source / "pytorch_model.bin"


def state_dict(path):
    return torch.load(path, weights_only=True)


def change(path, alter, **options):
    """Save a state dict anew after `alter(state)`, which may return another one."""
    state = state_dict(path)
    torch.save(alter(state) or state, path, **options)


def legacy(path, alter=lambda state: None):
    """As PyTorch before 1.6 wrote it."""
    change(path, alter, _use_new_zipfile_serialization=False)


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


@pytest.mark.parametrize("order", [b"big", b"odd"])
def test_another_byte_order(weights, source, refused, order):
    """As PyTorch writes on s390x."""
    with zipfile.ZipFile(weights) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    making.write_zip(weights, (members | {"archive/byteorder": order}).items())
    assert refused("inspect", source) == (
        f"{weights}: written on a machine of another byte order; save it anew on a usual one"
    )


class Rebuilt:
    """Is pickled as a tensor of any shape over any storage."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return _rebuild_tensor_v2, (*self.arguments, False, OrderedDict())


@pytest.mark.parametrize(
    ("first", "shape", "strides"),
    [
        (0, (10**6, 10**6), (10**6, 1)),
        (0, (8, 8), (9, 1)),
        (1, (8, 8), (8, 1)),
        (2**40, (8, 8), (8, 1)),
        (0, (8, 8), (2**40, 1)),
    ],
)
@pytest.mark.usefixtures("in_time")
def test_a_tensor_beyond_its_storage(weights, source, refused, first, shape, strides):
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.ones(64).untyped_storage(), dtype=torch.float32, _internal=True
    )
    change(weights, lambda state: state.update({POOLER: Rebuilt(storage, first, shape, strides)}))
    assert refused("inspect", source) == (
        f"{weights}: tensor {POOLER} of shape {list(shape)} reaches beyond the 256 bytes of its storage"
    )


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (lambda: torch.eye(8).to_sparse(), "float32, torch.sparse_coo"),
        (lambda: torch.ones(8, 8, dtype=torch.complex64), "complex64, torch.strided"),
        (lambda: torch.ones(8, 8, dtype=torch.int32), "int32, torch.strided"),
        (lambda: torch._neg_view(torch.ones(8, 8)), "float32, torch.strided"),
    ],
)
def test_tensors_of_other_kinds(weights, source, refused, made, what):
    change(weights, lambda state: state.update({POOLER: made()}))
    assert refused("inspect", source) == (
        f"{weights}: tensor {POOLER} is {what}, not one of float32, float16, bfloat16, float64, int64 plainly"
    )


def test_a_tensor_without_values(weights, source, refused):
    change(weights, lambda state: state.update({POOLER: torch.ones(8, 8, device="meta")}))
    assert refused("inspect", source) == f"{weights}: tensor {POOLER} has no values in the file"


# --- shards


@pytest.fixture
def sharded(weights, source):
    state = state_dict(weights)
    weights.unlink()
    names, weight_map = list(state), {}
    for number, group in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: state[name] for name in group}, source / file)
        weight_map |= dict.fromkeys(group, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return source


def test_shards_are_read(sharded):
    assert making.same(convert.load(sharded), making.model(step=None)) is True


def test_a_missing_shard(sharded, refused):
    (sharded / "pytorch_model-00002-of-00002.bin").unlink()
    assert refused("inspect", sharded) == (
        f"{sharded}: the shard pytorch_model-00002-of-00002.bin that pytorch_model.bin.index.json names is missing"
    )


def test_a_shard_elsewhere(sharded, refused):
    index = sharded / "pytorch_model.bin.index.json"
    data = json.loads(index.read_text())
    data["weight_map"][WORDS] = "../x.bin"
    index.write_text(json.dumps(data))
    assert refused("inspect", sharded) == f"{index}: names the shard '../x.bin', which is not a plain file name"


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
    message = refused("convert", source, tmp_path / "out")
    if protocol == 2:
        assert message == (
            f"{weights}: holds posix.system, which is neither a tensor nor a plain value, and is never run; save the "
            "model's state_dict() alone"
        )
    else:
        assert message.startswith(f"{weights}: not a sound PyTorch file (")
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


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cpu", "2.9.1"])
def test_a_pytorch_that_could_be_fooled(weights, source, refused, monkeypatch, version):
    monkeypatch.setattr(torch, "__version__", version)
    assert refused("inspect", source) == (
        f"{weights}: a pickle, which PyTorch reads safely from version 2.10 on, and {version} is installed "
        "(CVE-2026-24747): pip install --upgrade torch"
    )


# --- other things than a state dict


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([1, 2], "holds a list, not tensors by name; save a model's state_dict()"),
        ({}, "holds a dict, not tensors by name; save a model's state_dict()"),
        (torch.ones(2), "holds a Tensor, not tensors by name; save a model's state_dict()"),
        ({"epoch": 3}, "'epoch' is a int, not a tensor"),
        ({3: torch.ones(2)}, "3 is a Tensor, not a tensor"),
        (
            {"model_state_dict": {"a": torch.ones(2)}, "epoch": 3},
            "'model_state_dict' is a dict, not a tensor; if the model is in 'model_state_dict', save that alone",
        ),
    ],
)
def test_something_else(weights, source, refused, made, message):
    torch.save(made, weights)
    assert refused("inspect", source) == f"{weights}: {message}"


def test_a_step_that_is_none(weights, source, refused):
    change(weights, lambda state: state.__dict__.update(_metadata={"": {"global_step": "soon"}}))
    assert refused("inspect", source) == (f"{source}: global_step in the metadata is 'soon', not a whole number")


def test_slots_that_are_none(weights, source, refused):
    torch.save({"state": torch.ones(1)}, source / "optimizer_slots.bin")
    assert refused("inspect", source) == (
        f"{source / 'optimizer_slots.bin'}: state is no optimizer slot (variable/adam_m)"
    )


# --- damaged


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_truncated_anywhere(weights, source, old):
    if old:
        legacy(weights)
    whole = weights.read_bytes()
    for size in [0, 1, 3, 4, *range(1, len(whole), len(whole) // 40), len(whole) - 1]:
        weights.write_bytes(whole[:size])
        with pytest.raises(CheckpointError) as error:
            convert.load(source)
        assert str(error.value).startswith(f"{weights}: "), size
        assert "\n" not in str(error.value)


def test_a_changed_value_is_told(weights, source, refused, tmp_path):
    with zipfile.ZipFile(weights) as archive:
        place = archive.getinfo("archive/data/0").header_offset + 200
    content = bytearray(weights.read_bytes())
    content[place] ^= 1
    weights.write_bytes(content)
    assert refused("convert", source, tmp_path / "out") == (
        f"{weights}: tensor {WORDS} is damaged (its CRC-32 does not match)"
    )


def test_shrunk_after_it_was_opened(weights, source):
    checkpoint = convert.load(source)
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"became shorter while it was read, inside tensor"):
        checkpoint.tensors["predictions.bias"].read()


@pytest.mark.usefixtures("in_time")
def test_a_bomb(weights, source, refused):
    """Ten gigabytes of zeros in ten megabytes would be one; a packed member is enough to be refused."""
    with zipfile.ZipFile(weights) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    members[0] = (members[0][0], members[0][1] + bytes(10**7))
    making.write_zip(weights, members, zipfile.ZIP_DEFLATED)
    assert refused("inspect", source) == (
        f"{weights}: member 'archive/data.pkl' is packed or encrypted, where PyTorch stores plain copies"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_odd_archives(weights, source, refused):
    with zipfile.ZipFile(weights) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    making.write_zip(weights, [*members, members[4]])
    assert refused("inspect", source) == f"{weights}: a member occurs twice"
    making.write_zip(weights, [member for member in members if not member[0].endswith(".pkl")])
    assert refused("inspect", source).startswith(f"{weights}: not a sound PyTorch file (")
    making.write_zip(weights, [("archive/data.pkl", bytes(2**26 + 1)), *members[1:]])
    assert refused("inspect", source) == (
        f"{weights}: member 'archive/data.pkl' has {2**26 + 1} bytes, which no list of tensors takes"
    )


def test_a_name_with_a_line_break_is_told_in_one_line(source, weights):
    change(weights, lambda state: {"\n" + name: tensor for name, tensor in state.items()})
    with pytest.raises(CheckpointError, match=r"tensors unknown: \\nalbert\.") as error:
        convert.load(source)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_any_changed_bytes_give_our_error_or_a_model(sound, tmp_path_factory, old):
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(sound, folder / "hf")
    weights = folder / "hf/pytorch_model.bin"
    if old:
        legacy(weights)
    whole = weights.read_bytes()
    interesting = 900 if old else 4000  # the pickle comes first

    @given(
        st.lists(
            st.tuples(st.integers(0, interesting) | st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=8)),
            min_size=1,
            max_size=4,
        )
    )
    @settings(max_examples=150)
    def fuzz(changes):
        content = bytearray(whole)
        for place, data in changes:
            content[place : place + len(data)] = data
        weights.write_bytes(content[: len(whole)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for tensor in convert.load(folder / "hf").tensors.values():
                    tensor.read()
            except CheckpointError as error:
                assert "\n" not in str(error)

    fuzz()
