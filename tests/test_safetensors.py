"""safetensors files: bits, names, tied copies and shards."""

import json
import re

import making
import numpy as np
import pytest
from corruptions.safetensors import FILE, WORDS, add, parts, rewrite, shard
from making import safetensors_bytes

from converters import convert


@pytest.fixture
def source(tmp_path):
    convert.save(making.model(), tmp_path / "hf", format="safetensors")
    return tmp_path / "hf"


@pytest.fixture
def weights(source):
    return source / FILE


@pytest.mark.parametrize("dtype", [np.float32, np.float16, making.BFLOAT16, np.float64])
def test_special_values_are_kept_bit_for_bit(tmp_path, albert, dtype):
    model = making.model(dtype=dtype, special=True)
    convert.save(model, tmp_path / "a", format="safetensors")
    code, _, err = albert("convert", tmp_path / "a", tmp_path / "b", "--to", "safetensors")
    assert (code, err) == (0, "")
    assert making.same(model, convert.load(tmp_path / "b")) is True


def test_hidden_bits_are_reported_by_diff(tmp_path, albert):
    """-0 against 0 and one NaN against another differ in bits alone."""
    for name, zero in (("a", 0.0), ("b", -0.0)):
        model = making.model()
        words = model.tensors[WORDS].read()
        words[0, 0] = zero
        convert.save(model, tmp_path / name)
    code, out, _ = albert("diff", tmp_path / "a", tmp_path / "b")
    assert code == 1
    assert re.search(rf"differs +{re.escape(WORDS)} +same values, other bits \(zeros' signs or NaNs\)", out)


def test_position_ids_buffer_is_dropped(weights, source, albert, tmp_path):
    def change(header, data):
        ids = np.arange(10, dtype=np.int64)
        header["albert.embeddings.position_ids"] = {
            "dtype": "I64",
            "shape": [1, 10],
            "data_offsets": [len(data), len(data) + ids.nbytes],
        }
        return data + ids.tobytes()

    rewrite(weights, change)
    code, out, err = albert("convert", source, tmp_path / "x.npz", "--json")
    assert code == 0, err
    assert json.loads(out)["dropped"] == {"position_ids buffer": 1}


def test_tied_decoder_copies(weights, source, albert, tmp_path):
    model = making.model()
    add(weights, "predictions.decoder.weight", model.tensors[WORDS].read())
    add(weights, "predictions.decoder.bias", model.tensors["predictions.bias"].read())
    code, out, err = albert("convert", source, tmp_path / "x.npz", "--json")
    assert code == 0, err
    assert json.loads(out)["dropped"] == {"tied decoder copies": 2}
    assert making.same(convert.load(tmp_path / "x.npz"), model) is True


@pytest.mark.parametrize("change", ["value", "bit"])
def test_untied_decoder(weights, source, refused, tmp_path, albert, change):
    """As transformers 5 does, a decoder that differs from what it is tied to is kept; Google has no name for it."""
    copy = making.model().tensors[WORDS].read().copy()
    if change == "value":
        copy[3, 3] += 1
    else:
        copy.view(np.uint32)[0, 0] ^= 1
    add(weights, "predictions.decoder.weight", copy)
    before = refused("convert", source, tmp_path / "tf", "--to", "tf")
    assert before == f"{source}: the target format has no name for predictions.decoder.weight; choose another format"
    for target in ("out.npz", "out"):
        code, _, err = albert("convert", source, tmp_path / target)
        assert code == 0, err
        assert making.same(convert.load(source), convert.load(tmp_path / target)) is True
    assert convert.load(tmp_path / "out").tensors["predictions.decoder.weight"].read().tobytes() == copy.tobytes()


@pytest.mark.parametrize("name", ["crf.transitions", "classifier.dense.weight", "span_head.0.weight"])
def test_a_head_that_no_table_knows_is_left_out_by_name(weights, source, albert, tmp_path, name):
    add(weights, name, making.values((3, 3), 1))
    code, out, err = albert("convert", source, tmp_path / "x.npz", "--json")
    assert code == 0, err
    assert json.loads(out)["dropped"] == {f"tensors of a head that is not known here ({name})": 1}
    assert making.same(convert.load(tmp_path / "x.npz"), making.model()) is True


def without_prefix(path):
    header, data = parts(path)
    kept = {name.removeprefix("albert."): entry for name, entry in header.items()}
    path.write_bytes(safetensors_bytes(kept, data))


def test_names_of_the_bare_model(tmp_path):
    model = making.model(without=("mlm", "sop", "classifier", "qa"))
    convert.save(model, tmp_path / "hf")
    without_prefix(tmp_path / "hf" / "model.safetensors")
    assert making.same(convert.load(tmp_path / "hf"), model) is True


def test_shards_are_read(source):
    shard(source)
    assert making.same(convert.load(source), making.model(files=convert.load(source).tokenizer, step=None)) is True
