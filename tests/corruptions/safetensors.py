"""safetensors files, shards and their index, and what lies beside them."""

import json
import os
import shutil
import struct

import making
import numpy as np
from hypothesis import strategies as st
from making import safetensors_bytes

from converters import convert
from corruptions import Corruption, Fuzz, Series, cuts

FILE = "model.safetensors"
WORDS = "albert.embeddings.word_embeddings.weight"
UNSOUND = "$file: not a sound safetensors file (<any>)"


def make(folder):
    convert.save(making.model(), folder / "hf", format="safetensors")
    return folder / "hf"


def parts(path):
    """Header and data of a file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(path, change):
    """Write a file again after `change(header, data)`, which may return new data."""
    header, data = parts(path)
    data = change(header, data) or data
    path.write_bytes(safetensors_bytes(header, data))


def add(path, name, array):
    """One more float32 tensor."""

    def change(header, data):
        places = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": places}
        return data + array.tobytes()

    rewrite(path, change)


def shard(source):
    """The model in two shards with an index, written by hand."""
    header, data = parts(source / FILE)
    (source / FILE).unlink()
    for name in ("spiece.model", "tokenizer.json", "tokenizer_config.json"):
        (source / name).unlink()
    del header["__metadata__"]
    names, weight_map = list(header), {}
    for number, group in enumerate((names[::2], names[1::2]), 1):
        entries, content = {}, b""
        for name in group:
            begin, end = header[name]["data_offsets"]
            entries[name] = header[name] | {"data_offsets": [len(content), len(content) + end - begin]}
            content += data[begin:end]
        file = f"model-0000{number}-of-00002.safetensors"
        (source / file).write_bytes(safetensors_bytes(entries, content))
        weight_map |= dict.fromkeys(group, file)
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def corruptions():
    yield from _headers()
    yield from _offsets()
    yield from _contents()
    yield from _shards()
    yield from _beside()


def changed(change):
    return lambda source: rewrite(source / FILE, change)


# --- the header

ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "not UTF-8": b'{"\xff\xfe": 1}',
    "not JSON": b"{nothing of it",
    "not an object": b"[1, 2, 3]",
    "does not begin with a brace": b' {"a": {}}',
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


def _headers():
    for length in (0, 7, 2**63, 2**64 - 1, 100_000_001, 10**12):

        def damage(source, length=length):
            weights = source / FILE
            weights.write_bytes(struct.pack("<Q", length) + weights.read_bytes()[8:])

        yield Corruption(f"a header of {length} bytes", damage, UNSOUND, "convert")

    def really_too_large(source):
        with open(source / FILE, "wb") as file:
            file.write(struct.pack("<Q", 100_000_001))
            file.truncate(100_000_001 + 8)

    yield Corruption(
        "a header really too large", really_too_large, "$file: a header of 100000001 bytes, over the limit of 16777216"
    )
    for name, header in HEADERS.items():
        yield Corruption(
            f"a header: {name}",
            lambda source, header=header: (source / FILE).write_bytes(safetensors_bytes(header, b"abcd")),
            UNSOUND,
            "convert",
        )
    entry = json.dumps(ENTRY)
    twice = f'{{"a": {entry}, "a": {entry}}}'.encode()
    yield Corruption(
        "a tensor twice",
        lambda source: (source / FILE).write_bytes(safetensors_bytes(twice, b"abcd")),
        "$file: is not a usable JSON config: key 'a' occurs twice",
        "convert",
    )

    def metadata_twice(source):
        header, data = parts(source / FILE)
        text = json.dumps(header).replace('{"format": "pt"', '{"format": "pt", "format": "np"', 1)
        (source / FILE).write_bytes(safetensors_bytes(text.encode(), data))

    yield Corruption(
        "a key of the metadata twice", metadata_twice, "$file: is not a usable JSON config: key 'format' occurs twice"
    )
    yield Corruption(
        "a dtype of no weights",
        changed(lambda header, data: header[WORDS].update(dtype="U32")),
        f"$file: tensor {WORDS} is U32, not one of F32, F16, BF16, F64, I64",
    )
    for step in ("seven", "", "1.5", "99999999999999999999", str(2**63)):
        yield Corruption(
            f"the global step {step!r}",
            changed(lambda header, data, step=step: header["__metadata__"].update(global_step=step)),
            f"$source: global_step in the metadata is {step!r}, not a whole number",
        )


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
    header[list(header)[-1]]["data_offsets"].reverse()


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


def _offsets():
    for change in (
        *(overlap, hole, past_end, reversed_, negative, overflow, beyond_64_bits),
        *(shape_against_offsets, trailing, leading),
    ):
        yield Corruption(f"offsets: {change.__name__.strip('_')}", changed(change), UNSOUND, "convert")


# --- shapes and names


def _contents():
    for shape, size in (([], 1), ([0, 6], 0), ([30, 6, 1], 180), ([1] * 70, 1)):

        def change(header, data, shape=shape, size=size):
            begin, end = header[WORDS]["data_offsets"]
            gone = end - begin - 4 * size
            for name, entry in header.items():
                if name != "__metadata__" and entry["data_offsets"][0] >= end:
                    entry["data_offsets"] = [place - gone for place in entry["data_offsets"]]
            header[WORDS] |= {"shape": shape, "data_offsets": [begin, begin + 4 * size]}
            return data[: begin + 4 * size] + data[end:]

        yield Corruption(
            f"a tensor of the shape {shape!r:.20}",
            changed(change),
            f"$source: does not match its config: 1 tensor of another shape: {WORDS} is {shape}, "
            "the config asks for [30, 6]<any>",
        )
    yield Corruption(
        "an untied decoder of another shape",
        lambda source: add(source / FILE, "predictions.decoder.weight", making.model().tensors[WORDS].read()[:-1]),
        "$source: does not match its config: 1 tensor of another shape: predictions.decoder.weight is [29, 6], the "
        "config asks for [30, 6]; look at vocab_size in the config: weights and config must be of one model",
    )
    yield Corruption(
        "an unknown tensor",
        lambda source: add(source / FILE, "albert.oddity", making.values((3,), 1)),
        "$source: does not match its config: 1 tensor unknown: albert.oddity; take the config that belongs to the "
        "weights",
    )
    query = "bert.encoder.layer.0.attention.self.query.weight"
    yield Corruption(
        "another model, known by its names",
        lambda source: (source / FILE).write_bytes(safetensors_bytes({"__metadata__": {}, query: ENTRY}, b"abcd")),
        f"$source/config.json: the config says albert, the tensors are those of bert (as {query!r}); "
        "correct model_type, or take the model's own config",
    )
    yield Corruption("an empty file", lambda source: (source / FILE).write_bytes(b""), UNSOUND)


# --- shards

INDEX = "model.safetensors.index.json"
FIRST, SECOND = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))


def mapped(change):
    """Shards, and a changed map from tensor to shard."""

    def damage(source):
        shard(source)
        data = json.loads((source / INDEX).read_text())
        change(data["weight_map"])
        (source / INDEX).write_text(json.dumps(data))

    return damage


def indexed(text):
    """Shards with another index."""

    def damage(source):
        shard(source)
        (source / INDEX).write_text(text)

    return damage


def _missing(source):
    shard(source)
    (source / SECOND).unlink()


def _truncated(source):
    shard(source)
    (source / SECOND).write_bytes((source / SECOND).read_bytes()[:-1])


def _in_both(source):
    shard(source)
    header, data = parts(source / FIRST)
    name = next(iter(header))
    begin, end = header[name]["data_offsets"]
    add(source / SECOND, name, np.frombuffer(data[begin:end], np.float32).reshape(header[name]["shape"]))


def _one_file_too(source):
    sound = (source / FILE).read_bytes()
    shard(source)
    (source / FILE).write_bytes(sound)


def _shards():
    for name in ("../x", "/etc/passwd", "a/b", "", ".", "..", "../sharded/model.safetensors"):
        yield Corruption(
            f"the shard {name!r}",
            mapped(lambda names, name=name: names.update({WORDS: name})),
            f"$source/{INDEX}: names the shard {name!r}, which is not a plain file name",
        )
    for name in ("absent.safetensors", "nul\0.safetensors", "\ud800"):
        yield Corruption(
            f"the shard {name!r} alone",
            mapped(lambda names, name=name: names.update(dict.fromkeys(names, name))),
            f"$source: the shard <any> that {INDEX} names is missing",
        )
    yield Corruption(
        "a shard of an endless name",
        mapped(lambda names: names.update(dict.fromkeys(names, "x" * 300))),
        "<any>File name too long<any>",
    )
    yield Corruption("a missing shard", _missing, f"$source: the shard {SECOND} that {INDEX} names is missing")
    yield Corruption("a truncated shard", _truncated, f"$source/{SECOND}: not a sound safetensors file (<any>)")
    yield Corruption(
        "a shard with an extra tensor",
        mapped(lambda names: names.pop("predictions.bias")),
        f"$source/model-0000<any>-of-00002.safetensors: holds predictions.bias, which {INDEX} does not place there",
    )
    yield Corruption(
        "a tensor in two shards", _in_both, f"$source/{SECOND}: holds {WORDS}, which {INDEX} does not place there"
    )
    yield Corruption(
        "a shard that lacks a tensor",
        mapped(lambda names: names.update(phantom=FIRST)),
        f"$source/{FIRST}: lacks phantom, which {INDEX} places there",
    )
    for content in ("{}", "[]", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": []}'):
        yield Corruption(
            f"the index {content}", indexed(content), f"$source/{INDEX}: no weight_map from tensor to file"
        )
    yield Corruption(
        "an index that is not JSON",
        indexed('{"weight_map": '),
        f"$source/{INDEX}: is not JSON: Expecting value at line 1 column 16",
    )
    yield Corruption(
        "an index with a key twice",
        indexed('{"weight_map": {"a": "x", "a": "y"}}'),
        f"$source/{INDEX}: is not a usable JSON config: key 'a' occurs twice",
    )
    yield Corruption(
        "both one file and shards",
        _one_file_too,
        f"$source: holds both {FILE} and {INDEX}; remove the one that is out of date",
    )


# --- what lies beside the weights

SLOTS = "optimizer.safetensors"


def _slots(change):
    def damage(source):
        shutil.rmtree(source)
        convert.save(making.model(optimizer=True), source, format="safetensors")
        change(source / SLOTS)

    return damage


def _no_weights(source):
    (source / FILE).unlink()


def _directory(source):
    (source / FILE).unlink()
    (source / FILE).mkdir()


def _beside():
    yield Corruption(
        "truncated optimizer slots",
        _slots(lambda path: path.write_bytes(path.read_bytes()[:-1])),
        f"$source/{SLOTS}: not a sound safetensors file (<any>)",
    )
    yield Corruption(
        "a slot that is none",
        _slots(lambda path: add(path, "predictions.bias", making.values((30,), 1))),
        f"$source/{SLOTS}: predictions.bias is no optimizer slot (variable/adam_m)",
    )
    yield Corruption(
        "a slot without its variable",
        _slots(lambda path: add(path, "qa_outputs.bias/adam_m", making.values((2,), 1))),
        "$source: optimizer slot qa_outputs.bias/adam_m has no variable",
        "convert",
    )
    yield Corruption(
        "no config",
        lambda source: (source / "config.json").unlink(),
        "$source: no config.json beside the weights; copy the model's one there",
    )
    yield Corruption(
        "no weights",
        _no_weights,
        "$source: holds a config (config.json) and no weights; copy the model's there (model.safetensors or another "
        "kind)",
    )
    yield Corruption("a directory for weights", _directory, "$file: a directory where a file was expected")
    for name, said in (
        ("spiece.model", ": not a SentencePiece model (truncated or another file)"),
        ("tokenizer_config.json", "/tokenizer_config.json: is not JSON: <any>"),
    ):

        def halve(source, name=name):
            content = (source / name).read_bytes()
            (source / name).write_bytes(content[: len(content) // 2])

        yield Corruption(f"a truncated {name}", halve, f"$source{said}")


# --- many of a kind

SHRINKS = (
    lambda source: os.truncate(source / FILE, (source / FILE).stat().st_size - 4),
    "was changed or replaced since it was opened",
)


def series():
    def truncated(sound):
        (length,) = struct.unpack("<Q", sound[:8])
        header = json.loads(sound[8 : 8 + length])
        header.pop("__metadata__")
        edges = {8 + length + end for entry in header.values() for end in entry["data_offsets"]}
        around = (edge + step for edge in edges for step in (-1, 0, 1))
        for cut in cuts(sound, range(10), (8 + length - 1, 8 + length), around):
            yield sound[:cut], "$file<any>"

    def header_cut(sound):
        """Its first entries at every byte, with the right length before it, so that the parser sees it; the like ones
        that follow at some."""
        (length,) = struct.unpack("<Q", sound[:8])
        header, data = sound[8 : 8 + length].rstrip(), sound[8 + length :]
        for cut in sorted({*range(500), *range(0, len(header), 17)}):
            yield safetensors_bytes(header[:cut], data), "$file<any>"

    yield Series("truncated", truncated)
    yield Series("its header cut", header_cut)


def fuzzes():
    def damage(source, changes):
        content = bytearray((source / FILE).read_bytes())
        (length,) = struct.unpack("<Q", content[:8])
        for place, byte in changes:
            content[place % (length + 13)] = byte
        (source / FILE).write_bytes(content)

    # Places of the header, whose length is some 4,000 bytes, and the first of the data.
    changes = st.lists(st.tuples(st.integers(0, 2**14), st.integers(0, 255)), min_size=1, max_size=4)
    yield Fuzz("changed bytes", changes, damage)
