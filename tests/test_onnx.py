"""albert convert to ONNX: onnxruntime gives what transformers gives, and nothing of this machine is in the file."""

import dataclasses
import importlib.util
import json

import making
import numpy as np
import pytest
from making import GROUPED, TINY
from running_onnx import inputs, session

from albert_cli.exporters import exporters
from albert_cli.onnx import graph
from converters import convert

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
MISSING = [library for library in LIBRARIES if importlib.util.find_spec(library) is None]
if MISSING:
    pytest.skip(f"ONNX is not installed ({', '.join(MISSING)})", allow_module_level=True)

onnx = pytest.importorskip("onnx")

LONGER = dataclasses.replace(TINY, max_position_embeddings=40)
TOKENIZER = {"spiece.model", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "hf"
    convert.save(making.model(LONGER), path)
    return path


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The model's encoder as a directory with model.onnx."""
    target = tmp_path_factory.mktemp("exported") / "deep" / "out"
    exporters()["onnx"].export(convert.load(model), target, head="none")
    return target


def assert_as_transformers(directory, path, sizes):
    """Last hidden state at real tokens and pooler output, for every size."""
    import torch
    from transformers import AlbertModel

    peer = AlbertModel.from_pretrained(directory, attn_implementation="eager").eval()
    runner = session(path)
    for batch, tokens in sizes:
        given = inputs(batch, tokens, peer.config, seed=tokens)
        found = dict(zip((out.name for out in runner.get_outputs()), runner.run(None, given), strict=True))
        with torch.inference_mode():
            wanted = peer(**{name: torch.from_numpy(value) for name, value in given.items()})
        real = given["attention_mask"].astype(bool)
        assert found["last_hidden_state"].shape == (batch, tokens, peer.config.hidden_size)
        assert np.abs(found["last_hidden_state"] - wanted.last_hidden_state.numpy())[real].max() < 1e-4
        assert np.abs(found["pooler_output"] - wanted.pooler_output.numpy()).max() < 1e-4


def test_what_is_in_the_directory(exported, model):
    assert {path.name for path in exported.iterdir()} == {"model.onnx", "config.json", *TOKENIZER}
    for name in TOKENIZER:
        assert (exported / name).read_bytes() == (model / name).read_bytes()
    configs = [json.loads((place / "config.json").read_text()) for place in (exported, model)]
    assert [config.pop("architectures") for config in configs] == [["AlbertModel"], ["AlbertForSequenceClassification"]]
    assert configs[0].items() >= {"model_type": "albert", "dtype": "float32"}.items()


def test_onnxruntime_gives_what_transformers_gives(exported, model):
    assert_as_transformers(model, exported / "model.onnx", [(1, 1), (1, 40), (5, 2), (2, 7), (4, 33), (17, 3)])


def test_names_sizes_and_types(exported):
    made = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(made, full_check=True)

    def shown(values):
        return {
            value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in values
        }

    assert list(shown(made.graph.input)) == ["input_ids", "attention_mask", "token_type_ids"]
    assert all(sizes == ["batch", "sequence"] for sizes in shown(made.graph.input).values())
    assert shown(made.graph.output) == {"last_hidden_state": ["batch", "sequence", 8], "pooler_output": ["batch", 8]}
    assert {value.type.tensor_type.elem_type for value in made.graph.input} == {onnx.TensorProto.INT64}


def test_layers_that_are_shared_are_stored_once(exported):
    made = onnx.load(exported / "model.onnx")
    held = sum(int(np.prod(tensor.dims)) for tensor in made.graph.initializer)
    assert weights() <= held <= weights() + 100


def test_nothing_of_this_machine_is_in_it(exported):
    content = (exported / "model.onnx").read_bytes()
    for text in (b"albert_cli", b"site-packages", b".py", b"File ", b"/home", b"/root", b"stack_trace", b"forward"):
        assert text not in content


def weights():
    """The parameters of what is exported."""
    return sum(tensor.size for name, tensor in making.model(LONGER).tensors.items() if name.startswith("albert."))


def test_one_file_with_the_same_bytes(tmp_path, exported, model, albert):
    one_file = tmp_path / "albert.onnx"
    code, out, err = albert("convert", model, one_file, "--head", "none")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"exported   {model} (safetensors) -> {one_file} (onnx)"
    size = one_file.stat().st_size
    assert lines[1] == f"holds      encoder and pooler: {weights():,} parameters, {size:,} bytes"
    assert lines[2] == "runs       input_ids, attention_mask, token_type_ids -> last_hidden_state, pooler_output"
    assert lines[3].startswith("checked    against PyTorch on inputs of 1 x 1, 1 x 16, 1 x 40, 2 x 40, 3 x 5: largest ")
    assert lines[3].endswith(", allowed 0.0001")
    assert lines[4:] == [
        "tokenizer  left out, as one file has no place for it; name a directory to have it beside model.onnx",
        "left out   masked-word head (MLM)",
        "left out   sentence-order head (SOP)",
        "left out   classification head",
    ]
    assert one_file.read_bytes() == (exported / "model.onnx").read_bytes()
    assert [path.name for path in one_file.parent.iterdir()] == [one_file.name]


@pytest.fixture
def exported_before(exported, monkeypatch):
    """Takes the exporter's place, which takes seconds."""
    monkeypatch.setattr(graph, "graph_of", lambda model: (exported / "model.onnx").read_bytes())


@pytest.mark.usefixtures("exported_before")
def test_an_existing_one_is_replaced_by_force_alone(exported, model, albert, tmp_path, refused):
    target = tmp_path / "x.onnx"
    target.write_bytes(b"mine")
    assert refused("convert", model, target) == f"{target}: exists already; --force replaces it"
    (tmp_path / "out").mkdir()
    for name in ("config.json", "notes.txt"):
        (tmp_path / "out" / name).write_text("mine")
    assert refused("convert", model, tmp_path / "out", "--to", "onnx") == (
        f"{tmp_path / 'out'}: exists already; --force replaces the model in it"
    )
    code, out, err = albert("convert", model, tmp_path / "out", "--to", "onnx", "--head", "none", "--force", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["target_format"], report["allowed_difference"]) == ("onnx", 1e-4)
    assert report["max_abs_difference"] < 1e-4
    assert report["tokenizer"] == "spiece.model, copied"
    assert (tmp_path / "out/notes.txt").read_text() == "mine"
    assert (tmp_path / "out/model.onnx").read_bytes() == (exported / "model.onnx").read_bytes()


def test_over_the_model_itself(model, refused):
    assert refused("convert", model, model, "--to", "onnx", "--force") == (
        f"{model}: the target is the source itself ({model}); name another target"
    )


@pytest.mark.usefixtures("exported_before")
def test_outputs_that_differ_are_not_kept(model, tmp_path, refused, monkeypatch):
    monkeypatch.setattr(exporters()["onnx"], "ALLOWED", 1e-12)
    monkeypatch.setattr(exporters()["onnx"], "_OF_LARGEST", 0)
    for target in ("x.onnx", "out"):
        message = refused("convert", model, tmp_path / target, "--to", "onnx", "--head", "none")
        assert message.startswith(f"{tmp_path / target}: onnxruntime's outputs differ from PyTorch's by ")
        assert message.endswith(", more than 1e-12, so nothing was kept")


@pytest.mark.slow
def test_groups_exact_gelu_two_positions_and_no_pooler(tmp_path, albert):
    import torch
    from transformers import AlbertModel

    config = dataclasses.replace(GROUPED, hidden_act="gelu", max_position_embeddings=2)
    convert.save(making.model(config, without=("pooler", "mlm", "sop", "classifier", "qa")), tmp_path / "hf")
    code, _, err = albert("convert", tmp_path / "hf", tmp_path / "x.onnx")
    assert (code, err) == (0, "")
    runner = session(tmp_path / "x.onnx")
    assert [out.name for out in runner.get_outputs()] == ["last_hidden_state"]
    peer = AlbertModel.from_pretrained(tmp_path / "hf", add_pooling_layer=False).eval()
    for batch, tokens in ((1, 1), (1, 2), (3, 2)):
        given = inputs(batch, tokens, config)
        with torch.inference_mode():
            wanted = peer(**{name: torch.from_numpy(value) for name, value in given.items()}).last_hidden_state
        real = given["attention_mask"].astype(bool)
        assert np.abs(runner.run(None, given)[0] - wanted.numpy())[real].max() < 1e-4


@pytest.mark.slow
def test_googles_checkpoint(shared_data, tmp_path, albert):
    """The reference graph's outputs, from the TF1 checkpoint straight to ONNX.

    Slow, as its two halves are tried by themselves: the checkpoint against the graph, and ONNX against PyTorch.
    """
    source = shared_data / "checkpoints/tf1-google"
    assert albert("convert", source, tmp_path / "x.onnx")[0] == 0
    with np.load(source / "expected.npz") as expected:
        given = {
            "input_ids": expected["input_ids"].astype(np.int64),
            "attention_mask": expected["input_mask"].astype(np.int64),
            "token_type_ids": expected["token_type_ids"].astype(np.int64),
        }
        hidden, pooled = session(tmp_path / "x.onnx").run(None, given)
        real = given["attention_mask"].astype(bool)
        assert np.abs(hidden - expected["sequence_output"])[real].max() < 1e-4
        assert np.abs(pooled - expected["pooled_output"]).max() < 1e-4


# --- what cannot be


def test_options_of_a_format(model, tmp_path, albert):
    for option in (["--dtype", "float16"], ["--keep-optimizer"]):
        code, out, err = albert("convert", model, tmp_path / "x.onnx", *option)
        assert (code, out) == (2, "")
        assert "in float32 and nothing else" in " ".join(err.replace("│", "").split())
        assert option[0] in err
    assert not list(tmp_path.iterdir())


def test_it_is_not_read(exported, refused, albert, tmp_path):
    assert refused("inspect", exported / "model.onnx") == (
        f"{exported / 'model.onnx'}: an ONNX model, which is written here but not read: name the model that it was "
        "made from"
    )
    code, _, err = albert("convert", exported, tmp_path / "x", "--from", "onnx")
    assert (code, "'onnx' is no format here" in err) == (2, True)


def test_sizes_that_do_not_fit(model, tmp_path, refused, monkeypatch):
    convert.save(making.model(dataclasses.replace(TINY, max_position_embeddings=1)), tmp_path / "hf")
    assert refused("convert", tmp_path / "hf", tmp_path / "x.onnx") == (
        f"{tmp_path / 'hf'}: max_position_embeddings is 1; ONNX needs at least 2"
    )
    monkeypatch.setattr(exporters()["onnx"], "_MOST_BYTES", 4000)
    assert refused("convert", model, tmp_path / "x.onnx", "--head", "none") == (
        f"{model}: {4 * weights()} bytes of weights in float32, more than an ONNX file's 2 GiB"
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_library(model, tmp_path, refused, monkeypatch, library):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else found(name))
    assert refused("convert", model, tmp_path / "x.onnx") == (
        f"writing ONNX needs the library {library!r}, which is not installed: "
        "pip install 'onnx' 'onnxruntime' 'onnxscript'"
    )
