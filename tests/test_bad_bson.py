"""Damaged and hostile BSON files: each refused in one line, soon, in little memory, and nothing in them is run."""

import re
import struct
import sys
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import Plain, backref, bson_document, bson_element, julia_array, julia_dict, julia_members, julia_type

from converters import convert
from converters.errors import CheckpointError

QUERY = "bert/encoder/transformer/group_0/inner_group_0/attention_1/self/query/kernel"
CANONICAL = "albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight"
MOST = 2**31 - 1


@pytest.fixture
def path(tmp_path):
    return tmp_path / "albert.tfbson"


@pytest.fixture
def members():
    return julia_members()


@pytest.fixture
def fault(path, refused):
    """What is said of a file of these members, less its path; for changed bytes give those."""

    def run(content):
        path.write_bytes(content if isinstance(content, bytes) else bson_document(content))
        message = refused("inspect", path)
        assert message.startswith(f"{path}: ")
        return message.removeprefix(f"{path}: ")

    return run


def query(members, **changes):
    """The members with another array for the query kernel."""
    names, arrays = members["weights"]["data"]
    arrays[names.index(QUERY)] = {**arrays[names.index(QUERY)], **changes}
    return members


def setting(members, value):
    """The members with one more setting."""
    names, values = members["config"]["data"]
    names.append("more")
    values.append(value)
    return members


# --- what is no BSON file


