"""Archives of numpy: every way numpy and Julia write the same arrays is read."""

import contextlib
import dataclasses
import io
import struct
import tracemalloc
import zipfile

import making
import numpy as np
import pytest
from corruptions.npz import CANONICAL, QUERY
from making import npy_bytes, npz_members, write_npz, write_zip

from converters import convert, zip_members
from converters.errors import CorruptError
from converters.tokenizers.files import TokenizerFiles


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


def test_the_hand_made_archive_is_ours(path, members):
    """What these tests damage is what the toolkit writes: same members, arrays and bytes in Julia's eyes."""
    write_npz(path, members)
    convert.save(dataclasses.replace(convert.load(path)), path.with_name("ours.npz"))
    with np.load(path) as one, np.load(path.with_name("ours.npz")) as other:
        weights = {name for name in one.files if name.startswith("weights/")}
        assert weights == {name for name in other.files if name.startswith("weights/")}
        assert all(np.array_equal(one[name], other[name]) for name in weights)


@pytest.mark.parametrize("limit", [zipfile.ZIP64_LIMIT, 150, 2], ids=["plain", "large offsets", "all large"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_are_as_zipfile_writes_them(path, monkeypatch, limit, compression):
    """Also where sizes and offsets need 64 bits, for which the limit is lowered here."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    monkeypatch.setattr(zip_members, "_MOST_PLAIN", limit)
    members = {"config": b"text" * 20, "weights/empty": b"", "weights/a": bytes(range(90))}
    with zipfile.ZipFile(path, "w", compression) as theirs, io.BytesIO() as file:
        ours = zip_members.Archive(file, compression)
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type, info.create_system = 0o644 << 16, compression, 3
            with theirs.open(info, "w", force_zip64=len(data) > limit) as member:
                member.write(data)
            ours.add(name, [data[:30], memoryview(data)[30:]], size=len(data), mode=0o644)
        ours.finish()
        theirs.close()
        assert file.getvalue() == path.read_bytes()


def test_bfloat16_has_no_place(tmp_path, refused):
    convert.save(making.model(dtype=making.BFLOAT16), tmp_path / "hf")
    message = refused("convert", tmp_path / "hf", tmp_path / "x.npz")
    assert message.startswith("npz holds float32, float16; ")
    assert message.endswith("are bfloat16, as albert.embeddings.word_embeddings.weight: add --dtype float32")


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
