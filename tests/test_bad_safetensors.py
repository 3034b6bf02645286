"""Damaged and hostile safetensors files and shard indices: each refused in one line that names the file."""

import json
import re
import shutil
import struct

import making
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import TINY, safetensors_bytes

from converters import convert
from converters.errors import CheckpointError

WORDS = "albert.embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "hf"
    convert.save(making.model(), path, format="safetensors")
    return path


@pytest.fixture
def source(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture
def weights(source):
    return source / "model.safetensors"


def parts(path):
    """Header and data of a file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(path, change):
    """Write a file anew after `change(header, data)`, which may return new data."""
    header, data = parts(path)
    data = change(header, data) or data
    path.write_bytes(safetensors_bytes(header, data))


def unsound(message, path):
    assert message.startswith((f"{path}: not a sound safetensors file (", f"{path} is not")), message
    return True


# --- the header


@pytest.mark.parametrize("length", [0, 7, 2**63, 2**64 - 1, 100_000_001, 10**12])
def test_header_length(weights, source, refused, tmp_path, length):
    weights.write_bytes(struct.pack("<Q", length) + weights.read_bytes()[8:])
    assert unsound(refused("convert", source, tmp_path / "out"), weights)


def test_header_really_too_large(weights, source, refused):
    with open(weights, "wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(100_000_001 + 8)
    assert unsound(refused("inspect", source), weights)


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "not UTF-8": b'{"\xff\xfe": 1}',
    "not JSON": b"{nothing of it",
    "not an object": b"[1, 2, 3]",
    "does not begin with a brace": b' {"a": {}}',
    "duplicate tensor": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "nested metadata": json.dumps({"__metadata__": {"a": {"b": "c"}}, "x": ENTRY}).encode(),
    "metadata of numbers": json.dumps({"__metadata__": {"a": 1}, "x": ENTRY}).encode(),
    "metadata of text": json.dumps({"__metadata__": "text", "x": ENTRY}).encode(),
    "entry of another kind": b'{"x": 5}',
    "no offsets": b'{"x": {"dtype": "F32", "shape": [1]}}',
    "three offsets": json.dumps({"x": ENTRY | {"data_offsets": [0, 4, 8]}}).encode(),
    "unknown dtype": json.dumps({"x": ENTRY | {"dtype": "F31"}}).encode(),
    "shape of text": json.dumps({"x": ENTRY | {"shape": ["1"]}}).encode(),
    "negative shape": json.dumps({"x": ENTRY | {"shape": [-1]}}).encode(),
    "fractional shape": json.dumps({"x": ENTRY | {"shape": [1.0]}}).encode(),
    "overflowing shape": json.dumps({"x": ENTRY | {"shape": [2**32, 2**32, 2**32]}}).encode(),
    "shape beyond 64 bits": json.dumps({"x": ENTRY | {"shape": [2**70]}}).encode(),
    "deeply nested": b"[" * 100_000,
    "deep in an object": b'{"a":' * 50_000,
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_header(weights, source, refused, tmp_path, name):
    weights.write_bytes(safetensors_bytes(HEADERS[name], b"abcd"))
    assert unsound(refused("convert", source, tmp_path / "out"), weights)


def test_duplicate_metadata_key(weights, source, refused):
    header, data = parts(weights)
    text = json.dumps(header).replace('{"format": "pt"', '{"format": "pt", "format": "np"', 1)
    weights.write_bytes(safetensors_bytes(text.encode(), data))
    assert "'format' occurs twice" in refused("inspect", source)


def test_dtype_of_no_weights(weights, source, refused):
    def change(header, data):
        header[WORDS]["dtype"] = "U32"

    rewrite(weights, change)
    assert refused("inspect", source) == f"{weights}: tensor {WORDS} is U32, not one of F32, F16, BF16, F64, I64"


@pytest.mark.parametrize("step", ["seven", "", "1.5", "99999999999999999999", str(2**63)])
def test_global_step_that_is_no_number(weights, source, refused, step):
    def change(header, data):
        header["__metadata__"]["global_step"] = step

    rewrite(weights, change)
    assert refused("inspect", source) == f"{source}: global_step in the metadata is {step!r}, not a whole number"


# --- offsets


def overlap(header, data):
    first, second = list(header)[1:3]
    header[second]["data_offsets"] = header[first]["data_offsets"]
    header[second]["shape"] = header[first]["shape"]


def hole(header, data):
    last = list(header)[-1]
    begin, end = header[last]["data_offsets"]
    header[last]["data_offsets"] = [begin + 4, end + 4]
    return data + b"\0" * 4


def past_end(header, data):
    last = list(header)[-1]
    begin, end = header[last]["data_offsets"]
    header[last] |= {"data_offsets": [begin, end + 4], "shape": [(end + 4 - begin) // 4]}


def reversed_(header, data):
    last = list(header)[-1]
    header[last]["data_offsets"].reverse()


def negative(header, data):
    header[list(header)[1]]["data_offsets"] = [-4, 4]


def overflow(header, data):
    header[list(header)[-1]]["data_offsets"] = [2**64 - 4, 2**64 - 1]


def beyond_64_bits(header, data):
    header[list(header)[-1]]["data_offsets"] = [2**64, 2**64 + 4]


def shape_against_offsets(header, data):
    header[WORDS]["shape"] = [29, 6]


def trailing(header, data):
    return data + b"and more"


def leading(header, data):
    for entry in list(header.values())[1:]:
        entry["data_offsets"] = [place + 8 for place in entry["data_offsets"]]
    return b"poison!!" + data


@pytest.mark.parametrize(
    "change",
    [
        *(overlap, hole, past_end, reversed_, negative, overflow, beyond_64_bits),
        *(shape_against_offsets, trailing, leading),
    ],
)
def test_hostile_offsets(weights, source, refused, tmp_path, change):
    rewrite(weights, change)
    assert unsound(refused("convert", source, tmp_path / "out"), weights)


# --- truncation


def test_truncated_anywhere(weights, source):
    content = weights.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, _ = parts(weights)
    edges = {
        8 + length + end for name, entry in header.items() if name != "__metadata__" for end in entry["data_offsets"]
    }
    cuts = {len(content) * percent // 100 for percent in range(100)} | set(range(10)) | {8 + length - 1, 8 + length}
    cuts |= {edge + step for edge in edges for step in (-1, 0, 1)}
    for cut in sorted(cut for cut in cuts if cut < len(content)):
        weights.write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(weights))}"):
            convert.load(source)


def test_header_cut_at_every_byte(weights, source):
    """Every place of the JSON, with the length told right, so that the parser sees it."""
    content = weights.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length].rstrip(), content[8 + length :]
    for cut in range(0, len(header), 3):
        weights.write_bytes(safetensors_bytes(header[:cut], data))
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(weights))}"):
            convert.load(source)


def test_shrunk_after_it_was_opened(weights, source):
    checkpoint = convert.load(source)
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="became shorter while it was read"):
        [tensor.read() for tensor in checkpoint.tensors.values()]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_changed_bytes_give_our_error_or_a_model(sound, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz") / "hf"
    shutil.copytree(sound, folder)
    content = bytearray((folder / "model.safetensors").read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, length + 12))] = data.draw(st.integers(0, 255))
    (folder / "model.safetensors").write_bytes(content)
    try:
        checkpoint = convert.load(folder)
    except CheckpointError as error:
        assert str(folder) in str(error)
    else:
        assert all(tensor.read().shape == tensor.shape for tensor in checkpoint.tensors.values())


# --- shapes, values


@pytest.mark.parametrize(("shape", "size"), [([], 1), ([0, 6], 0), ([30, 6, 1], 180), ([1] * 70, 1)])
def test_tensors_of_odd_rank_are_told_by_shape(weights, source, refused, shape, size):
    def change(header, data):
        begin, end = header[WORDS]["data_offsets"]
        gone = end - begin - 4 * size
        for name, entry in header.items():
            if name != "__metadata__" and entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [place - gone for place in entry["data_offsets"]]
        header[WORDS] |= {"shape": shape, "data_offsets": [begin, begin + 4 * size]}
        return data[: begin + 4 * size] + data[end:]

    rewrite(weights, change)
    assert refused("inspect", source) == (
        f"{source} does not match its config: 1 tensor of another shape: {WORDS} is {shape}, "
        "the config asks for [30, 6]"
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, making.BFLOAT16, np.float64])
def test_special_values_are_kept_bit_for_bit(tmp_path, albert, dtype):
    model = making.model(dtype=dtype, special=True)
    convert.save(model, tmp_path / "a", format="safetensors")
    code, _, err = albert("convert", tmp_path / "a", tmp_path / "b", "--to", "safetensors")
    assert (code, err) == (0, "")
    assert making.same(model, convert.load(tmp_path / "b")) is True


def test_hidden_bits_are_told_by_diff(tmp_path, albert):
    """-0 against 0 and one NaN against another differ in bits alone."""
    for name, zero in (("a", 0.0), ("b", -0.0)):
        model = making.model()
        words = model.tensors[WORDS].read()
        words[0, 0] = zero
        convert.save(model, tmp_path / name)
    code, out, _ = albert("diff", tmp_path / "a", tmp_path / "b")
    assert code == 1
    assert re.search(rf"differs +{re.escape(WORDS)} +same values, other bits \(zeros' signs or NaNs\)", out)


# --- names


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


def add(path, name, array):
    def change(header, data):
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        return data + array.tobytes()

    rewrite(path, change)


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
    """As transformers 5 does, a decoder that differs from what it is tied to is kept; other formats have no place."""
    copy = making.model().tensors[WORDS].read().copy()
    if change == "value":
        copy[3, 3] += 1
    else:
        copy.view(np.uint32)[0, 0] ^= 1
    add(weights, "predictions.decoder.weight", copy)
    before = refused("convert", source, tmp_path / "out.npz")
    assert before == f"{source}: the target format has no name for predictions.decoder.weight"
    code, _, err = albert("convert", source, tmp_path / "out")
    assert code == 0, err
    assert making.same(convert.load(source), convert.load(tmp_path / "out")) is True
    assert convert.load(tmp_path / "out").tensors["predictions.decoder.weight"].read().tobytes() == copy.tobytes()


def test_untied_decoder_of_another_shape(weights, source, refused):
    add(weights, "predictions.decoder.weight", making.model().tensors[WORDS].read()[:-1])
    assert refused("inspect", source) == (
        f"{source} does not match its config: 1 tensor of another shape: predictions.decoder.weight is [29, 6], the "
        "config asks for [30, 6]"
    )


@pytest.mark.parametrize("name", ["crf.transitions", "classifier.dense.weight", "span_head.0.weight"])
def test_a_head_that_no_table_knows_is_left_out_by_name(weights, source, albert, tmp_path, name):
    add(weights, name, making.values((3, 3), 1))
    code, out, err = albert("convert", source, tmp_path / "x.npz", "--json")
    assert code == 0, err
    assert json.loads(out)["dropped"] == {f"tensors of a head that is not known here ({name})": 1}
    assert making.same(convert.load(tmp_path / "x.npz"), making.model()) is True


def test_unknown_tensor(weights, source, refused):
    add(weights, "albert.oddity", making.values((3,), 1))
    assert refused("inspect", source) == f"{source} does not match its config: 1 tensor unknown: albert.oddity"


def without_prefix(path):
    header, data = parts(path)
    kept = {name.removeprefix("albert."): entry for name, entry in header.items()}
    path.write_bytes(safetensors_bytes(kept, data))


def test_names_of_the_bare_model(tmp_path):
    model = making.model(without=("mlm", "sop", "classifier", "qa"))
    convert.save(model, tmp_path / "hf")
    without_prefix(tmp_path / "hf" / "model.safetensors")
    assert making.same(convert.load(tmp_path / "hf"), model) is True


def test_another_model_is_told_by_its_own_names(weights, source, refused):
    header = {"__metadata__": {}, "bert.encoder.layer.0.attention.self.query.weight": ENTRY}
    weights.write_bytes(safetensors_bytes(header, b"abcd"))
    message = refused("inspect", source)
    assert message == (
        f"{source}: a BERT, whose layers share no weights, not an ALBERT; seen in tensor "
        "bert.encoder.layer.0.attention.self.query.weight"
    )


# --- shards


@pytest.fixture
def sharded(sound, tmp_path):
    """The model in two shards with an index, written by hand."""
    folder = tmp_path / "sharded"
    folder.mkdir()
    shutil.copy(sound / "config.json", folder)
    header, data = parts(sound / "model.safetensors")
    del header["__metadata__"]
    names, weight_map = list(header), {}
    for number, group in enumerate((names[::2], names[1::2]), 1):
        shard, content = {}, b""
        for name in group:
            begin, end = header[name]["data_offsets"]
            shard[name] = header[name] | {"data_offsets": [len(content), len(content) + end - begin]}
            content += data[begin:end]
        file = f"model-0000{number}-of-00002.safetensors"
        (folder / file).write_bytes(safetensors_bytes(shard, content))
        weight_map |= dict.fromkeys(group, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def edit_map(folder, change):
    index = folder / "model.safetensors.index.json"
    data = json.loads(index.read_text())
    change(data["weight_map"])
    index.write_text(json.dumps(data))
    return index


def test_shards_are_read(sharded):
    assert making.same(convert.load(sharded), making.model(files=convert.load(sharded).tokenizer, step=None)) is True


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".", "..", "../sharded/model.safetensors"])
def test_shard_outside_the_directory(sharded, refused, name):
    index = edit_map(sharded, lambda names: names.update({WORDS: name}))
    assert refused("inspect", sharded) == f"{index}: names the shard {name!r}, which is not a plain file name"


@pytest.mark.parametrize("name", ["absent.safetensors", "nul\0.safetensors", "\ud800"])
def test_missing_shard(sharded, refused, name):
    edit_map(sharded, lambda names: names.update(dict.fromkeys(names, name)))
    message = refused("inspect", sharded)
    assert message.startswith(f"{sharded}: the shard ")
    assert message.endswith("that model.safetensors.index.json names is missing")


def test_shard_of_an_endless_name(sharded, refused):
    edit_map(sharded, lambda names: names.update(dict.fromkeys(names, "x" * 300)))
    assert "File name too long" in refused("inspect", sharded)


def test_missing_shard_file(sharded, refused):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    assert refused("inspect", sharded) == (
        f"{sharded}: the shard model-00002-of-00002.safetensors that model.safetensors.index.json names is missing"
    )


def test_truncated_shard(sharded, refused):
    shard = sharded / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert unsound(refused("inspect", sharded), shard)


def test_shard_with_an_extra_tensor(sharded, refused):
    def forget(names):
        del names["predictions.bias"]

    edit_map(sharded, forget)
    message = refused("inspect", sharded)
    assert re.search(
        r"model-0000\d-of-00002.safetensors: holds predictions.bias, "
        r"which model.safetensors.index.json does not place there$",
        message,
    )


def test_tensor_in_two_shards(sharded, refused):
    first, second = (sharded / f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    header, data = parts(first)
    name = next(iter(header))
    begin, end = header[name]["data_offsets"]
    add(second, name, np.frombuffer(data[begin:end], np.float32).reshape(header[name]["shape"]))
    assert refused("inspect", sharded) == (
        f"{second}: holds {name}, which model.safetensors.index.json does not place there"
    )


def test_shard_that_lacks_a_tensor(sharded, refused):
    edit_map(sharded, lambda names: names.update(phantom="model-00001-of-00002.safetensors"))
    assert refused("inspect", sharded) == (
        f"{sharded / 'model-00001-of-00002.safetensors'}: lacks phantom, "
        "which model.safetensors.index.json places there"
    )


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": []}']
)
def test_index_without_a_map(sharded, refused, content):
    index = sharded / "model.safetensors.index.json"
    index.write_text(content)
    assert refused("inspect", sharded) == f"{index}: no weight_map from tensor to file"


def test_index_that_is_not_json(sharded, refused):
    index = sharded / "model.safetensors.index.json"
    index.write_text('{"weight_map": ')
    assert refused("inspect", sharded) == f"{index} is not JSON: Expecting value at line 1 column 16"


def test_index_with_a_key_twice(sharded, refused):
    index = sharded / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "x", "a": "y"}}')
    assert refused("inspect", sharded) == f"{index} is not a usable JSON config: key 'a' occurs twice"


def test_both_one_file_and_shards(sharded, sound, refused):
    shutil.copy(sound / "model.safetensors", sharded)
    assert refused("inspect", sharded) == (
        f"{sharded}: holds both model.safetensors and model.safetensors.index.json; remove the one that is out of date"
    )


# --- optimizer file


def test_optimizer_file(tmp_path, refused, albert):
    convert.save(making.model(optimizer=True), tmp_path / "hf")
    slots = tmp_path / "hf" / "optimizer.safetensors"
    sound = slots.read_bytes()
    slots.write_bytes(sound[:-1])
    assert unsound(refused("inspect", tmp_path / "hf"), slots)
    slots.write_bytes(sound)
    add(slots, "predictions.bias", making.values((30,), 1))
    assert refused("inspect", tmp_path / "hf") == (f"{slots}: predictions.bias is no optimizer slot (variable/adam_m)")
    slots.write_bytes(sound)
    add(slots, "qa_outputs.bias/adam_m", making.values((2,), 1))
    assert refused("convert", tmp_path / "hf", tmp_path / "x.npz") == (
        f"{tmp_path / 'hf'}: optimizer slot qa_outputs.bias/adam_m has no variable"
    )


def test_no_config(source, refused):
    (source / "config.json").unlink()
    assert refused("inspect", source) == f"{source}: no config.json beside the weights; copy the model's one there"


def test_no_weights(source, weights, refused):
    weights.unlink()
    assert refused("inspect", source) == (
        f"{source}: holds a config (config.json) and no weights; copy the model's there (model.safetensors or another "
        "kind)"
    )


def test_weights_that_are_a_directory(source, weights, refused):
    weights.unlink()
    weights.mkdir()
    assert refused("inspect", source) == f"{weights}: a directory where a file was expected"


def test_empty_file(source, weights, refused):
    weights.write_bytes(b"")
    assert unsound(refused("inspect", source), weights)


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer_config.json"])
def test_damaged_tokenizer(source, refused, name):
    file = source / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    message = refused("inspect", source)
    assert message.startswith(str(source))
    assert "not a SentencePiece model (truncated or another file)" in message or "is not JSON" in message


def test_tiny_is_tiny():
    """The cuts above reach every tensor: the file is small enough for a load at each of them."""
    assert sum(tensor.nbytes for tensor in making.model(TINY).tensors.values()) < 10_000
