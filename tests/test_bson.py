"""Julia's BSON: its own files, the same values both ways, bytes pinned by hand, and models as Julia would save them."""

import dataclasses
import json
import os
import struct

import making
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from making import TINY, backref, bson_document, julia_array, julia_dict, julia_members, julia_type, write_bson

from albert_cli.tokenization.tokenizer import Tokenizer
from converters import convert
from converters.checkpoint import Tensor
from converters.config import EncoderConfig
from converters.errors import CheckpointError, CorruptError
from converters.julia import file as julia_file
from converters.julia.values import Symbol, Type
from converters.tokenizers.files import TokenizerFiles

MOST = 2**20
KERNEL = "bert/encoder/transformer/group_0/inner_group_0/ffn_1/intermediate/dense/kernel"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "albert_base_v1.bson.tfbson"


def values(path):
    """Everything in a file."""
    with julia_file.opened(path) as file:
        return {name: file.value(node, name, MOST) for name, node in file.top.items()}


def same(a, b):
    """Equal with types and bits."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.dtype.hasobject:
            return (
                a.dtype == b.dtype and a.shape == b.shape and same(a.T.reshape(-1).tolist(), b.T.reshape(-1).tolist())
            )
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return struct.pack("<d", a) == struct.pack("<d", b) if isinstance(a, float) else a == b


# --- Julia's own files


def test_complex_vector_written_by_julia(shared_data, tmp_path):
    found = values(shared_data / "bson/julia-test.bson")
    assert list(found) == ["a", "b"]
    assert found["b"] == "Hello, World!"
    assert found["a"].dtype == np.dtype([("re", "<i8"), ("im", "<i8")])
    assert found["a"].tolist() == [(1, 2), (3, 4)]
    julia_file.write(tmp_path / "again.bson", found)
    assert (tmp_path / "again.bson").read_bytes() == (shared_data / "bson/julia-test.bson").read_bytes()


def test_matrix_written_by_an_older_julia(shared_data, tmp_path):
    source = shared_data / "bson/julia-test_MultiDimsArray_from_64bit.bson"
    found = values(source)["a"]
    assert same(found, np.ones((2, 2), np.float32))
    julia_file.write(tmp_path / "again.bson", {"a": found})
    older = bson_document({"a": julia_array(found, ("Main",))})
    newer = bson_document({"a": julia_array(found)})
    assert (source.read_bytes(), (tmp_path / "again.bson").read_bytes()) == (older, newer)


# --- values


def test_what_julia_lowers(path):
    """Every row of BSON.jl's lowering, laid out by hand."""
    any_type, string = julia_type("Core", "Any"), julia_type("Main", "Core", "String")
    write_bson(
        path,
        {
            "nothing": None,
            "truth": True,
            "small": making.Plain(b"\x10" + struct.pack("<i", -5)),
            "large": 2**62,
            "real": 0.5,
            "text": "é\0中",
            "bytes": b"\0\xff",
            "vector": ["a", [1, None], {"x": 1}],
            "symbol": {"tag": "symbol", "name": "δ"},
            "tuple": {"tag": "tuple", "data": [1, ["b"]]},
            "dict": julia_dict({"k": {"tag": "symbol", "name": "v"}, "": None}, any_type),
            "keys": {
                "tag": "struct",
                "type": julia_type("Base", "Dict", params=[julia_type("Core", "Int64"), any_type]),
                "data": [julia_array(np.array([3, 4])), ["three", "four"]],
            },
            "matrix": julia_array(np.array([[1, 2, 3], [4, 5, 6]], np.float32)),
            "point": julia_array(np.array(7, np.int64)),
            "none": julia_array(np.empty((2, 0, 3), np.float64)),
            "texts": {"tag": "array", "type": string, "size": [2, 2], "data": ["a", "b", "c", "d"]},
            "wide": {
                "tag": "struct",
                "type": julia_type("Core", "Int128"),
                "data": (-(2**100)).to_bytes(16, "little", signed=True),
            },
            "single": {"tag": "struct", "type": julia_type("Main", "Core", "Float32"), "data": struct.pack("<f", 1.5)},
            "type": julia_type(
                "Main", "Base", "Dict", params=[string, julia_type("Core", "Array", params=[any_type, 2])]
            ),
            "shared": [backref(1), backref(1), backref(2)],
            "_backrefs": [["once"], julia_array(np.array([9], np.int64))],
        },
    )
    found = values(path)
    texts = np.empty((2, 2), object)
    texts[:] = [["a", "c"], ["b", "d"]]
    string, any_type = Type(("Core", "String")), Type(("Core", "Any"))
    wanted = {
        "nothing": None,
        "truth": True,
        "small": -5,
        "large": 2**62,
        "real": 0.5,
        "text": "é\0中",
        "bytes": b"\0\xff",
        "vector": ["a", [1, None], {Symbol("x"): 1}],
        "symbol": Symbol("δ"),
        "tuple": (1, ["b"]),
        "dict": {"k": Symbol("v"), "": None},
        "keys": {3: "three", 4: "four"},
        "matrix": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        "point": np.array(7, np.int64),
        "none": np.empty((2, 0, 3), np.float64),
        "texts": texts,
        "wide": -(2**100),
        "single": 1.5,
        "type": Type(("Base", "Dict"), (string, Type(("Core", "Array"), (any_type, 2)))),
        "shared": [["once"], ["once"], np.array([9], np.int64)],
    }
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert same(found[name], value), name
    assert str(found["type"]) == "Dict{String, Array{Any, 2}}"


