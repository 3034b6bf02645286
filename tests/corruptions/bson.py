"""BSON files of Julia's raw kind (.tfbson)."""

import json
import re
import struct

import numpy as np
from hypothesis import strategies as st
from making import (
    Plain,
    backref,
    bson_document,
    bson_element,
    julia_array,
    julia_dict,
    julia_members,
    julia_type,
    write_bson,
)

from corruptions import Bomb, Corruption, Fuzz, Series, cuts

FILE = ""
QUERY = "bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"
CANONICAL = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight"
MOST = 2**31 - 1


def make(folder):
    write_bson(folder / "albert.tfbson", julia_members())
    return folder / "albert.tfbson"


def content(change):
    """The bytes after `change(members)`, which changes them, or gives others or bytes."""
    members = julia_members()
    given = change(members)
    given = members if given is None else given
    return given if isinstance(given, bytes) else bson_document(given)


def row(name, change, message, **options):
    return Corruption(name, lambda path: path.write_bytes(content(change)), f"$file: {message}", **options)


# --- changes of members


def query(**changes):
    """Another array for the query kernel."""

    def change(members):
        names, arrays = members["weights"]["data"]
        arrays[names.index(QUERY)] |= changes

    return change


def setting(value):
    """One more setting."""

    def change(members):
        names, values = members["config"]["data"]
        names.append("more")
        values.append(value)

    return change


def member(name, value):
    return lambda members: members.update({name: value})


def inside(name, *path):
    """Another value, the last of `path`, at a place inside a member."""

    def change(members):
        found = members[name]
        for step in path[:-2]:
            found = found[step]
        found[path[-2]] = value() if callable(value := path[-1]) else value

    return change


def both(*changes):
    def change(members):
        for one in changes:
            one(members)

    return change


def references(*more):
    return lambda members: members["_backrefs"].extend(more)


# --- what is refused


def corruptions():
    yield from _no_bson()
    yield from _lengths()
    yield from _texts()
    yield from _types()
    yield from _references()
    yield from _arrays()
    yield from _config()


def _no_bson():
    sound = bson_document(julia_members())
    for name, after in (("a zero", b"\0"), ("a line break", b"\n"), ("itself", sound)):
        seen = f"{len(sound + after)} bytes, and {len(sound)} by its first four"
        yield row(
            f"followed by {name}",
            lambda members, after=after: sound + after,
            f"{seen}: followed by something else, or no BSON file",
        )
    for data in (b"hello, world", b'{"config": {}}', b"\x89HDF\r\n\x1a\n", b"\0" * 64, b"\xff" * 9):
        length = struct.unpack("<i", data[:4])[0]
        yield row(
            f"not BSON at all: {data[:14]!r}",
            lambda members, data=data: data,
            f"{len(data)} bytes, and {length} by its first four: truncated, or no BSON file",
        )
    for data in (b"", b"\x05", b"\x05\0\0\0"):
        yield row(f"{len(data)} bytes", lambda members, data=data: data, f"{len(data)} bytes, too few for a BSON file")
    yield row(
        "an empty document",
        lambda members: bson_document({}),
        "no config and no weights, but []: not Julia's raw kind (.tfbson)<any>",
    )


def _lengths():
    for kind in (3, 4):
        for length in (-1, -(2**31), 4, 0, MOST, 10**6):
            yield row(
                f"a document of kind {kind} and length {length}",
                member("config", Plain(bytes([kind]) + struct.pack("<i", length) + b"\0")),
                f"the file: 'config' with a length of {length} bytes"
                if length < 5
                else f"the file: 'config' ends {length - 5} bytes after what holds it",
            )
    for length in (-1, -(2**31), 0, MOST):
        for kind, least, head in ((2, 1, 0), (5, 0, 1)):
            yield row(
                f"{'text' if kind == 2 else 'bytes'} of length {length}",
                member("extra", Plain(bytes([kind]) + struct.pack("<i", length))),
                f"the file: 'extra' with a length of {length} bytes"
                if length < least
                else f"the file: 'extra' ends {length + head} bytes after what holds it",
            )
        yield row(
            f"a line of the vocabulary of length {length}",
            member("vocab", ["<unk>\t0", Plain(b"\x02" + struct.pack("<i", length) + b"a\0")]),
            "vocab: item 2 is a string without its end",
        )
    inner = bson_document({"tag": "struct", "type": 1, "data": []})
    yield row(
        "a length that ends inside its own document",
        member("weights", Plain(b"\x03" + struct.pack("<i", len(inner) - 4) + inner[4:])),
        "the file: '' is of BSON type 0x00, as no value of Julia's is",
    )
    for kind in (6, 7, 9, 11, 12, 13, 14, 15, 17, 19, 0x7F, 0xFF, 0x20):
        yield row(
            f"kind 0x{kind:02x}, which Julia never writes",
            member("extra", Plain(bytes([kind]) + bytes(12))),
            f"the file: 'extra' is of BSON type 0x{kind:02x}, as no value of Julia's is",
        )
    for name, value in (("datetime", b"\x09" + bytes(8)), ("Code", b"\x0d\x0a\0\0\0os.exit()\0")):
        yield row(f"a {name} for a setting", setting(Plain(value)), f"config: a BSON {name}, as no value of Julia's is")


