""".npz archives: hostile ones, damaged ones, and contents that are no model's."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
from hypothesis import strategies as st
from making import npy_bytes, npz_members, write_npz, write_zip

from corruptions import Corruption, Fuzz, Series, cuts

FILE = ""
QUERY = "weights/bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"
CANONICAL = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight"


def make(folder):
    write_npz(folder / "albert.npz", npz_members())
    return folder / "albert.npz"


class Boom:
    """Unpickling it would leave a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def with_arrays(**arrays):
    """Other members, or more; by name, with None for one that is left out."""
    return lambda path: write_npz(
        path, {name: array for name, array in (npz_members() | arrays).items() if array is not None}
    )


def with_query(data, compression=zipfile.ZIP_STORED):
    """The bytes of the query's member replaced: `data` is a function of the array."""

    def damage(path):
        members = npz_members()
        array = members.pop(QUERY)
        pairs = [(f"{name}.npy", npy_bytes(array)) for name, array in members.items()]
        write_zip(path, [*pairs, (f"{QUERY}.npy", data(array))], compression)

    return damage


def pairs():
    return [(f"{name}.npy", npy_bytes(array)) for name, array in npz_members().items()]


def with_config(text):
    return with_arrays(config=np.frombuffer(text, np.uint8))


def with_settings(**settings):
    config = json.loads(npz_members()["config"].tobytes())
    return with_config(json.dumps(config | settings).encode())


def corruptions():
    yield from _hostile()
    yield from _members()
    yield from _contents()


def _hostile():
    member = f"$file member {QUERY}.npy: "
    yield Corruption(
        "a pickled object",
        lambda path: np.savez(
            path,
            allow_pickle=True,
            **{**npz_members(), QUERY: np.array([Boom(path.with_name("executed"))], object)},
        ),
        f"{member}holds pickled objects, which are never read",
        "convert",
    )
    yield Corruption(
        "a member that is a pickle",
        lambda path: with_query(lambda array: pickle.dumps(Boom(path.with_name("executed"))))(path),
        f"{member}not a sound .npy array (the magic string<any>",
    )
    for kind in (np.complex64, np.bool_, np.dtype("U4"), np.dtype("M8[s]"), np.int8, [("a", "<f4")]):
        yield Corruption(
            f"an array of {np.dtype(kind)}",
            with_arrays(**{QUERY: np.zeros((8, 8), kind)}),
            f"{member}holds {np.dtype(kind)}, not float32, float16, int64 or bytes",
        )
    yield Corruption(
        "whole numbers for weights",
        with_arrays(**{QUERY: np.zeros((8, 8), np.int64)}),
        f"$file: {CANONICAL} is int64, not one of float32, float16, bfloat16, float64",
        "convert",
    )
    bomb = b"\0" * (128 * 2**20)
    yield Corruption(
        "zeros that pack well",
        with_query(lambda array: npy_bytes(array) + bomb, zipfile.ZIP_DEFLATED),
        "$file: decompresses to 134<any> bytes, over the limit of <any> (decompression bomb?)",
    )
    for name, shape in (
        ("negative", (-8, -8)),
        ("overflowing", (2**40, 2**40)),
        ("more than there is", (8, 9)),
        ("fewer than there are", (8, 7)),
        ("empty with endless dimensions", (0, 2**62, 2**62)),
    ):
        yield Corruption(
            f"a shape: {name}",
            with_query(lambda array, shape=shape: npy_bytes(array, header={"shape": shape})),
            f"{member}shape {list(shape)} does not match its 256 bytes",
        )
    for shape in ((0, 2**62, 2**62), (1,) * 70):
        data = np.zeros(0 if 0 in shape else 1, np.float32)
        yield Corruption(
            f"a shape that no array has: {shape!r:.20}",
            with_query(lambda array, data=data, shape=shape: npy_bytes(data, header={"shape": shape})),
            f"$file: {QUERY} cannot be of shape [<any>",
        )
    for name, text in TEXTS.items():
        yield Corruption(
            f"an array: {name}",
            with_query(lambda array, text=text: text),
            f"{member}not a sound .npy array (<any>",
        )


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