def test_truncated_anywhere(path, members):
    sound = bson_document(members)
    cuts = {len(sound) * percent // 100 for percent in range(100)} | set(range(40))
    cuts |= {match.start() + step for match in re.finditer(b"tag\0|data\0|size\0|weights\0", sound) for step in (0, 5)}
    for cut in sorted(cuts):
        path.write_bytes(sound[:cut])
        with pytest.raises(CheckpointError) as refused:
            convert.load(path)
        wanted = f"{path}: {cut} bytes, " + (
            "too few for a BSON file" if cut < 5 else f"and {len(sound)} by its first four: truncated, or no BSON file"
        )
        assert str(refused.value) == wanted


def test_truncated_with_a_length_to_match(path, members):
    """As above, by someone who set the outermost length right."""
    sound = bson_document(members)
    for cut in range(5, len(sound), 31):
        path.write_bytes(struct.pack("<i", cut) + sound[4:cut])
        with pytest.raises(CheckpointError, match=re.escape(str(path))) as refused:
            convert.load(path)
        assert "\n" not in str(refused.value)


def test_trailing_bytes(fault, members):
    sound = bson_document(members)
    for after in (b"\0", b"\n", sound):
        said = f"{len(sound + after)} bytes, and {len(sound)} by its first four"
        assert fault(sound + after) == f"{said}: followed by something else, or no BSON file"


@pytest.mark.parametrize("content", [b"hello, world", b'{"config": {}}', b"\x89HDF\r\n\x1a\n", b"\0" * 64, b"\xff" * 9])
def test_not_bson_at_all(fault, content):
    length = struct.unpack("<i", content[:4])[0]
    assert fault(content) == f"{len(content)} bytes, and {length} by its first four: truncated, or no BSON file"


@pytest.mark.parametrize("content", [b"", b"\x05", b"\x05\0\0\0"])
def test_too_short(fault, content):
    assert fault(content) == f"{len(content)} bytes, too few for a BSON file"


def test_empty(fault):
    assert fault({}).startswith("no config and no weights, but []: not Julia's raw kind (.tfbson)")


@pytest.mark.parametrize("size", [MOST + 1, 2**40])
def test_beyond_2_gib_is_refused_before_a_byte_is_read(path, members, refused, monkeypatch, size):
    with open(path, "wb") as file:
        file.write(bson_document(members))
        file.truncate(size)
    from converters.julia.file import File

    monkeypatch.setattr(File, "_bytes", None)
    with pytest.raises(CheckpointError) as caught:
        convert.load(path)
    assert str(caught.value) == f"{path}: {size} bytes, more than the {MOST} that a BSON file can have"
    path.unlink()


# --- lengths


@pytest.mark.parametrize("length", [-1, -(2**31), 4, 0, 2**31 - 1, 10**6])
@pytest.mark.parametrize("kind", [3, 4])
def test_lengths_of_documents(fault, members, kind, length):
    members["config"] = Plain(bytes([kind]) + struct.pack("<i", length) + b"\0")
    said = fault(members)
    if length < 5:
        assert said == f"the file: 'config' with a length of {length} bytes"
    else:
        assert re.fullmatch(r"the file: 'config' ends \d+ bytes after what holds it", said)


@pytest.mark.parametrize("length", [-1, -(2**31), 0, 2**31 - 1])
def test_lengths_of_strings_and_bytes(fault, members, length):
    for kind, least in ((2, 1), (5, 0)):
        said = fault({**members, "extra": Plain(bytes([kind]) + struct.pack("<i", length))})
        if length < least:
            assert said == f"the file: 'extra' with a length of {length} bytes"
        else:
            assert re.fullmatch(r"the file: 'extra' ends \d+ bytes after what holds it", said)
    wrong = Plain(b"\x02" + struct.pack("<i", length) + b"a\0")
    assert fault({**members, "vocab": ["<unk>\t0", wrong]}) == "vocab: item 2 is a string without its end"


def test_a_length_that_ends_inside_its_own_document(fault, members):
    inner = bson_document({"tag": "struct", "type": 1, "data": []})
    short = struct.pack("<i", len(inner) - 4) + inner[4:]
    said = fault({**members, "weights": Plain(b"\x03" + short)})
    assert said.startswith(("weights: ", "the file: "))


@pytest.mark.parametrize("kind", [6, 7, 9, 11, 12, 13, 14, 15, 17, 19, 0x7F, 0xFF, 0x20])
def test_kinds_that_julia_never_writes(fault, members, kind):
    members = {**members, "extra": Plain(bytes([kind]) + bytes(12))}
    assert fault(members) == f"the file: 'extra' is of BSON type 0x{kind:02x}, as no value of Julia's is"


def test_kinds_that_julia_never_writes_among_settings(fault, members):
    assert fault(setting(members, Plain(b"\x09" + bytes(8)))) == "config: a BSON datetime, as no value of Julia's is"
    members = setting(julia_members(), Plain(b"\x0d\x0a\0\0\0os.exit()\0"))
    assert fault(members) == "config: a BSON Code, as no value of Julia's is"


# --- text and keys


def test_text_that_is_no_utf_8(fault, members):
    bad = Plain(b"\x02\x03\0\0\0\xff\xfe\0")
    assert "config: not sound BSON ('utf-8' codec can't decode byte 0xff" in "config: " + fault(
        setting(members, bad)
    ).removeprefix("config: ")
    members = julia_members()
    members["weights"]["data"][0][3] = bad
    assert fault(members) == "weights, key 4: not UTF-8 text (invalid start byte at byte 0)"
    members = julia_members()
    members["vocab"][2] = bad
    assert fault(members) == "line 3 of the vocabulary is not UTF-8"
    assert fault(bson_document([(b"\xff", 1), *julia_members().items()])) == (
        "the file: the key b'\\xff' is not UTF-8 text"
    )
    assert fault({**julia_members(), "weights": {"tag": bad}}) == (
        "weights, its tag: not UTF-8 text (invalid start byte at byte 0)"
    )


def test_strings_without_their_end(fault, members):
    members["vocab"][2] = Plain(b"\x02\x02\0\0\0ab")
    assert fault(members) == "vocab: item 3 is a string without its end"


def test_a_key_without_an_end(fault, members):
    body = b"\x02" + b"k" * 300
    content = struct.pack("<i", len(body) + 5) + body + b"\0"
    assert fault(content) == "the file: a key of more than 255 bytes, or without an end"


def test_duplicate_keys(fault, members):
    pairs = list(members.items())
    assert fault(bson_document([*pairs, ("config", 1)])) == "the file: key 'config' occurs twice"
    assert fault({**members, "weights": Plain(b"\x03" + bson_document([("tag", "a"), ("tag", "struct")]))}) == (
        "weights: key 'tag' occurs twice"
    )
    members["weights"]["data"][0][1] = members["weights"]["data"][0][0]
    assert fault(members) == "weights: key 'bert/embeddings/word_embeddings' occurs twice"
    members = julia_members()
    members["config"]["data"][0][1] = "vocab_size"
    assert fault(members) == "config: key 'vocab_size' occurs twice"
    twice = Plain(b"\x03" + bson_document([("a", 1), ("a", 2)]))
    assert fault(setting(julia_members(), twice)) == "config: not sound BSON (key 'a' occurs twice)"


def test_keys_without_end(fault, members):
    many = {f"k{number}": None for number in range(100)}
    assert fault({**members, **many}) == "the file: a document of more than 64 keys"


# --- types and tags: nothing is looked up


NAMES = [
    ("Base", "run"), ("Main", "Base", "run"), ("Core", "eval"), ("Main",), ("Base",), ("Flux", "Chain"),
    ("Main", "Main", "Core", "Float32"), ("Core.Float32",), ("Base", "Float32"), ("Core", "Float32", "x"),
    ("Base", "run\nalbert: done"),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=".".join)
def test_types_by_any_name(fault, members, name):
    path = name[1:] if name[0] == "Main" else name
    known = f"the type {'.'.join(path)!r} is not read here, and no name in a file is looked up or run"
    kind = julia_type(*name)
    assert fault(query(members, type=kind)) == f"weights '{QUERY}': {known}"
    members = julia_members()
    members["config"]["type"] = kind
    assert fault(members) == f"config: {known}"
    members = julia_members()
    members["weights"]["type"] = julia_type("Base", "Dict", params=[kind])
    assert fault(members) == f"weights: {known}"
    assert fault(setting(julia_members(), {"tag": "struct", "type": kind, "data": ["rm -rf /"]})) == f"config: {known}"
    assert fault(setting(julia_members(), kind)) == f"config: {known}"


TAGS = ["anonymous", "jl_anonymous", "ref", "svec", "jl_bottom_type", "singleton", "struct\n", "Struct", ""]


@pytest.mark.parametrize("tag", TAGS)
def test_tags_of_any_kind(fault, members, tag):
    """BSON.jl makes code of some of these."""
    hostile = {"tag": tag, "path": ["Base", "run"], "typename": {"tag": "struct"}, "params": []}
    assert fault(setting(members, hostile)) == f"config: tag {tag!r}, which is not read here"
    assert fault({**julia_members(), "config": hostile}) == f"config: tag {tag!r}, which is not read here"
    wanted = f"weights: tag {tag!r} where 'struct' belongs" if tag else "weights: not tagged 'struct'"
    assert fault({**julia_members(), "weights": hostile}) == wanted
    said = fault(query(julia_members(), tag=tag))
    assert said == f"weights '{QUERY}': " + (f"tag {tag!r} where 'array' belongs" if tag else "not tagged 'array'")
    assert fault(query(julia_members(), type=hostile)) == f"weights '{QUERY}': {tag!r} where a type belongs"


@pytest.mark.parametrize("tag", [1, None, ["array"], {"tag": "array"}, 0.5])
def test_tags_that_are_no_text(fault, members, tag):
    assert fault({**members, "weights": {"tag": tag}}) == "weights, its tag: not a string"
    assert re.fullmatch(r"config: tag .*, which is not read here", fault(setting(julia_members(), {"tag": tag})))


@pytest.mark.parametrize(
    "kind",
    [None, 5, "Float32", [], {"a": 1}, {"tag": "datatype"}, {"tag": "datatype", "name": "Core"}, julia_type(),
     {"tag": "datatype", "name": ["Core", 1], "params": []}, {"tag": "datatype", "name": ["Core", "Any"], "params": 1},
     {"tag": "unionall"}, {"tag": "unionall", "var": 1, "body": julia_type("Core", "Any")}, backref(1)],
)  # fmt: skip
def test_malformed_types(fault, members, kind):
    said = fault(query(members, type=kind))
    assert said.startswith(f"weights '{QUERY}': ")


def test_structs_that_are_no_dict(fault, members):
    members["weights"]["type"] = julia_type("Core", "Array")
    assert fault(members) == "weights: a struct of type Array, not a Dict"
    value = {"tag": "struct", "type": julia_type("Core", "Float32"), "data": b"\0\0\0"}
    assert fault(setting(julia_members(), value)) == "config: a struct of type Float32, which is not read here"


# --- references


def test_references_out_of_range(fault, members):
    for number in (0, -1, 5, 2**62, 1.0, True, "1", None):
        said = fault({**julia_members(), "weights": backref(number)})
        shown = 1 if number is True else number
        assert said == f"weights: a backref to {number!r}, of 4 in _backrefs", shown
        said = fault(setting(julia_members(), backref(number)))
        assert said == f"config: a backref to {number!r}, of 4 in _backrefs"
    del members["_backrefs"]
    members["weights"] = backref(1)
    members["config"]["type"] = julia_type("Base", "Dict")
    assert fault(members) == "weights: a backref to 1, of 0 in _backrefs"
    assert fault({**julia_members(), "weights": {"tag": "backref"}}) == "weights: a backref to None, of 4 in _backrefs"


def test_references_to_themselves_and_in_circles(fault, members):
    for circle in ([backref(5)], [backref(6), backref(5)], [backref(6), backref(7), backref(5)]):
        members = julia_members()
        members["_backrefs"] += circle
        members["weights"] = backref(5)
        assert fault(members) == "weights: backref 5 leads to a backref again"
        members = setting(julia_members(), backref(5))
        members["_backrefs"] += circle
        assert fault(members) == "config: backref 5 leads to a backref again"


def test_values_that_hold_themselves(fault, members):
    for inside in ([backref(5)], {"a": [backref(6)]}, {"tag": "tuple", "data": [backref(5)]}):
        members = setting(julia_members(), backref(5))
        members["_backrefs"] += [inside, [backref(5)]]
        assert fault(members) == "config: backref 5 lies within what it refers to"
    members = julia_members()
    members["_backrefs"] += [{"tag": "unionall", "var": backref(1), "body": backref(5)}]
    members["weights"]["type"]["params"] = [backref(5)]
    assert fault(members) == "weights: backref 5 lies within what it refers to"


def test_references_that_multiply(path, members):
    """A few hundred bytes that stand for 2^30 values."""
    members = setting(members, backref(5))
    members["_backrefs"] += [[backref(number + 1)] * 2 for number in range(5, 35)] + [["lol"]]
    said = within_limits(path, bson_document(members))
    assert said == "config: more than 262144 bytes, with all that it refers to"


def test_no_array_of_references(fault, members):
    assert fault({**members, "_backrefs": {"a": 1}}) == "_backrefs: not an array"


# --- arrays


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ([8, 7], "size [8, 7] of Float32 takes 224 bytes, not 256"),
        ([], "size [] of Float32 takes 4 bytes, not 256"),
        ([0, 8], "size [0, 8] of Float32 takes 0 bytes, not 256"),
        ([2**62, 4], f"size [{2**62}, 4] of Float32 takes {2**66} bytes, not 256"),
        ([2**32, 2**32], f"size [{2**32}, {2**32}] of Float32 takes {2**66} bytes, not 256"),
        ([-8, -8], "an array of size [-8, -8], not a list of at most 32 whole numbers from 0 up"),
        ([8.0, 8], "an array of size [8.0, 8], not a list of at most 32 whole numbers from 0 up"),
        ([True, 64], "an array of size [True, 64], not a list of at most 32 whole numbers from 0 up"),
        (64, "an array of size 64, not a list of at most 32 whole numbers from 0 up"),
        (None, "an array of size None, not a list of at most 32 whole numbers from 0 up"),
        (["8", "8"], "an array of size ['8', '8'], not a list of at most 32 whole numbers from 0 up"),
    ],
)
def test_sizes(fault, members, size, said):
    assert fault(query(members, size=size)) == f"weights '{QUERY}': {said}"