def _texts():
    bad = Plain(b"\x02\x03\0\0\0\xff\xfe\0")
    where = "not UTF-8 text (invalid start byte at byte 0)"
    yield row(
        "a setting that is not UTF-8",
        setting(bad),
        "config: not sound BSON ('utf-8' codec can't decode byte 0xff<any>",
    )
    yield row("a name that is not UTF-8", inside("weights", "data", 0, 3, bad), f"weights, key 4: {where}")
    yield row(
        "a line of the vocabulary that is not UTF-8",
        inside("vocab", 2, bad),
        "line 3 of the vocabulary is not UTF-8",
    )
    yield row(
        "a key that is not UTF-8",
        lambda members: bson_document([(b"\xff", 1), *members.items()]),
        "the file: the key b'\\xff' is not UTF-8 text",
    )
    yield row("a tag that is not UTF-8", member("weights", {"tag": bad}), f"weights, its tag: {where}")
    yield row(
        "a string without its end",
        inside("vocab", 2, Plain(b"\x02\x02\0\0\0ab")),
        "vocab: item 3 is a string without its end",
    )
    key = b"\x02" + b"k" * 300
    yield row(
        "a key without an end",
        lambda members: struct.pack("<i", len(key) + 5) + key + b"\0",
        "the file: a key of more than 255 bytes, or without an end",
    )
    yield row(
        "a key twice",
        lambda members: bson_document([*members.items(), ("config", 1)]),
        "the file: key 'config' occurs twice",
    )
    twice = bson_document([("tag", "a"), ("tag", "struct")])
    yield row("a tag twice", member("weights", Plain(b"\x03" + twice)), "weights: key 'tag' occurs twice")
    yield row(
        "a name twice",
        inside("weights", "data", 0, 1, "bert/embeddings/word_embeddings"),
        "weights: key 'bert/embeddings/word_embeddings' occurs twice",
    )
    yield row("a setting twice", inside("config", "data", 0, 1, "vocab_size"), "config: key 'vocab_size' occurs twice")
    twice = bson_document([("a", 1), ("a", 2)])
    yield row(
        "a key twice in a setting",
        setting(Plain(b"\x03" + twice)),
        "config: not sound BSON (key 'a' occurs twice)",
    )
    yield row(
        "a hundred more keys",
        lambda members: members.update({f"k{number}": None for number in range(100)}),
        "the file: a document of more than 64 keys",
    )


NAMES = [
    ("Base", "run"), ("Main", "Base", "run"), ("Core", "eval"), ("Main",), ("Base",), ("Flux", "Chain"),
    ("Main", "Main", "Core", "Float32"), ("Core.Float32",), ("Base", "Float32"), ("Core", "Float32", "x"),
    ("Base", "run\nalbert: done"),
]  # fmt: skip
TAGS = ["anonymous", "jl_anonymous", "ref", "svec", "jl_bottom_type", "singleton", "struct\n", "Struct", ""]