def _size_that_lies(path):
    """The directory says few bytes, the stream holds many: no more than the array's own are read."""
    sizes = []
    with_query(lambda array: sizes.append(len(npy_bytes(array))) or npy_bytes(array) + b"\0" * 2**20, 8)(path)
    content = path.read_bytes()
    lie = content.replace(struct.pack("<I", sizes[0] + 2**20), struct.pack("<I", sizes[0]))
    assert lie != content
    path.write_bytes(lie)


def _encrypted(path):
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + flags] |= 1
    path.write_bytes(content)


def _name_that_is_no_text(path):
    write_npz(path, npz_members() | {"weights/naïve": np.zeros(1, np.float32)})
    path.write_bytes(path.read_bytes().replace("naïve".encode(), b"na\xff\xffve"))


def _changed_bit(compression):
    def damage(path):
        write_npz(path, npz_members(), compression=compression)
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{QUERY}.npy")
        content = bytearray(path.read_bytes())
        content[info.header_offset + 30 + len(info.filename) + info.compress_size - 20] ^= 0x10
        path.write_bytes(content)

    return damage


def _members():
    outside = ("../evil.npy", "weights/../../evil.npy", "/etc/evil.npy", "..\\evil.npy")
    for name in (*outside, "evil", "evil.txt", "weights/", "..npy/"):
        yield Corruption(
            f"a member {name!r}",
            lambda path, name=name: write_zip(path, [*pairs(), (name, b"x")]),
            f"$file: member {name!r} is not a plain .npy name",
        )
    again = (f"{QUERY}.npy", npy_bytes(np.zeros((8, 8), np.float32)))
    yield Corruption(
        "a member twice",
        lambda path: write_zip(path, [*pairs(), again]),
        f"$file: member '{QUERY}.npy' occurs twice",
        "convert",
    )
    yield Corruption("a size that lies", _size_that_lies, f"$file<any>{QUERY}<any>")
    yield Corruption(
        "an encrypted member",
        _encrypted,
        "$file: member 'config.npy' is encrypted; save it without a password",
        "convert",
    )
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield Corruption(
            f"compressed by method {method}",
            lambda path, method=method: write_npz(path, npz_members(), compression=method),
            "$file: member 'config.npy' is compressed by another method than deflate; save it with that",
        )
    yield Corruption(
        "a name that is no text",
        _name_that_is_no_text,
        "$file: not a sound .npz ('utf-8' codec can't decode<any>",
    )
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield Corruption(
            f"a changed bit, compressed by method {compression}",
            _changed_bit(compression),
            f"$file<any>{QUERY}.npy<any>",
        )