def objects(items):
    """A 2 x 2 array of anything."""
    found = np.empty(4, object)
    for place, item in enumerate(items):
        found[place] = item
    return found.reshape(2, 2)


NUMBERS = ["<f2", "<f4", "<f8", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "?", "<c8", "<c16"]
BITS = arrays.arrays(
    st.sampled_from([*NUMBERS, [("re", "<i8"), ("im", "<i8")]]),
    arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
).filter(lambda array: (array.dtype, array.ndim) != (np.uint8, 1))  # a Vector{UInt8} is plain bytes
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**127), 2**127 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9)
    | st.text(max_size=3).map(Symbol)
    | st.sampled_from(
        [Type(("Core", "Float32")), Type(("Base", "Dict"), (Type(("Core", "String")), Type(("Core", "Any"))))]
    )
    | BITS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3)
            .filter(lambda key: key not in ("tag", "$ref", "$id"))
            .map(Symbol),
            inner,
            min_size=1,
            max_size=3,
        )
        | st.lists(inner, min_size=4, max_size=4).map(objects)
    ),
    max_leaves=8,
)


@given(held=st.dictionaries(st.sampled_from("abcdé"), ANY, max_size=4))
def test_any_value_comes_back(tmp_path_factory, held):
    path = tmp_path_factory.getbasetemp() / "any.bson"
    julia_file.write(path, held)
    assert same(values(path), held)
    written = path.read_bytes()
    julia_file.write(path, values(path))
    assert path.read_bytes() == written


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (2**127, "a whole number of 128 bits, where Julia's have 128 at the most"),
        ("\ud800", "'\\ud800', which is no Unicode text"),
        ({Symbol("tag"): 1}, "a Dict with the Symbol 'tag', which a file cannot distinguish from others"),
        ({Symbol("a\0b"): 1}, "a Dict with the Symbol 'a\\x00b', which a file cannot distinguish from others"),
        ({1, 2}, "a set, for which Julia's files have no place"),
        (np.zeros(2, "M8[s]"), "Julia has no datetime64[s]"),
    ],
)
def test_values_that_julia_has_no_place_for(path, value, fault):
    with pytest.raises(CheckpointError) as refused:
        julia_file.write(path, {"config": {"key": [value]}})
    assert fault in str(refused.value)
    assert not path.exists()


# --- bytes