def _types():
    """Types and tags: nothing is looked up."""
    for name in NAMES:
        path = name[1:] if name[0] == "Main" else name
        known = f"the type {'.'.join(path)!r} is not read here, and no name in a file is looked up or run"
        kind, shown = julia_type(*name), f"the type {','.join(name)!r}"
        dictionary = julia_type("Base", "Dict", params=[kind])
        yield row(f"{shown} of an array", query(type=kind), f"weights '{QUERY}': {known}")
        yield row(f"{shown} of the config", inside("config", "type", kind), f"config: {known}")
        yield row(f"{shown} of the values", inside("weights", "type", dictionary), f"weights: {known}")
        struct_ = {"tag": "struct", "type": kind, "data": ["rm -rf /"]}
        yield row(f"{shown} of a setting", setting(struct_), f"config: {known}")
        yield row(f"{shown} for a setting", setting(kind), f"config: {known}")
    for tag in TAGS:  # BSON.jl makes code of some of these
        hostile = {"tag": tag, "path": ["Base", "run"], "typename": {"tag": "struct"}, "params": []}
        read = f"tag {tag!r}, which is not read here"
        yield row(f"the tag {tag!r} of a setting", setting(hostile), f"config: {read}")
        yield row(f"the tag {tag!r} of the config", member("config", hostile), f"config: {read}")
        wanted = f"tag {tag!r} where 'struct' belongs" if tag else "not tagged 'struct'"
        yield row(f"the tag {tag!r} of the weights", member("weights", hostile), f"weights: {wanted}")
        wanted = f"tag {tag!r} where 'array' belongs" if tag else "not tagged 'array'"
        yield row(f"the tag {tag!r} of an array", query(tag=tag), f"weights '{QUERY}': {wanted}")
        yield row(f"the tag {tag!r} of a type", query(type=hostile), f"weights '{QUERY}': {tag!r} where a type belongs")
    for tag in (1, None, ["array"], {"tag": "array"}, 0.5):
        yield row(f"{tag!r} for the weights' tag", member("weights", {"tag": tag}), "weights, its tag: not a string")
        yield row(f"{tag!r} for a setting's tag", setting({"tag": tag}), f"config: tag {tag!r}, which is not read here")
    for kind, said in (
        *((kind, f"{kind!r} where a type belongs") for kind in (None, 5, "Float32", [], {"a": 1}, backref(1))),
        ({"tag": "datatype"}, "a type named None"),
        ({"tag": "datatype", "name": "Core"}, "a type named 'Core'"),
        (julia_type(), "a type named []"),
        ({"tag": "datatype", "name": ["Core", 1], "params": []}, "a type named ['Core', 1]"),
        ({"tag": "datatype", "name": ["Core", "Any"], "params": 1}, "a type named ['Core', 'Any']"),
        ({"tag": "unionall"}, "None where a type belongs"),
        ({"tag": "unionall", "var": 1, "body": julia_type("Core", "Any")}, "a unionall over no type variable"),
    ):
        yield row(f"{json.dumps(kind)} for a type", query(type=kind), f"weights '{QUERY}': {said}")
    yield row(
        "a struct that is no Dict",
        inside("weights", "type", julia_type("Core", "Array")),
        "weights: a struct of type Array, not a Dict",
    )
    yield row(
        "a struct for a setting",
        setting({"tag": "struct", "type": julia_type("Core", "Float32"), "data": b"\0\0\0"}),
        "config: a struct of type Float32, which is not read here",
    )


def _references():
    for number in (0, -1, 5, 2**62, 1.0, True, "1", None):
        said = f"a backref to {number!r}, of 4 in _backrefs"
        yield row(f"weights by reference {number!r}", member("weights", backref(number)), f"weights: {said}")
        yield row(f"a setting by reference {number!r}", setting(backref(number)), f"config: {said}")

    def none_at_all(members):
        del members["_backrefs"]
        members["weights"] = backref(1)
        members["config"]["type"] = julia_type("Base", "Dict")

    yield row("a reference to none at all", none_at_all, "weights: a backref to 1, of 0 in _backrefs")
    yield row(
        "a reference without a number",
        member("weights", {"tag": "backref"}),
        "weights: a backref to None, of 4 in _backrefs",
    )
    for circle in ([backref(5)], [backref(6), backref(5)], [backref(6), backref(7), backref(5)]):
        add, said = references(*circle), "backref 5 leads to a backref again"
        yield row(f"weights in a circle of {len(circle)}", both(add, member("weights", backref(5))), f"weights: {said}")
        yield row(f"a setting in a circle of {len(circle)}", both(add, setting(backref(5))), f"config: {said}")
    for value in ([backref(5)], {"a": [backref(6)]}, {"tag": "tuple", "data": [backref(5)]}):
        yield row(
            f"{json.dumps(value)}, which holds itself",
            both(references(value, [backref(5)]), setting(backref(5))),
            "config: backref 5 lies within what it refers to",
        )
    yield row(
        "a type that holds itself",
        both(
            references({"tag": "unionall", "var": backref(1), "body": backref(5)}),
            inside("weights", "type", "params", [backref(5)]),
        ),
        "weights: backref 5 lies within what it refers to",
    )
    yield row("references that are no array", member("_backrefs", {"a": 1}), "_backrefs: not an array")