def test_too_many_sizes(fault, members):
    assert "not a list of at most 32 whole numbers from 0 up" in fault(query(members, size=[1] * 33))


def test_arrays_that_are_none(fault, members):
    start = f"weights '{QUERY}': "
    assert fault(query(members, data=[1.0] * 64)) == start + "an array of Float32 whose data are no bytes"
    assert fault(query(julia_members(), extra=1)).startswith(start + "tag 'array' with ['tag', 'type', 'size', 'data'")
    assert fault(query(julia_members(), type=julia_type("Core", "Any"))) == start + (
        "an array of Any, which is no plain number"
    )
    wide = julia_type("Base", "Complex", params=[julia_type("Core", "Float32")])
    assert fault(query(julia_members(), type=wide, size=[8, 4])) == start + (
        "an array of Complex{Float32}, not of Float32, Float16, Float64 or Int64"
    )
    members = julia_members()
    members["weights"]["data"][1][0] = 5
    assert fault(members) == "weights 'bert/embeddings/word_embeddings': not tagged 'array'"


def test_whole_numbers_for_weights(fault, members):
    said = fault(query(members, type=julia_type("Core", "Int32")))
    assert said == f"{CANONICAL} is int32, not one of float32, float16, bfloat16, float64"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([["a"]], "a Dict without keys and values"),
        ([["a"], []], "a Dict of 1 keys and 0 values"),
        ([[], [], []], "more than 2 items"),
        ({"a": 1}, "not a vector"),
        ([{"a": 1}, []], "not a vector"),
        ([[1], [1]], None),
    ],
)
def test_dicts(fault, members, data, said):
    members["weights"]["data"] = data
    assert fault(members) == ("weights, key 1: not a string" if said is None else f"weights: {said}")
    if said and isinstance(data, list) and len(data) != 2:
        members = julia_members()
        members["config"]["data"] = data
        assert fault(members) == "config: a Dict without as many keys as values"