# ruff: noqa: ISC001 (one literal for each element of a document)
# Every byte by BSON.jl's rules: bson_doc and bson_pair of write.jl, the lowerings of extensions.jl.
DATATYPE = b"\x02tag\0\x09\0\0\0datatype\0\x04params\0\x05\0\0\0\0"
ANY_TYPE = b"\x46\0\0\0" + DATATYPE + b"\x04name\0\x1c\0\0\0\x020\0\x05\0\0\0Core\0\x021\0\x04\0\0\0Any\0\0\0"
STRING = b"\x49\0\0\0" + DATATYPE + b"\x04name\0\x1f\0\0\0\x020\0\x05\0\0\0Core\0\x021\0\x07\0\0\0String\0\0\0"
FLOAT = b"\x4a\0\0\0" + DATATYPE + b"\x04name\0\x20\0\0\0\x020\0\x05\0\0\0Core\0\x021\0\x08\0\0\0Float32\0\0\0"
INT = b"\x48\0\0\0" + DATATYPE + b"\x04name\0\x1e\0\0\0\x020\0\x05\0\0\0Core\0\x021\0\x06\0\0\0Int64\0\0\0"
VARIABLE = b"\x4a\0\0\0" + DATATYPE + b"\x04name\0\x20\0\0\0\x020\0\x05\0\0\0Core\0\x021\0\x08\0\0\0TypeVar\0\0\0"
DICT_NAME = b"\x04name\0\x1d\0\0\0\x020\0\x05\0\0\0Base\0\x021\0\x05\0\0\0Dict\0\0\0"
REF_1 = b"\x23\0\0\0\x02tag\0\x08\0\0\0backref\0\x12ref\0\x01\0\0\0\0\0\0\0\0"
REF_2 = b"\x23\0\0\0\x02tag\0\x08\0\0\0backref\0\x12ref\0\x02\0\0\0\0\0\0\0\0"
ARRAY_TYPE = (
    b"\x1e\x01\0\0" b"\x02tag\0\x09\0\0\0unionall\0"
    b"\x03body\0\xd9\0\0\0" b"\x02tag\0\x09\0\0\0unionall\0"
    b"\x03body\0\x94\0\0\0" b"\x02tag\0\x09\0\0\0datatype\0"
    b"\x04params\0\x51\0\0\0" b"\x030\0" + REF_1 + b"\x031\0" + REF_2 + b"\0"
    b"\x04name\0\x1e\0\0\0" b"\x020\0\x05\0\0\0Core\0" b"\x021\0\x06\0\0\0Array\0" b"\0\0"
    b"\x03var\0" + REF_2 + b"\0"
    b"\x03var\0" + REF_1 + b"\0"
)  # fmt: skip
GOLDEN = (
    b"\xbc\x06\0\0"
    # Dict{String,Any}("a" => 1, "b" => "c")
    b"\x03config\0\x38\x01\0\0" b"\x02tag\0\x07\0\0\0struct\0"
    b"\x03type\0\xdc\0\0\0" b"\x02tag\0\x09\0\0\0datatype\0"
    b"\x04params\0\x9a\0\0\0" b"\x030\0" + STRING + b"\x031\0" + ANY_TYPE + b"\0" + DICT_NAME +
    b"\x04data\0\x3b\0\0\0"
    b"\x040\0\x17\0\0\0" b"\x020\0\x02\0\0\0a\0" b"\x021\0\x02\0\0\0b\0" b"\0"
    b"\x041\0\x19\0\0\0" b"\x120\0\x01\0\0\0\0\0\0\0" b"\x021\0\x02\0\0\0c\0" b"\0"
    b"\0\0"
    # Dict{String,Array}("k" => Float32[1 2; 3 4; 5 6], "global_step" => fill(7))
    b"\x03weights\0\x34\x03\0\0" b"\x02tag\0\x07\0\0\0struct\0"
    b"\x03type\0\xb4\x01\0\0" b"\x02tag\0\x09\0\0\0datatype\0"
    b"\x04params\0\x72\x01\0\0" b"\x030\0" + STRING + b"\x031\0" + ARRAY_TYPE + b"\0" + DICT_NAME +
    b"\x04data\0\x5f\x01\0\0"
    b"\x040\0\x21\0\0\0" b"\x020\0\x02\0\0\0k\0" b"\x021\0\x0c\0\0\0global_step\0" b"\0"
    b"\x041\0\x33\x01\0\0"
    b"\x030\0\xa8\0\0\0" b"\x02tag\0\x06\0\0\0array\0" b"\x03type\0" + FLOAT +
    b"\x04size\0\x1b\0\0\0" b"\x120\0\x03\0\0\0\0\0\0\0" b"\x121\0\x02\0\0\0\0\0\0\0" b"\0"
    b"\x05data\0\x18\0\0\0\0"
    b"\0\0\x80\x3f" b"\0\0\x40\x40" b"\0\0\xa0\x40" b"\0\0\0\x40" b"\0\0\x80\x40" b"\0\0\xc0\x40" b"\0"
    b"\x031\0\x80\0\0\0" b"\x02tag\0\x06\0\0\0array\0" b"\x03type\0" + INT +
    b"\x04size\0\x05\0\0\0\0"
    b"\x05data\0\x08\0\0\0\0" b"\x07\0\0\0\0\0\0\0" b"\0"
    b"\0\0\0"
    # ["<unk>\t0"] and UInt8[10, 5]
    b"\x04vocab\0\x14\0\0\0" b"\x020\0\x08\0\0\0<unk>\t0\0" b"\0"
    b"\x05spiece\0\x02\0\0\0\0" b"\x0a\x05"
    # the variables of Array{T,N} where N where T
    b"\x04_backrefs\0\x05\x02\0\0"
    b"\x030\0\xfd\0\0\0" b"\x02tag\0\x07\0\0\0struct\0" b"\x03type\0" + VARIABLE + b"\x04data\0\x92\0\0\0"
    b"\x030\0\x21\0\0\0" b"\x02tag\0\x07\0\0\0symbol\0" b"\x02name\0\x02\0\0\0T\0" b"\0"
    b"\x031\0\x1d\0\0\0" b"\x02tag\0\x0f\0\0\0jl_bottom_type\0" b"\0"
    b"\x032\0" + ANY_TYPE + b"\0\0"
    b"\x031\0\xfd\0\0\0" b"\x02tag\0\x07\0\0\0struct\0" b"\x03type\0" + VARIABLE + b"\x04data\0\x92\0\0\0"
    b"\x030\0\x21\0\0\0" b"\x02tag\0\x07\0\0\0symbol\0" b"\x02name\0\x02\0\0\0N\0" b"\0"
    b"\x031\0\x1d\0\0\0" b"\x02tag\0\x0f\0\0\0jl_bottom_type\0" b"\0"
    b"\x032\0" + ANY_TYPE + b"\0\0"
    b"\0\0"
)  # fmt: skip