def _arrays():
    listed = "not a list of at most 32 whole numbers from 0 up"
    for size, said in (
        ([8, 7], "size [8, 7] of Float32 takes 224 bytes, not 256"),
        ([], "size [] of Float32 takes 4 bytes, not 256"),
        ([0, 8], "size [0, 8] of Float32 takes 0 bytes, not 256"),
        ([2**62, 4], f"size [{2**62}, 4] of Float32 takes {2**66} bytes, not 256"),
        ([2**32, 2**32], f"size [{2**32}, {2**32}] of Float32 takes {2**66} bytes, not 256"),
        ([-8, -8], f"an array of size [-8, -8], {listed}"),
        ([8.0, 8], f"an array of size [8.0, 8], {listed}"),
        ([True, 64], f"an array of size [True, 64], {listed}"),
        (64, f"an array of size 64, {listed}"),
        (None, f"an array of size None, {listed}"),
        (["8", "8"], f"an array of size ['8', '8'], {listed}"),
        ([1] * 33, f"an array of size <any>, {listed}"),
    ):
        yield row(f"size {size!r:.40}", query(size=size), f"weights '{QUERY}': {said}")
    wide = julia_type("Base", "Complex", params=[julia_type("Core", "Float32")])
    for name, change, said in (
        ("a list", query(data=[1.0] * 64), "an array of Float32 whose data are no bytes"),
        ("more", query(extra=1), "tag 'array' with ['tag', 'type', 'size', 'data'<any>"),
        ("no type", query(type=julia_type("Core", "Any")), "an array of Any, which is no plain number"),
        (
            "complex numbers",
            query(type=wide, size=[8, 4]),
            "an array of Complex{Float32}, not of Float32, Float16, Float64 or Int64",
        ),
    ):
        yield row(f"an array of {name}", change, f"weights '{QUERY}': {said}")
    yield row(
        "a number for an array",
        inside("weights", "data", 1, 0, 5),
        "weights 'bert/embeddings/word_embeddings': not tagged 'array'",
    )
    yield row(
        "whole numbers for weights",
        query(type=julia_type("Core", "Int32")),
        f"{CANONICAL} is int32, not one of float32, float16, bfloat16, float64",
    )
    for data, said in (
        ([["a"]], ": a Dict without keys and values"),
        ([["a"], []], ": a Dict of 1 keys and 0 values"),
        ([[], [], []], ": more than 2 items"),
        ({"a": 1}, ": not a vector"),
        ([{"a": 1}, []], ": not a vector"),
        ([[1], [1]], ", key 1: not a string"),
    ):
        yield row(f"weights with the items {data!r}", inside("weights", "data", data), f"weights{said}")
        if isinstance(data, list) and len(data) != 2:
            yield row(
                f"a config with the items {data!r}",
                inside("config", "data", data),
                "config: a Dict without as many keys as values",
            )

    def more_arrays(members):
        names, arrays = members["weights"]["data"]
        names += [f"x{number}" for number in range(1700)]
        arrays += arrays[:1] * 1700

    yield row("more arrays than any such model has", more_arrays, "weights: more than 1640 items")
    for name in ("spiece", "wordpiece"):
        square = julia_array(np.zeros((2, 2), np.uint8))
        yield row(
            f"a square for {name}",
            member(name, square),
            f"{name}: an array of UInt8 of size [2, 2], not a vector of UInt8",
        )
        yield row(f"text for {name}", member(name, "text"), f"{name}: not tagged 'array'")
    yield row("a document for a vocabulary", member("vocab", {}), "vocab: not a vector of strings")
    yield row("a number in the vocabulary", member("vocab", ["a\t0", 1]), "vocab: item 2 is not a string")