def test_more_arrays_than_any_such_model_has(fault, members):
    names, arrays = members["weights"]["data"]
    for number in range(1300):
        names.append(f"x{number}")
        arrays.append(arrays[0])
    assert fault(members) == "weights: more than 1235 items"


@pytest.mark.parametrize("name", ["spiece", "wordpiece"])
def test_bytes_that_are_none(fault, members, name):
    members[name] = julia_array(np.zeros((2, 2), np.uint8))
    assert fault(members) == f"{name}: an array of UInt8 of size [2, 2], not a vector of UInt8"
    members[name] = "text"
    assert fault(members) == f"{name}: not tagged 'array'"


@pytest.mark.parametrize(("vocab", "said"), [({}, "not a vector of strings"), (["a\t0", 1], "item 2 is not a string")])
def test_vocabularies_that_are_none(fault, members, vocab, said):
    assert fault({**members, "vocab": vocab}) == f"vocab: {said}"


# --- the config


def test_configs_that_are_none(fault, members):
    assert fault({**members, "config": [1]}) == "config holds a JSON list, not an object of settings"
    assert fault({**members, "config": None}) == "config holds a JSON NoneType, not an object of settings"
    assert fault(setting(julia_members(), b"ab")) == "config holds what is no setting (a bytes)"
    assert fault(setting(julia_members(), julia_type("Core", "Any"))) == "config holds what is no setting (a Type)"
    numbers = julia_array(np.zeros((1, 2), np.int64))
    kind = julia_type("Base", "Complex", params=[julia_type("Core", "Int32")])
    assert fault(setting(julia_members(), {**numbers, "type": kind})) == "config holds what is no setting (a ndarray)"
    assert fault(setting(julia_members(), float("nan"))) == (
        "config is not a usable JSON config: NaN is no JSON number"
    )
    tuple_keys = julia_dict({"a": 1}, julia_type("Core", "Any"))
    tuple_keys["data"][0] = [{"tag": "tuple", "data": [1]}]
    assert fault(setting(julia_members(), tuple_keys)).startswith("config holds what is no setting (keys must be str")
    tuple_keys["data"][0] = [[1]]
    assert fault(setting(julia_members(), tuple_keys)) == "config: a Dict with keys that are no plain values"