def test_golden_bytes(path):
    kernel = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    tensors = {"k": Tensor.of(kernel), "global_step": Tensor.of(np.array(7, np.int64))}
    values_of = {"config": {"a": 1, "b": "c"}, "weights": julia_file.Arrays(tensors), "vocab": ["<unk>\t0"]}
    julia_file.write(path, values_of | {"spiece": b"\x0a\x05"})
    assert path.read_bytes() == GOLDEN
    found = values(path)
    assert found["config"] == {"a": 1, "b": "c"}
    assert same(found["weights"], {"k": kernel, "global_step": np.array(7, np.int64)})
    assert (found["vocab"], found["spiece"]) == (["<unk>\t0"], b"\x0a\x05")


def test_a_model_is_what_the_same_values_are_in_a_small_file(path):
    """The streamed writer lays out as the plain one does: same structure, same bytes."""
    model = making.model(optimizer=True)
    convert.save(model, path)
    found = values(path)
    arrays_of = {name: Tensor.of(array) for name, array in found["weights"].items()}
    julia_file.write(path.with_name("again"), found | {"weights": julia_file.Arrays(arrays_of)})
    assert path.with_name("again").read_bytes() == path.read_bytes()
    assert list(found) == ["config", "weights", "vocab", "spiece"]


# --- models as Julia saves them


