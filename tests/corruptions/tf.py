"""TensorFlow checkpoints of Google's: their index, their data, and their variables."""

import dataclasses
import os
import struct

import making
import numpy as np
from hypothesis import strategies as st
from making import TINY, bundle_header, field, table, table_block, varint

from corruptions import Corruption, Fuzz, Series, cuts

FILE = "model.ckpt-best.index"
DATA = "model.ckpt-best.data-00000-of-00001"
QUERY = "bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"
UNSOUND = "$file: not a sound TensorFlow checkpoint index"


def make(folder):
    return making.tf1(folder / "tf")


def variables():
    return {name: np.asarray(array) for name, array in making.google_variables(TINY).items()}


def saved(**options):
    """A checkpoint in its place, written with these options."""

    def damage(source):
        for path in source.glob("model.ckpt-best.*"):
            path.unlink()
        making.tf1(source, **options)

    return damage


def holding(extra=(), **more):
    """A checkpoint of more variables, or others."""
    return saved(variables=variables() | dict(extra) | more)


def indexed(content):
    return lambda source: (source / FILE).write_bytes(content)


def corruptions():
    yield from _index()
    yield from _blocks()
    yield from _entries()
    yield from _data()
    yield from _names()
    yield from _slots()


# --- the index


def _index():
    magic = "the magic number at its end is missing: truncated, or another kind of file"
    yield Corruption(
        "another magic number",
        lambda source: (source / FILE).write_bytes((source / FILE).read_bytes()[:-1] + b"\0"),
        f"{UNSOUND} ({magic})",
        "convert",
    )
    yield Corruption("another kind of file", indexed(b"nothing of the kind"), f"{UNSOUND} ({magic})")
    yield Corruption("no index", lambda source: (source / FILE).unlink(), "$file: no such file or directory")

    def changed_byte(source):
        damaged = bytearray((source / FILE).read_bytes())
        damaged[10] ^= 1
        (source / FILE).write_bytes(damaged)

    yield Corruption("a byte changed", changed_byte, f"{UNSOUND} (the block at byte 0 is damaged (CRC-32C))", "convert")
    sound = table_block(entries())
    for name, handle, said in (
        ("beyond the table", varint(10**6) + varint(100), "a block ends at byte 1000100, beyond the table"),
        ("far beyond the table", varint(2**64 - 1) + varint(2**64 - 1), "<any>beyond the table"),
        ("of an endless number", b"\xff" * 20, "a number of more than 64 bits"),
        ("cut short", b"\x80", "index out of range"),
    ):
        index = table([sound], lambda places, end, handle=handle: [(b"~", handle)])
        yield Corruption(f"a pointer {name}", indexed(index), f"{UNSOUND} ({said}<any>)")
    yield Corruption(
        "a pointer to itself",
        indexed(table([sound], lambda places, end: [(b"~", varint(end) + varint(20))])),
        f"{UNSOUND} (a block ends at byte <any>)",
    )
    twice = table([sound], lambda places, end: [(b"~%d" % n, b"".join(map(varint, places[0]))) for n in range(2)])
    yield Corruption("two pointers to the same", indexed(twice), f"{UNSOUND} (<any>key b'' is out of order<any>)")
    # A block whose only entry leads back to the block: read once, as entries, never followed again.
    own = table_block([(b"~", varint(0) + varint(14))])
    index = table([own], lambda places, end: [(b"~", varint(places[0][0]) + varint(places[0][1]))])
    yield Corruption("a block that points to itself", indexed(index), "<any>no header entry<any>")


def entries():
    arrays = variables()
    found, offset = [(b"", bundle_header())], 0
    for name in sorted(arrays):
        found.append((name.encode(), making.bundle_entry(arrays[name], offset=offset)))
        offset += arrays[name].nbytes
    return found