def test_config_that_does_not_fit(path, members, refused):
    keys, values = members["config"]["data"]
    values[keys.index("embedding_size")] = 7
    path.write_bytes(bson_document(members))
    assert refused("inspect", path).startswith(f"{path} does not match its config: 10 tensors of another shape: ")


# --- bombs


def within_limits(path, content, slack=2**20, *, memory=True):
    """What is said of a file: within 1 s of CPU and four times the file's memory (a little besides for small ones)."""
    path.write_bytes(content)
    convert.source_format(path)  # the libraries are loaded
    start = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        convert.load(path)
    seconds = time.process_time() - start
    assert seconds < 1, seconds
    if memory:
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError):
                convert.load(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= 4 * len(content) + slack, peak
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 2000
    return message.removeprefix(f"{path}: ")


def nested(depth, inner=b"", kind=3):
    """Documents in one another."""
    least = bson_document({})
    head, body, tail = [], inner if inner else least, b"\0" * depth
    length = len(body)
    for _ in range(depth):
        length += 4 + 3 + 1
        head.append(struct.pack("<i", length) + bytes([kind]) + b"0\0")
    return b"".join(reversed(head)) + body + tail


@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("depth", [50, 1000, 100_000, 1_000_000])
def test_depth_bombs(path, members, kind, depth):
    bomb = Plain(bytes([kind]) + nested(depth, kind=kind))
    said = within_limits(path, bson_document({**members, "weights": bomb}), 4 * 2**20)
    assert said == ("weights: not tagged 'struct'")
    said = within_limits(path, bson_document({**julia_members(), "config": bomb}), 4 * 2**20)
    assert said.startswith("config")
    said = within_limits(path, bson_document(query(julia_members(), type=bomb)), 4 * 2**20)
    assert said.startswith(f"weights '{QUERY}': ")
    said = within_limits(path, bson_document(query(julia_members(), size=bomb)), 4 * 2**20)
    assert said.startswith(f"weights '{QUERY}'")


def many(element, count, kind=4):
    """An array of the same element over and over, its keys empty."""
    one = bson_element("", element)
    return Plain(bytes([kind]) + struct.pack("<i", len(one) * count + 5) + one * count + b"\0")


@pytest.mark.parametrize("element", [{}, "", None, {"tag": "backref", "ref": 1}, "a\t0"], ids=repr)
def test_a_million_values(path, element):
    for count, memory in ((1_000_000, False), (60_000, True)):
        bomb = many(element, count)
        sides = [julia_members(), julia_members()]
        for side in (0, 1):
            sides[side]["weights"]["data"][side] = bomb
        within = f"weights '{QUERY}'"
        for member, members in (
            *((name, {**julia_members(), name: bomb}) for name in ("config", "weights", "vocab", "spiece")),
            (("config", "_backrefs"), {**julia_members(), "_backrefs": bomb, "weights": backref(7)}),
            *(("weights", side) for side in sides),
            *((within, query(julia_members(), **{place: bomb})) for place in ("size", "type", "data")),
        ):
            said = within_limits(path, bson_document(members), 6 * 2**20, memory=memory)
            # Lines of a vocabulary are told by their numbers.
            told = (member, "line ", "the list has no [UNK] token") if member == "vocab" else member
            assert said.startswith(told)


def test_settings_without_end(path):
    keys, values = ["k"], [many({}, 160_000)]
    members = julia_members()
    members["config"]["data"] = [members["config"]["data"][0] + keys, members["config"]["data"][1] + values]
    assert within_limits(path, bson_document(members)) == ("config: more than 262144 bytes, with all that it refers to")


def test_a_huge_text(path):
    text = "x" * 20_000_000
    for member, members in (
        ("weights", {**julia_members(), "weights": {"tag": text}}),
        ("config", {**julia_members(), "config": {"tag": text}}),
        ("weights", query(julia_members(), type={"tag": text})),
        ("weights", query(julia_members(), type=julia_type("Core", text))),
        ("the list has no [UNK] token", {**julia_members(), "vocab": [text]}),
    ):
        assert within_limits(path, bson_document(members)).startswith(member)
    members = julia_members()
    members["weights"]["data"][0][0] = text
    assert within_limits(path, bson_document(members)) == "weights, key 1: 20000005 bytes, where 4096 are plenty"


# --- anything


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_any_changed_bytes_give_our_error_or_a_model(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.bson"
    content = bytearray(bson_document(julia_members(main=())))
    structure = [match.start() for match in re.finditer(rb"tag\0|data\0|size\0|name\0|type\0|ref\0", content)]
    place = st.integers(0, len(content) - 1) | st.sampled_from(structure).flatmap(lambda at: st.integers(at, at + 20))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(place)] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        for tensor in convert.load(path).tensors.values():
            assert tensor.read().shape == tensor.shape
    except CheckpointError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


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


@given(where=st.sampled_from(["config", "weights", "vocab", "spiece", "_backrefs", "setting", "array"]), value=VALUE)
@settings(max_examples=150, deadline=None)
def test_any_document_gives_our_error_or_a_model(tmp_path_factory, where, value):
    path = tmp_path_factory.getbasetemp() / "document.bson"
    members = julia_members(main=())
    if where == "setting":
        setting(members, value)
    elif where == "array":
        members["weights"]["data"][1][3] = value
    else:
        members[where] = value
    path.write_bytes(bson_document(members))
    try:
        convert.load(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


def test_no_code_of_a_file_is_run(path, members):
    """The events that running, importing or opening anything would raise."""
    hostile = {"tag": "struct", "type": julia_type("Base", "run"), "data": ["touch x"]}
    path.write_bytes(bson_document(setting(members, hostile)))
    convert.source_format(path)
    seen = []

    def hook(event, arguments):
        if watching and event in ("exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class", "import"):
            seen.append((event, arguments))

    watching = True
    sys.addaudithook(hook)
    with pytest.raises(CheckpointError, match=r"'Base\.run' is not read here"):
        convert.load(path)
    watching = False
    assert not seen