@pytest.mark.parametrize("main", [(), ("Main",)], ids=["newer", "older"])
@pytest.mark.parametrize("rows", [True, False], ids=["1 x n", "n"])
def test_a_model_saved_by_julia(path, main, rows):
    """Types shared through backrefs, keys in any order; the same model as Google's files hold."""
    write_bson(path, julia_members(main=main, rows=rows))
    found = convert.load(path)
    making.tf1(path.with_name("tf"))
    wanted = convert.load(path.with_name("tf"))
    assert found.config.extra == {"filename": "albert_base_v1"}
    files = dataclasses.replace(wanted.tokenizer, spiece=None, vocab=making.LINES)
    config = dataclasses.replace(wanted.config, extra=found.config.extra)
    assert making.same(found, dataclasses.replace(wanted, config=config, tokenizer=files)) is True
    assert found.tensors["albert.pooler.bias"].shape == (8,)
    assert found.tokenizer.rebuilt


def test_everything_that_is_shared(path):
    """Arrays under two names, keys, values, whole Dicts: what Julia has once is there once, in `_backrefs`."""
    members = julia_members()
    weights, shared = members["weights"], members["_backrefs"]
    names, arrays_of = weights["data"]
    place, other = names.index("bert/pooler/dense/bias"), names.index("bert/embeddings/LayerNorm/beta")
    words = names.index("bert/embeddings/word_embeddings")
    arrays_of[other] = julia_array(np.zeros((1, 6), np.float32))
    shared += [arrays_of[place], arrays_of[words]["data"], names, weights, members["vocab"], members["config"]]
    arrays_of[place], arrays_of[words]["data"], weights["data"][0] = backref(5), backref(6), backref(7)
    write_bson(path.with_name("plain.bson"), julia_members())
    write_bson(path, {"weights": backref(8), "vocab": backref(9), "config": backref(10), "_backrefs": shared})
    plain, found = convert.load(path.with_name("plain.bson")), convert.load(path)
    zeroed = Tensor.of(np.zeros(6, np.float32))
    tensors = {**plain.tensors, "albert.embeddings.LayerNorm.bias": zeroed}
    assert making.same(found, dataclasses.replace(plain, tensors=tensors)) is True


def test_one_array_under_two_names(path):
    members = julia_members()
    names, arrays_of = members["weights"]["data"]
    pair = [names.index(f"bert/embeddings/LayerNorm/{part}") for part in ("gamma", "beta")]
    members["_backrefs"].append(arrays_of[pair[0]])
    arrays_of[pair[0]] = arrays_of[pair[1]] = backref(5)
    write_bson(path, members)
    gamma, beta = (
        convert.load(path).tensors[f"albert.embeddings.LayerNorm.{part}"].read() for part in ("weight", "bias")
    )
    assert gamma.tobytes() == beta.tobytes()


def test_there_and_back_is_the_same_structure(path, tmp_path):
    """A file of Julia's, to a Hugging Face directory and back: the same config, weights and vocabulary in it."""
    write_bson(path, julia_members())
    convert.convert(path, tmp_path / "hf")
    convert.convert(tmp_path / "hf", tmp_path / "back.tfbson")
    before, after = values(path), values(tmp_path / "back.tfbson")
    assert after.pop("spiece") == making.spiece()
    assert before.keys() == after.keys() == {"config", "weights", "vocab"}
    assert before["vocab"] == after["vocab"]
    assert before["config"].items() <= after["config"].items()
    assert before["weights"].keys() == after["weights"].keys()
    assert all(same(before["weights"][name], after["weights"][name]) for name in before["weights"])
    assert after["weights"][KERNEL].shape == (12, 8)
    assert after["weights"]["bert/pooler/dense/bias"].shape == (1, 8)
    assert after["weights"]["global_step"].shape == ()


def test_the_arrays_are_those_of_the_npz(tmp_path):
    convert.save(making.model(optimizer=True), tmp_path / "a.npz")
    convert.convert(tmp_path / "a.npz", tmp_path / "a.bson", keep_optimizer=True)
    found = values(tmp_path / "a.bson")["weights"]
    with np.load(tmp_path / "a.npz") as members:
        wanted = {name: members[name] for name in members.files if name.startswith("weights/")}
    assert {f"weights/{name}" for name in found} == wanted.keys()
    assert all(same(array, wanted[f"weights/{name}"]) for name, array in found.items())


