"""Damaged and hostile .npz archives: each refused in one line that names file and member."""

import contextlib
import dataclasses
import json
import pickle
import re
import struct
import tracemalloc
import zipfile

import making
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import npy_bytes, npz_members, write_npz, write_zip

from converters import convert
from converters.errors import CheckpointError, CorruptError
from converters.tokenizers.files import TokenizerFiles

QUERY = "weights/bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"
CANONICAL = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight"
WORDS = "weights/bert/embeddings/word_embeddings"


class Boom:
    """Unpickling it would leave a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "albert.npz"


@pytest.fixture
def members():
    return npz_members()


def reference():
    """What the hand-made members mean."""
    google = making.google_variables(making.TINY)
    return google["bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"].T


# --- every way numpy and Julia write the same arrays


@pytest.mark.parametrize("rows", [True, False], ids=["1 x n", "n"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_written_by_numpy(path, members, rows, save):
    save(path, **npz_members(rows=rows))
    write_npz(path.with_name("ours.npz"), members)
    a, b = convert.load(path), convert.load(path.with_name("ours.npz"))
    assert making.same(a, b) is True
    assert a.tensors[CANONICAL].read().tobytes() == reference().tobytes()
    assert a.tensors["albert.pooler.bias"].shape == (8,)


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("endian", "<>")
def test_orders_and_endianness(path, members, order, endian):
    changed = [
        (f"{name}.npy", npy_bytes(array.astype(array.dtype.newbyteorder(endian)), fortran=order == "F"))
        for name, array in members.items()
    ]
    write_zip(path, changed)
    checkpoint = convert.load(path)
    query = checkpoint.tensors[CANONICAL].read()
    assert query.dtype == np.float32
    assert query.dtype.isnative
    assert query.tobytes() == reference().tobytes()


def test_npy_version_2(path, members):
    data = npy_bytes(members[QUERY])
    length = struct.unpack("<H", data[8:10])[0]
    second = b"\x93NUMPY\x02\x00" + struct.pack("<I", length) + data[10:]
    rest = [(f"{name}.npy", npy_bytes(array)) for name, array in members.items() if name != QUERY]
    write_zip(path, [*rest, (f"{QUERY}.npy", second)])
    assert convert.load(path).tensors[CANONICAL].read().tobytes() == reference().tobytes()


# --- hostile archives


def test_pickled_objects_are_never_read(path, members, refused, tmp_path):
    mark = tmp_path / "executed"
    np.savez(path, allow_pickle=True, **{**members, QUERY: np.array([Boom(mark)], object)})
    assert refused("convert", path, tmp_path / "out") == (
        f"{path} member {QUERY}.npy: holds pickled objects, which are never read"
    )
    assert not mark.exists()


def test_a_member_that_is_a_pickle(path, members, refused, tmp_path):
    mark = tmp_path / "executed"
    rest = [(f"{name}.npy", npy_bytes(array)) for name, array in members.items() if name != QUERY]
    write_zip(path, [*rest, (f"{QUERY}.npy", pickle.dumps(Boom(mark)))])
    assert refused("inspect", path).startswith(f"{path} member {QUERY}.npy: not a sound .npy array (the magic string")
    assert not mark.exists()


@pytest.mark.parametrize("kind", [np.complex64, np.bool_, np.dtype("U4"), np.dtype("M8[s]"), np.int8, [("a", "<f4")]])
def test_other_types(path, members, refused, kind):
    write_npz(path, {**members, QUERY: np.zeros((8, 8), kind)})
    message = refused("inspect", path)
    assert message == f"{path} member {QUERY}.npy: holds {np.dtype(kind)}, not float32, float16, int64 or bytes"


def test_whole_numbers_for_weights(path, members, refused, tmp_path):
    write_npz(path, {**members, QUERY: np.zeros((8, 8), np.int64)})
    assert refused("convert", path, tmp_path / "out") == (
        f"{path}: {CANONICAL} is int64, not one of float32, float16, bfloat16, float64"
    )


@pytest.mark.parametrize(
    "name",
    [
        "../evil.npy",
        "weights/../../evil.npy",
        "/etc/evil.npy",
        "..\\evil.npy",
        "evil",
        "evil.txt",
        "weights/",
        "..npy/",
    ],
)
def test_member_names(path, members, refused, name):
    write_zip(path, [*((f"{key}.npy", npy_bytes(array)) for key, array in members.items()), (name, b"x")])
    assert refused("inspect", path) == f"{path}: member {name!r} is not a plain .npy name"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_members(path, members, refused, tmp_path):
    pairs = [(f"{name}.npy", npy_bytes(array)) for name, array in members.items()]
    write_zip(path, [*pairs, (f"{QUERY}.npy", npy_bytes(np.zeros((8, 8), np.float32)))])
    assert refused("convert", path, tmp_path / "out") == f"{path}: member '{QUERY}.npy' occurs twice"


def test_zip_bomb(path, members, refused):
    pairs = [(f"{name}.npy", npy_bytes(array)) for name, array in members.items() if name != QUERY]
    bomb = npy_bytes(np.zeros((8, 8), np.float32)) + b"\0" * (128 * 2**20)
    write_zip(path, [*pairs, (f"{QUERY}.npy", bomb)], zipfile.ZIP_DEFLATED)
    assert re.fullmatch(
        rf"{re.escape(str(path))}: unpacks to 134\d{{6}} bytes from \d{{5,6}}, which no weights do",
        refused("inspect", path),
    )


def test_a_size_that_lies(path, members, refused):
    """The directory says few bytes, the stream holds many: no more than the array's own are read."""
    pairs = [(f"{name}.npy", npy_bytes(array)) for name, array in members.items() if name != QUERY]
    real = npy_bytes(members[QUERY])
    write_zip(path, [*pairs, (f"{QUERY}.npy", real + b"\0" * 2**20)], zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    lie = content.replace(struct.pack("<I", len(real) + 2**20), struct.pack("<I", len(real)))
    assert lie != content
    path.write_bytes(lie)
    message = refused("inspect", path)
    assert str(path) in message
    assert QUERY in message


HEADERS = {
    "negative shape": {"shape": (-8, -8)},
    "overflowing shape": {"shape": (2**40, 2**40)},
    "more than there is": {"shape": (8, 9)},
    "fewer than there are": {"shape": (8, 7)},
    "empty with endless dimensions": {"shape": (0, 2**62, 2**62)},
}


@pytest.mark.parametrize("name", HEADERS)
def test_shapes_against_bytes(path, members, refused, name):
    header = npy_bytes(members[QUERY], header=HEADERS[name])
    pairs = [(f"{key}.npy", npy_bytes(array)) for key, array in members.items() if key != QUERY]
    write_zip(path, [*pairs, (f"{QUERY}.npy", header)])
    shape = list(HEADERS[name]["shape"])
    assert refused("inspect", path) == f"{path} member {QUERY}.npy: shape {shape} does not match its 256 bytes"


@pytest.mark.parametrize("shape", [(0, 2**62, 2**62), (1,) * 70])
def test_shapes_that_no_array_has(path, members, refused, shape):
    data = npy_bytes(np.zeros(0 if 0 in shape else 1, np.float32), header={"shape": shape})
    pairs = [(f"{key}.npy", npy_bytes(array)) for key, array in members.items() if key != QUERY]
    write_zip(path, [*pairs, (f"{QUERY}.npy", data)])
    assert refused("inspect", path).startswith(f"{path}: {QUERY} cannot be of shape [")


TEXTS = {
    "empty": b"",
    "cut in its magic": b"\x93NUM",
    "version 9": b"\x93NUMPY\x09\x00" + b"\0" * 20,
    "header longer than the file": b"\x93NUMPY\x01\x00\xff\xff{'descr'",
    "endless header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "code for a header": b"\x93NUMPY\x01\x00\x22\x00__import__('os').system('touch x')\n",
    "deep header": b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10000,
    "not a header": b"\x93NUMPY\x01\x00\x06\x00'text'",
    "odd shape": b"\x93NUMPY\x01\x00\x3d\x00{'descr': '<f4', 'fortran_order': False, 'shape': ('a', 3)}  \n",
    "odd type": b"\x93NUMPY\x01\x00\x3d\x00{'descr': '<z9', 'fortran_order': False, 'shape': (8, 8)}    \n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_npy(path, members, refused, name):
    pairs = [(f"{key}.npy", npy_bytes(array)) for key, array in members.items() if key != QUERY]
    write_zip(path, [*pairs, (f"{QUERY}.npy", TEXTS[name])])
    assert refused("inspect", path).startswith(f"{path} member {QUERY}.npy: not a sound .npy array (")


def test_encrypted_member(path, members, refused, tmp_path):
    write_npz(path, members)
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        content[at + flags] |= 1
    path.write_bytes(content)
    assert refused("convert", path, tmp_path / "out") == (
        f"{path}: member 'config.npy' is encrypted; save it without a password"
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write(path, members, refused, method):
    write_npz(path, members, compression=method)
    assert refused("inspect", path) == f"{path}: member 'config.npy' is not compressed as numpy does; save it anew"


def test_name_that_is_not_text(path, members, refused):
    write_npz(path, members | {"weights/naïve": np.zeros(1, np.float32)})
    content = path.read_bytes()
    path.write_bytes(content.replace("naïve".encode(), b"na\xff\xffve"))
    assert refused("inspect", path).startswith(f"{path}: not a sound .npz ('utf-8' codec can't decode")


# --- damage


def test_truncated_anywhere(path, members):
    write_npz(path, members)
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        places = [info.header_offset for info in archive.infolist()] + [archive.start_dir]
    cuts = {len(sound) * percent // 100 for percent in range(100)} | set(range(len(sound) - 30, len(sound)))
    cuts |= {place + step for place in places for step in (-1, 0, 1, 30)}
    for cut in sorted(cut for cut in cuts if 0 <= cut < len(sound)):
        path.write_bytes(sound[:cut])
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: not a sound .npz"):
            convert.load(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_member_is_named(path, members, refused, compression):
    write_npz(path, members, compression=compression)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{QUERY}.npy")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 30 + len(info.filename) + info.compress_size - 20] ^= 0x10
    path.write_bytes(content)
    message = refused("inspect", path)
    assert message.startswith(f"{path}")
    assert f"{QUERY}.npy" in message


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_changed_bytes_give_our_error_or_a_model(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "x.npz"
    write_npz(path, npz_members(), compression=data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start, infos = archive.start_dir, archive.infolist()
    place = st.one_of(
        st.integers(start, len(content) - 1),
        st.sampled_from(infos).flatmap(lambda info: st.integers(info.header_offset, info.header_offset + 260)),
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(place)] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        for tensor in convert.load(path).tensors.values():
            assert tensor.read().shape == tensor.shape
    except CheckpointError as error:
        assert str(path) in str(error)


# --- contents


def test_no_config(path, members, refused):
    del members["config"]
    write_npz(path, members)
    assert refused("inspect", path) == f"{path}: no member 'config'; this is another kind of .npz"


def test_another_kind_of_npz(path, refused):
    np.savez(path, a=np.zeros(3))
    assert str(path) in refused("inspect", path)


@pytest.mark.parametrize(
    ("config", "seen"),
    [
        (np.zeros((2, 2), np.uint8), "uint8[2, 2]"),
        (np.zeros(3, np.float32), "float32[3]"),
        (np.zeros((), np.uint8), "uint8[]"),
    ],
)
def test_config_that_is_no_text(path, members, refused, config, seen):
    write_npz(path, members | {"config": config})
    assert refused("inspect", path) == f"{path} member config: {seen}, not a row of bytes"


def test_config_that_is_not_json(path, members, refused):
    write_npz(path, members | {"config": np.frombuffer(b'{"vocab_size": ', np.uint8)})
    assert refused("inspect", path) == f"{path} member config is not JSON: Expecting value at line 1 column 16"


@pytest.mark.parametrize(
    ("vocab", "fault"),
    [
        (b"<unk>\t0\nno score", "line 2 of the vocabulary is 'no score', not piece<TAB>score"),
        (b"<unk>\t0\na\tnan", "line 2 of the vocabulary is 'a\\tnan', not piece<TAB>score"),
        (b"<unk>\t0\na\t1\na\t2", "line 3 of the vocabulary repeats the piece 'a'"),
        (b"a\t0", "the vocabulary has no <unk> piece, so it is not a SentencePiece one"),
        (b"<unk>\t0\n\xff\t1", "line 2 of the vocabulary is not UTF-8"),
        (b"a\t1\nb\t1\nb\t2\na\t2", "line 3 of the vocabulary repeats the piece 'b'"),
        (b"<unk>\t0\n" + b"x" * 10**6, f"line 2 of the vocabulary is '{'x' * 120}…', not piece<TAB>score"),
        (b"a\t0\n" * 500_002, "the vocabulary has more than 500000 lines"),
    ],
    ids=lambda item: str(item)[:40],
)
def test_damaged_vocabulary(path, members, refused, vocab, fault):
    write_npz(path, members | {"vocab": np.frombuffer(vocab, np.uint8)})
    assert refused("inspect", path) == f"{path}: {fault}"


@pytest.mark.parametrize("last", [b"", b"0\t0\n"], ids=["sound", "repeated"])
def test_a_vocabulary_of_short_lines_takes_little_memory(last):
    """Four times the file's in all, the file itself among them."""
    vocab = b"<unk>\t0\n" + b"".join(b"%x\t0\n" % number for number in range(60_000)) + last
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError, match="repeats") if last else contextlib.nullcontext():
            TokenizerFiles.of("here", vocab=vocab, origin="test")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (4 if last else 3) * len(vocab)


def test_unknown_and_missing_members(path, members, refused, tmp_path):
    write_npz(path, members | {"weights/oddity": np.zeros((1, 3), np.float32), "stray": np.zeros(2, np.uint8)})
    assert refused("convert", path, tmp_path / "out") == (
        f"{path} holds 2 variables that the config (1 groups of 1) has no place for: weights/oddity, stray"
    )
    del members[QUERY]
    write_npz(path, members)
    assert refused("convert", path, tmp_path / "out") == (
        f"{path} does not match its config: 1 tensor missing: {CANONICAL}"
    )


def test_every_shape_fault_at_once(path, members, refused):
    config = json.loads(members["config"].tobytes()) | {"vocab_size": 31, "embedding_size": 7}
    write_npz(path, members | {"config": np.frombuffer(json.dumps(config).encode(), np.uint8)})
    message = refused("inspect", path)
    assert message.startswith(f"{path} does not match its config: 11 tensors of another shape: ")
    assert "albert.embeddings.word_embeddings.weight is [30, 6], the config asks for [31, 7]; " in message


def test_bfloat16_has_no_place(tmp_path, refused):
    convert.save(making.model(dtype=making.BFLOAT16), tmp_path / "hf")
    message = refused("convert", tmp_path / "hf", tmp_path / "x.npz")
    assert message.startswith("npz holds float32, float16; ")
    assert message.endswith("are bfloat16, as albert.embeddings.word_embeddings.weight: add --dtype float32")


def test_slots_of_an_absent_variable(path, members, refused):
    write_npz(path, members | {"weights/output_bias/adam_m": np.zeros((1, 3), np.float32)})
    assert refused("inspect", path) == f"{path}: optimizer slot classifier.bias/adam_m has no variable"


def test_a_matrix_where_a_vector_belongs(path, members, refused):
    """1 x n and n are the same vector; n x 2 is none."""
    write_npz(path, members | {"weights/bert/pooler/dense/bias": np.zeros((8, 2), np.float32)})
    assert refused("inspect", path).endswith("albert.pooler.bias is [16], the config asks for [8]")


def test_groups_without_end(path, members, refused):
    config = json.loads(members["config"].tobytes()) | {"num_hidden_groups": 10**6, "num_hidden_layers": 10**6}
    write_npz(path, members | {"config": np.frombuffer(json.dumps(config).encode(), np.uint8)})
    assert refused("inspect", path) == (
        f"{path} member config: num_hidden_groups x inner_group_num is 1000000, more than 4096 layers"
    )


def test_the_hand_made_archive_is_ours(path, members):
    """What these tests damage is what the toolkit writes: same members, arrays and bytes in Julia's eyes."""
    write_npz(path, members)
    convert.save(dataclasses.replace(convert.load(path)), path.with_name("ours.npz"))
    with np.load(path) as one, np.load(path.with_name("ours.npz")) as other:
        weights = {name for name in one.files if name.startswith("weights/")}
        assert weights == {name for name in other.files if name.startswith("weights/")}
        assert all(np.array_equal(one[name], other[name]) for name in weights)