def _contents():
    yield Corruption("no config", with_arrays(config=None), "$file: no member 'config'; this is another kind of .npz")
    yield Corruption(
        "another kind of npz",
        lambda path: np.savez(path, a=np.zeros(3)),
        "$file: an archive that holds no model of a known format<any>",
    )
    for config, seen in (
        (np.zeros((2, 2), np.uint8), "uint8[2, 2]"),
        (np.zeros(3, np.float32), "float32[3]"),
        (np.zeros((), np.uint8), "uint8[]"),
    ):
        yield Corruption(
            f"{seen} for a config", with_arrays(config=config), f"$file member config: {seen}, not a row of bytes"
        )
    yield Corruption(
        "a config that is not JSON",
        with_config(b'{"vocab_size": '),
        "$file member config: is not JSON: Expecting value at line 1 column 16",
    )
    for name, vocab, fault in (
        ("no score", b"<unk>\t0\nno score", "line 2 of the vocabulary is 'no score', not piece<TAB>score"),
        ("NaN", b"<unk>\t0\na\tnan", "line 2 of the vocabulary is 'a\\tnan', not piece<TAB>score"),
        ("a piece twice", b"<unk>\t0\na\t1\na\t2", "line 3 of the vocabulary repeats the piece 'a'"),
        ("no <unk>", b"a\t0", "the vocabulary has no <unk> piece, so it is not a SentencePiece one"),
        ("not UTF-8", b"<unk>\t0\n\xff\t1", "line 2 of the vocabulary is not UTF-8"),
        ("two pieces twice", b"a\t1\nb\t1\nb\t2\na\t2", "line 3 of the vocabulary repeats the piece 'b'"),
        (
            "a long line",
            b"<unk>\t0\n" + b"x" * 10**6,
            f"line 2 of the vocabulary is '{'x' * 120}…', not piece<TAB>score",
        ),
        ("many lines", b"a\t0\n" * 500_002, "the vocabulary has more than 500000 lines"),
    ):
        lines = np.frombuffer(vocab, np.uint8)
        yield Corruption(f"a vocabulary: {name}", with_arrays(vocab=lines), f"$file: {fault}")
    yield Corruption(
        "members that are unknown",
        with_arrays(**{"weights/oddity": np.zeros((1, 3), np.float32), "stray": np.zeros(2, np.uint8)}),
        "$file: holds 2 variables that the config (1 groups of 1) has no place for: weights/oddity, stray",
        "convert",
    )
    yield Corruption(
        "a member that is missing",
        with_arrays(**{QUERY: None}),
        f"$file: does not match its config: 1 tensor missing: {CANONICAL}; fetch every weight file of the model "
        "again, and its own config: a download may be incomplete",
        "convert",
    )
    yield Corruption(
        "a config of other sizes",
        with_settings(vocab_size=31, embedding_size=7),
        "$file: does not match its config: 11 tensors of another shape: <any>"
        "albert.embeddings.word_embeddings.weight is [30, 6], the config asks for [31, 7]; <any>",
    )
    yield Corruption(
        "slots of an absent variable",
        with_arrays(**{"weights/output_bias/adam_m": np.zeros((1, 3), np.float32)}),
        "$file: optimizer slot classifier.bias/adam_m has no variable",
    )
    yield Corruption(  # 1 x n and n are the same vector; n x 2 is none
        "a matrix where a vector belongs",
        with_arrays(**{"weights/bert/pooler/dense/bias": np.zeros((8, 2), np.float32)}),
        "$file: <any>albert.pooler.bias is [16], the config asks for [8]",
    )
    yield Corruption(
        "groups without end",
        with_settings(num_hidden_groups=10**6, num_hidden_layers=10**6),
        "$file member config: num_hidden_groups x inner_group_num is 1000000, more than 4096 layers",
    )


def _places(content):
    """Where the archive's directory and its members begin."""
    end = content.rfind(b"PK\x05\x06")
    count, size, start = struct.unpack("<HII", content[end + 10 : end + 20])
    members, place = [], start
    for _ in range(count):
        name, extra, comment = struct.unpack("<HHH", content[place + 28 : place + 34])
        members.append(struct.unpack("<I", content[place + 42 : place + 46])[0])
        place += 46 + name + extra + comment
    assert place == start + size
    return start, members


def series():
    def truncated(sound):
        start, members = _places(sound)
        edges = (place + step for place in (*members, start) for step in (-1, 0, 1, 30))
        for cut in cuts(sound, range(len(sound) - 30, len(sound)), edges):
            yield sound[:cut], "$file: not a sound .npz<any>"

    yield Series("truncated", truncated)


def fuzzes():
    def damage(path, changes):
        content = bytearray(path.read_bytes())
        for place, byte in changes:
            content[place] = byte
        path.write_bytes(content)

    for name, compression in (("stored", zipfile.ZIP_STORED), ("packed", zipfile.ZIP_DEFLATED)):
        content = written(compression)
        start, members = _places(content)
        in_members = st.sampled_from(members).flatmap(lambda at: st.integers(at, at + 260))
        place = st.integers(start, len(content) - 1) | in_members
        changes = st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=4)
        yield Fuzz(
            f"changed bytes of {name} members",
            changes,
            damage,
            100,
            prepare=lambda path, content=content: path.write_bytes(content),
        )


def written(compression):
    """The bytes of a sound archive."""
    file = io.BytesIO()
    write_npz(file, npz_members(), compression=compression)
    return file.getvalue()