def test_googles_model_from_julia_gives_the_published_ids(shared_data, path, tmp_path, albert):
    """A `.bson.tfbson` with nothing but lines: the SentencePiece model is rebuilt from them."""
    lines = (shared_data / "tokenizer/30k-clean.vocab").read_bytes()
    config = dataclasses.replace(TINY, vocab_size=30000)
    write_bson(path, julia_members(config, lines=lines))
    code, out, err = albert("convert", path, tmp_path / "out")
    assert (code, err) == (0, "")
    assert "tokenizer  vocab, model rebuilt from its lines" in out
    assert convert.load(tmp_path / "out").tokenizer.lines() == lines
    ids = Tokenizer.from_pretrained(tmp_path / "out").encode("Kathmandu is city of Temples and Gods.").ids
    assert ids == [2, 28823, 25, 136, 16, 9111, 17, 4769, 9, 3]
    assert albert("convert", tmp_path / "out", tmp_path / "back.tfbson")[0] == 0
    assert b"\n".join(line.encode() for line in values(tmp_path / "back.tfbson")["vocab"]) + b"\n" == lines


def test_google_checkpoint_through_julia(shared_data, tmp_path, albert):
    source = shared_data / "checkpoints/tf1-google"
    assert albert("convert", source, tmp_path / "a.tfbson")[0] == 0
    assert albert("diff", source, tmp_path / "a.tfbson")[:2] == (
        0,
        "equal: 32 tensors bit for bit, config and tokenizer\n",
    )
    assert convert.load(source).global_step == convert.load(tmp_path / "a.tfbson").global_step


def test_a_chinese_model_of_julias(path):
    """The lines of `vocab_chinese.txt`, of which none has a score."""
    lines = "[PAD]\n[UNK]\n中\n##中\n".encode()
    write_bson(path, julia_members(lines=lines))
    found = convert.load(path).tokenizer
    assert (found.spiece, found.vocab, found.wordpiece) == (None, None, lines)
    convert.convert(path, path.with_name("again.bson"))
    again = values(path.with_name("again.bson"))
    assert (again["vocab"], again["wordpiece"]) == (["[PAD]", "[UNK]", "中", "##中"], lines)


@pytest.mark.parametrize("lines", [b"[UNK]\r\na\r\n", b"[UNK]\na", "\ufeff[UNK]\n".encode(), b"[UNK]\n\n"])
def test_odd_word_lists_stay_as_they_are(path, lines):
    model = making.model(files=TokenizerFiles.of("test", wordpiece=lines, origin="test"))
    convert.save(model, path)
    assert convert.load(path).tokenizer.wordpiece == lines


@pytest.mark.parametrize("suffix", [".npz", ".bson"])
def test_vocabulary_without_a_last_line_end(tmp_path, suffix):
    (tmp_path / "x").mkdir()
    convert.save(making.model(files=TokenizerFiles()), tmp_path / "hf")
    (tmp_path / "hf/spiece.vocab").write_bytes(making.LINES.removesuffix(b"\n"))
    convert.convert(tmp_path / "hf", tmp_path / f"m{suffix}")
    assert convert.load(tmp_path / f"m{suffix}").tokenizer.lines() == making.LINES


def test_no_tokenizer_is_an_empty_vocabulary(path):
    """`@load file config weights vocab` wants the key."""
    convert.save(making.model(files=TokenizerFiles()), path)
    assert values(path)["vocab"] == []
    assert not convert.load(path).tokenizer


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_of_julias(path, dtype):
    model = making.model(dtype=dtype, special=True)
    convert.save(model, path)
    assert making.same(model, convert.load(path)) is True


def test_bfloat16_has_no_place(tmp_path, refused):
    convert.save(making.model(dtype=making.BFLOAT16), tmp_path / "hf")
    message = refused("convert", tmp_path / "hf", tmp_path / "x.bson")
    assert message.startswith("bson holds float32, float16, float64; ")
    assert message.endswith("are bfloat16, as albert.embeddings.word_embeddings.weight: add --dtype float32")