BLOCKS = {
    "keys that grow beyond measure": (
        making.sealed(b"".join(varint(n) + b"\1\0a" for n in range(12_000)) + struct.pack("<II", 0, 1)),
        "unpacks to more than 67108864 bytes",
    ),
    "an entry beyond its block": (
        making.sealed(varint(0) + varint(5) + varint(2**40) + b"abcde" + struct.pack("<II", 0, 1)),
        "has an entry beyond its end",
    ),
    "more shared bytes than there are": (
        making.sealed(varint(9) + varint(1) + varint(0) + b"a" + struct.pack("<II", 0, 1)),
        "has an entry beyond its end",
    ),
    "restarts beyond the block": (making.sealed(struct.pack("<I", 2**32 - 1)), "counts 4294967295 restarts"),
    "a block of nothing": (making.sealed(b""), ""),
    "endless number": (making.sealed(b"\xff" * 30 + struct.pack("<II", 0, 1)), "a number of more than 64 bits"),
    "Snappy that claims too much": (
        making.sealed(b"", lambda _: varint(2**40) + b"\0a"),
        "unpacks to more than 67108864 bytes",
    ),
    "Snappy from before the start": (
        making.sealed(b"", lambda _: varint(8) + bytes([3 << 2 | 2, 9, 0])),
        "a Snappy copy from before the start",
    ),
    "Snappy with a distance of 0": (
        making.sealed(b"", lambda _: varint(8) + b"\0a" + bytes([3 << 2 | 2, 0, 0])),
        "a Snappy copy from before the start",
    ),
    "Snappy cut short": (making.sealed(b"", lambda _: varint(30) + bytes([20 << 2]) + b"abc"), "another length"),
    "Snappy that goes on": (making.sealed(b"", lambda _: varint(1) + bytes([2 << 2]) + b"abc"), "another length"),
    "unknown compression": (b"abc\7" + making.masked_crc(b"abc\7"), "has compression type 7"),
}
HEADERS = {
    "big-endian": (bundle_header(endianness=1), "big-endian data"),
    "no data files": (field(3, b""), "0 data files"),
    "endless data files": (bundle_header(2**31), "2147483648 data files"),
    "not a message": (b"\x0b\x0c", "a field of wire type 3"),
    "longer than it is": (b"\x0a\x7fab", "a field beyond the end of its message"),
    "text for a number": (field(1, b"one"), "field 1 is no number"),
}
ENTRIES = {
    "size against shape": ({"size": 5}, "of shape [8, 8] takes 256 bytes, the index says 5"),
    "negative dimension": ({"shape": (2**64 - 1, 8)}, f"tensor {QUERY} has a dimension of 18446744073709551615"),
    "overflowing shape": ({"shape": (2**39, 2**39)}, "takes 1208925819614629174706176 bytes"),
    "empty with endless dimensions": ({"shape": (2**39, 2**39, 0), "size": 0}, f"{QUERY} cannot be of shape"),
    "seventy dimensions": ({"shape": (1,) * 70, "size": 4}, f"{QUERY} cannot be of shape"),
    "far offset": ({"offset": 2**62}, f"truncated; tensor {QUERY} ends at byte {2**62 + 256}"),
    "negative offset": ({"offset": 2**64 - 8}, f"truncated; tensor {QUERY} ends at byte"),
    "another data file": ({"shard": 4}, f"tensor {QUERY} lies in data file 4 of 1"),
    "resource": ({"code": 20}, f"variable {QUERY} is of type resource, which holds no weights"),
    "complex": ({"code": 8}, f"variable {QUERY} is of type number 8"),
    "slices": ({"extra": field(7, b"")}, f"variable {QUERY} is partitioned into slices; merge it with TensorFlow"),
    "number for a shape": ({"extra": field(2, 5)}, "a number where a message was expected"),
}


def _blocks():
    for name, (block, fault) in BLOCKS.items():
        yield Corruption(f"a block: {name}", indexed(table([block])), f"{UNSOUND} (<any>{fault}<any>)")
    for name, (header, fault) in HEADERS.items():
        index = table([table_block([(b"", header), *entries()[1:]])])
        yield Corruption(f"a header: {name}", indexed(index), f"<any>{fault}<any>")


def _entries():
    for name, (change, fault) in ENTRIES.items():
        yield Corruption(f"an entry: {name}", saved(change={QUERY: change}), f"<any>{fault}<any>")
    yield Corruption(
        "whole numbers for weights",
        holding({QUERY: np.ones((8, 8), np.int64)}),
        "<any>attention.query.weight is int64, not one of float32, float16, bfloat16, float64",
        "convert",
    )


# --- the data


def _data():
    size = sum(array.nbytes for array in variables().values()) + 8
    yield Corruption(
        "data cut short",
        lambda source: (source / DATA).write_bytes((source / DATA).read_bytes()[:-4]),
        f"$source/{DATA}: truncated; tensor global_step ends at byte {size}, the file at {size - 4}",
        "convert",
    )
    yield Corruption(
        "empty data",
        lambda source: (source / DATA).write_bytes(b""),
        f"$source/{DATA}: truncated; tensor bert/<any>",
    )
    for number in range(3):
        name = f"model.ckpt-best.data-0000{number}-of-00003"

        def missing(source, name=name):
            saved(shards=3)(source)
            (source / name).unlink()

        yield Corruption(
            f"data file {number} missing", missing, f"$source/{name}: missing; the index names 3 data files"
        )
    for command in ("inspect", "convert"):

        def changed_bit(source):
            content = (source / DATA).read_bytes()
            at = content.index(making.google_variables(TINY)[QUERY].tobytes()) + 17
            (source / DATA).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])

        yield Corruption(
            f"a bit of a tensor changed, {command}",
            changed_bit,
            f"$source/{DATA}: tensor {QUERY} is damaged (its CRC-32C does not match the index)",
            command,
        )


# --- names and shapes