def _config():
    yield row("a list for a config", member("config", [1]), "config: holds a JSON list, not an object of settings")
    yield row(
        "nothing for a config", member("config", None), "config: holds a JSON NoneType, not an object of settings"
    )
    yield row("bytes for a setting", setting(b"ab"), "config: holds what is no setting (a bytes)")
    yield row("a type for a setting", setting(julia_type("Core", "Any")), "config: holds what is no setting (a Type)")
    kind = julia_type("Base", "Complex", params=[julia_type("Core", "Int32")])
    yield row(
        "an array for a setting",
        setting({**julia_array(np.zeros((1, 2), np.int64)), "type": kind}),
        "config: holds what is no setting (a ndarray)",
    )
    yield row(
        "NaN for a setting",
        setting(float("nan")),
        "config: is not a usable JSON config: NaN is no JSON number",
    )
    for key, said in (
        ({"tag": "tuple", "data": [1]}, "config: holds what is no setting (keys must be str<any>"),
        ([1], "config: a Dict with keys that are no plain values"),
    ):
        value = julia_dict({"a": 1}, julia_type("Core", "Any"))
        value["data"][0] = [key]
        yield row(f"{json.dumps(key)} for a setting's key", setting(value), said)
    yield Corruption(
        "a config that does not fit",
        lambda path: path.write_bytes(content(embedding_size_of_7)),
        "$file: does not match its config: 10 tensors of another shape: <any>",
    )


def embedding_size_of_7(members):
    keys, values = members["config"]["data"]
    values[keys.index("embedding_size")] = 7


# --- many of a kind


def series():
    def truncated(sound):
        found = re.finditer(b"tag\0|data\0|size\0|weights\0", sound)
        for cut in cuts(sound, range(40), (match.start() + step for match in found for step in (0, 5))):
            yield (
                sound[:cut],
                f"$file: {cut} bytes, too few for a BSON file"
                if cut < 5
                else f"$file: {cut} bytes, and {len(sound)} by its first four: truncated, or no BSON file",
            )

    def with_a_length_to_match(sound):
        for cut in range(5, len(sound), 31):
            yield struct.pack("<i", cut) + sound[4:cut], "$file<any>"

    yield Series("truncated", truncated)
    yield Series("truncated, with a length to match", with_a_length_to_match)


# --- what takes much of little


def nested(depth, kind=3):
    """Documents in one another."""
    least = bson_document({})
    head, length = [], len(least)
    for _ in range(depth):
        length += 4 + 3 + 1
        head.append(struct.pack("<i", length) + bytes([kind]) + b"0\0")
    return b"".join(reversed(head)) + least + b"\0" * depth


def many(element, count):
    """An array of the same element over and over, its keys empty."""
    one = bson_element("", element)
    return Plain(b"\4" + struct.pack("<i", len(one) * count + 5) + one * count + b"\0")


def bomb(name, change, message, **options):
    return Bomb(name, lambda: content(change), f"$file: {message}", **options)


def bombs():
    yield bomb(
        "references that stand for 2^30 values",
        both(setting(backref(5)), references(*([backref(number + 1)] * 2 for number in range(5, 35)), ["lol"])),
        "config: more than 262144 bytes, with all that it refers to",
    )
    for kind in (3, 4):
        for depth in (50, 1000, 100_000, 1_000_000):

            def deep(kind=kind, depth=depth):
                return Plain(bytes([kind]) + nested(depth, kind))

            for place, change, said in (
                ("weights", lambda deep: member("weights", deep), "weights: not tagged 'struct'"),
                ("config", lambda deep: member("config", deep), "config<any>"),
                ("a type", lambda deep: query(type=deep), f"weights '{QUERY}': <any>"),
                ("a size", lambda deep: query(size=deep), f"weights '{QUERY}'<any>"),
            ):
                yield bomb(
                    f"documents of kind {kind}, {depth} deep, for {place}",
                    lambda members, change=change, deep=deep: change(deep())(members),
                    said,
                    slack=4 * 2**20,
                )
    yield from _a_million_values()

    def settings(members):
        keys, values = members["config"]["data"]
        keys.append("k")
        values.append(many({}, 160_000))

    yield bomb("settings without end", settings, "config: more than 262144 bytes, with all that it refers to")
    for place, said, change in (
        (
            "the weights' tag",
            "weights, its tag: 20000005 bytes exceed the limit of 4096",
            lambda text: member("weights", {"tag": text}),
        ),
        (
            "the config's tag",
            "config: more than 262144 bytes, with all that it refers to",
            lambda text: member("config", {"tag": text}),
        ),
        (
            "a type's tag",
            f"weights '{QUERY}': more than 65536 bytes, with all that it refers to",
            lambda text: query(type={"tag": text}),
        ),
        (
            "a type's name",
            f"weights '{QUERY}': more than 65536 bytes, with all that it refers to",
            lambda text: query(type=julia_type("Core", text)),
        ),
        (
            "the vocabulary",
            "the list has no [UNK] token, so it is not a WordPiece one",
            lambda text: member("vocab", [text]),
        ),
        (
            "a key",
            "weights, key 1: 20000005 bytes exceed the limit of 4096",
            lambda text: inside("weights", "data", 0, 0, text),
        ),
    ):
        yield bomb(
            f"a huge text for {place}",
            lambda members, change=change: change("x" * 20_000_000)(members),
            said,
        )