def test_settings_of_every_kind(path):
    extra = {
        "filename": "x",
        "wide": 2**100,
        "wider": [-(2**200)],
        "list": [1, {"a": None}],
        "": True,
        "text": "é",
        "real": -0.0,
    }
    config = dataclasses.replace(TINY, hidden_act="gelu", extra=extra)
    convert.save(making.model(config), path)
    assert convert.load(path).config == config
    found = values(path)["config"]
    assert (found["hf_hidden_act"], found["wide"]) == ("gelu", 2**100)
    assert same(found["wider"], [Symbol(-(2**200))])


def test_settings_nested_without_end(path):
    deep = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(CheckpointError, match="the config is nested too deeply for a BSON file"):
        convert.save(making.model(dataclasses.replace(TINY, extra={"deep": deep})), path)
    assert not path.exists()


def test_numbers_that_julia_keeps_in_an_array(path):
    members = julia_members()
    members["config"]["data"][0].append("sizes")
    members["config"]["data"][1].append(julia_array(np.array([[1, 2]], np.float32)))
    write_bson(path, members)
    assert convert.load(path).config.extra["sizes"] == [[1.0, 2.0]]


# --- which files are ours


@pytest.mark.parametrize("name", ["a.bson", "a.tfbson", "a.bson.tfbson", "a", "a.bin"])
def test_recognised_by_content_and_written_by_suffix(tmp_path, name):
    write_bson(tmp_path / name, julia_members())
    assert convert.source_format(tmp_path / name).NAME == "bson"
    if "bson" in name:
        assert convert.target_format(tmp_path / f"new-{name}").NAME == "bson"


def test_other_bson_is_not_taken_for_a_model(tmp_path, refused):
    write_bson(tmp_path / "a", {"config": 1})
    assert refused("inspect", tmp_path / "a").startswith(f"{tmp_path / 'a'}: a file that holds no model of a known ")


def test_the_kind_that_holds_julia_objects_is_refused(path, refused):
    """`tfckpt2bson` without `raw` saves the structs of Julia's model: nothing to read without running it."""
    write_bson(path, {"albert_model": {"tag": "struct"}, "wordpiece": 1, "tokenizer": 2})
    assert refused("inspect", path) == (
        f"{path}: no config and no weights, but ['albert_model', 'wordpiece', 'tokenizer']: not Julia's raw kind "
        "(.tfbson), which holds config, weights and vocab"
    )


def test_a_model_beyond_2_gib_is_refused_before_a_byte_is_read(tmp_path):
    def never():
        raise AssertionError("read")

    config = EncoderConfig(
        vocab_size=5_000_000, embedding_size=128, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    model = making.model(dataclasses.replace(config, vocab_size=5), files=TokenizerFiles(), without=("qa", "mlm"))
    words = Tensor((5_000_000, 128), np.dtype(np.float32), never)
    tensors = {
        name: words if name == "albert.embeddings.word_embeddings.weight" else dataclasses.replace(tensor, read=never)
        for name, tensor in model.tensors.items()
    }
    model = dataclasses.replace(model, config=config, tensors=tensors)
    with pytest.raises(CheckpointError) as refused:
        convert.save(model, tmp_path / "x.bson")
    assert str(refused.value).startswith(f"{tmp_path / 'x.bson'}: would take 256")
    assert str(refused.value).endswith(
        " bytes, and a BSON file can have 2147483647: choose another format, as npz, or fewer bytes with "
        "--dtype float16"
    )
    assert not list(tmp_path.iterdir())


def test_arrays_stay_in_the_file_until_read(path):
    convert.save(making.model(), path)
    found = convert.load(path)
    content = bytearray(path.read_bytes())
    name = "albert.embeddings.word_embeddings.weight"
    place = content.index(making.model().tensors[name].read().tobytes())
    content[place : place + 4] = b"\0\0\x80\x3f"
    with path.open("r+b") as file:
        kept = path.stat()
        file.write(content)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # as if nobody had written
    assert found.tensors[name].read()[0, 0] == 1
    path.write_bytes(content[:place])
    with pytest.raises(CorruptError, match="became shorter while it was read, inside weights"):
        found.tensors[name].read()


def test_an_inspected_file_reports_it(path, albert):
    convert.save(making.model(), path)
    code, out, _ = albert("inspect", path, "--json")
    assert code == 0
    assert json.loads(out)["format"] == "bson"