def _names():
    where = "$source/model.ckpt-best"
    yield Corruption(
        "no config",
        lambda source: (source / "albert_config.json").unlink(),
        "$source: no albert_config.json beside model.ckpt-best; copy the model's one there",
    )
    yield Corruption(
        "unknown variables",
        holding({"bert/oddity": making.values((3,), 1), "another/kernel": making.values((2, 2), 2)}),
        f"{where}: holds 2 variables that the config (1 groups of 1) has no place for: another/kernel, bert/oddity",
        "convert",
    )
    two = dataclasses.replace(TINY, num_hidden_groups=2)
    yield Corruption(
        "more groups than the config says",
        saved(variables=making.google_variables(two)),
        "<any>holds 16 variables that the config (1 groups of 1) has no place for: <any>"
        "bert/encoder/transformer/group_1/inner_group_0/LayerNorm/beta<any>and 8 more",
    )
    canonical = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight"
    left = {name: array for name, array in variables().items() if name not in (QUERY, "bert/pooler/dense/bias")}
    yield Corruption(
        "missing variables",
        saved(variables=left),
        f"{where}: does not match its config: 2 tensors missing: {canonical}, albert.pooler.bias; fetch every "
        "weight file of the model again, and its own config: a download may be incomplete",
        "convert",
    )
    changed = variables() | {"bert/embeddings/position_embeddings": making.values((9, 6), 1)}
    del changed[QUERY]
    yield Corruption(
        "missing and misshapen variables",
        saved(variables=changed),
        f"<any>1 tensor missing: {canonical};<any>1 tensor of another shape: "
        "albert.embeddings.position_embeddings.weight is [9, 6], the config asks for [10, 6]; "
        "look at max_position_embeddings in the config: weights and config must be of one model",
    )
    for name in (
        "bert/encoder/transformer/layer_normalization/gamma",
        "bert/encoder/transformer/group_0/inner_group_0/layer_normalization_23/beta",
        "bert/encoder/transformer/group_0_11/layer_11/inner_group_0/ffn_1/intermediate/dense/kernel",
    ):
        yield Corruption(
            f"unshared layers: {name}",
            holding({name: making.values((8,), 1)}),
            f"{where}: written by TF2-migrated training code whose layers no longer share their weights "
            f"(layer_normalization_N), so not an ALBERT; seen in variable {name}",
        )
    for name in ("bert/encoder/layer_shared/attention/self/query/kernel", "bert/embeddings/word_embeddings_2"):
        yield Corruption(
            f"an early albert_zh: {name}",
            holding({name: making.values((8, 8), 1)}),
            "<any>an early community albert_zh checkpoint (layer_shared, embeddings added after the projection)"
            f"<any>seen in variable {name}",
        )
    # A name that the format has no row for stays unknown even with a slot's ending.
    yield Corruption(
        "a slot of an unknown variable",
        holding({"bert/oddity/adam_m": making.values((3,), 1)}),
        "<any>no place for: bert/oddity/adam_m<any>",
    )


# --- optimizer slots and the step


def _slots():
    where = "$source/model.ckpt-best"
    yield Corruption(
        "slots without their variable",
        holding({"output_bias/adam_m": making.values((3,), 1)}),
        f"{where}: optimizer slot classifier.bias/adam_m has no variable",
        "convert",
    )
    yield Corruption(
        "slots of another shape",
        holding({f"{QUERY}/lamb_v": making.values((8, 4), 1)}),
        "<any>attention.query.weight/lamb_v is [4, 8], its variable [8, 8]",
        "convert",
    )
    for step, shown in ((np.float32(7), "float32[]"), (np.zeros(3, np.int64), "int64[3]")):
        yield Corruption(
            f"{shown} for a step",
            holding(global_step=np.asarray(step)),
            f"<any>global_step is {shown}, not one whole number",
        )


# --- many of a kind

SHRINKS = (
    lambda source: os.truncate(source / DATA, (source / DATA).stat().st_size - 10),
    "was changed or replaced since it was opened",
)


def series():
    def truncated(sound):
        for cut in cuts(sound, range(len(sound) - 60, len(sound))):
            yield sound[:cut], f"{UNSOUND}<any>"

    def any_byte(sound):
        """Every byte is under a CRC, but for the footer's, of which only the padding may change unnoticed."""
        for place in sorted({*range(0, len(sound), 5), *range(len(sound) - 48, len(sound))}):
            padding = len(sound) - 48 <= place < len(sound) - 8
            changed = sound[:place] + bytes([sound[place] ^ 0x55]) + sound[place + 1 :]
            yield changed, None if padding else f"{UNSOUND}<any>"

    yield Series("truncated", truncated)
    yield Series("a byte changed", any_byte, tensors=32)


def fuzzes():
    """Bytes that pass every checksum, so that all the parsing behind it is reached."""

    def damage(source, drawn):
        contents, packed, header, sealed = drawn
        pairs = [(b"", bundle_header() if header else contents), (b"bert/x", contents)]
        pack = (lambda packed: packed) if packed else None
        block = making.sealed(contents, pack) if sealed else table_block(pairs)
        (source / FILE).write_bytes(table([block]))
        (source / DATA).write_bytes(b"")

    drawn = st.tuples(st.binary(max_size=80), st.booleans(), st.booleans(), st.booleans())
    yield Fuzz("any sound block of any bytes", drawn, damage, refused=True)