def _a_million_values():
    """Few of them with their memory measured, many in time, and a million where there is time."""
    many_bytes = "more than 65536 bytes, with all that it refers to"
    places = {
        "config": (lambda bomb: member("config", bomb), "config<any>"),
        "weights": (lambda bomb: member("weights", bomb), "weights: not tagged 'struct'"),
        "vocab": (lambda bomb: member("vocab", bomb), "vocab: item 1 is not a string"),
        "spiece": (lambda bomb: member("spiece", bomb), "spiece: not tagged 'array'"),
        "_backrefs": (
            lambda bomb: both(member("_backrefs", bomb), member("weights", backref(7))),
            "_backrefs: more than 100000 items",
        ),
        "names": (lambda bomb: inside("weights", "data", 0, bomb), "weights: more than 1640 items"),
        "arrays": (lambda bomb: inside("weights", "data", 1, bomb), "weights: more than 1640 items"),
        "a size": (lambda bomb: query(size=bomb), f"weights '{QUERY}', its size: {many_bytes}"),
        "a type": (lambda bomb: query(type=bomb), f"weights '{QUERY}': {many_bytes}"),
        "data": (lambda bomb: query(data=bomb), f"weights '{QUERY}': an array of Float32 whose data are no bytes"),
    }
    others = {
        (60_000, "_backrefs"): "config<any>",
        (60_000, "vocab", ""): "the list has no [UNK] token, so it is not a WordPiece one",
        (60_000, "vocab", "a\t0"): "line 2 of the vocabulary repeats the piece 'a'",
        (600_000, "vocab", ""): "vocab: more than 500000 strings",
        (600_000, "vocab", "a\t0"): "vocab: more than 500000 strings",
    }
    for element in ({}, "", None, {"tag": "backref", "ref": 1}, "a\t0"):
        for place, (change, said) in places.items():
            for count in (60_000, 600_000 if place == "vocab" else 250_000, 1_000_000):
                at = (min(count, 600_000), place)
                yield bomb(
                    f"{count} values {element!r} for {place}",
                    lambda members, change=change, element=element, count=count: change(many(element, count))(members),
                    others.get(at) or others.get((*at, element) if isinstance(element, str) else at) or said,
                    slack=6 * 2**20,
                    memory=count == 60_000,
                    slow=count == 1_000_000 or (place == "_backrefs" and element not in (None, "a\t0")),
                )


# --- anything


def fuzzes():
    sound = bson_document(julia_members(main=()))
    structure = [match.start() for match in re.finditer(rb"tag\0|data\0|size\0|name\0|type\0|ref\0", sound)]
    place = st.integers(0, len(sound) - 1) | st.sampled_from(structure).flatmap(lambda at: st.integers(at, at + 20))

    def change_bytes(path, changes):
        changed = bytearray(sound)
        for at, byte in changes:
            changed[at] = byte
        path.write_bytes(changed)

    changes = st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=4)
    yield Fuzz("changed bytes", changes, change_bytes, 100)

    def any_document(path, drawn):
        where, value = drawn
        members = julia_members(main=())
        change = {"setting": setting(value), "array": inside("weights", "data", 1, 3, value)}
        change.get(where, member(where, value))(members)
        path.write_bytes(bson_document(members))

    where = st.sampled_from(["config", "weights", "vocab", "spiece", "_backrefs", "setting", "array"])
    yield Fuzz("any document", st.tuples(where, VALUE), any_document)


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["tag", "type", "data", "size", "name", "params", "ref", "var", "body"]), inner)
    | st.builds(backref, st.integers(0, 6))
    | st.builds(lambda tag, rest: {**rest, "tag": tag}, st.sampled_from(
        ["struct", "array", "datatype", "unionall", "tuple", "symbol", "backref", "svec", "ref"]), st.dictionaries(
        st.sampled_from(["type", "data", "size", "name", "params", "ref", "var", "body", "path"]), inner))
    | st.builds(julia_type, st.sampled_from(["Core", "Base", "Main"]), st.sampled_from(
        ["Dict", "Array", "Float32", "run", "Complex", "Any"])),
    max_leaves=12,
)  # fmt: skip
