"""Pickles of strangers: nothing in them runs or is imported, and damaged or hostile ones are refused in one line."""

import io
import os
import pickle
import pickletools
import struct
import sys
import time
import tracemalloc

import fairseq_models as fairseq
import making
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import convert, pickles, torch_files
from converters.errors import CheckpointError, CorruptError
from converters.pickles import Global, Record

PROTO, STOP = b"\x80\x02", b"."
NEVER_RUN = "which is neither a tensor nor a plain value, and is never run; save the model's state_dict() alone"


def load(content, known=None):
    return pickles.load(io.BytesIO(content), known or {}, lambda said: said, accepts=pickles.is_harmless)


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def archive(path, content):
    making.write_zip(path, [("archive/data.pkl", content), ("archive/data/0", bytes(256))])
    return path


def storage(numel=64, kind="torch FloatStorage"):
    return (
        b"("
        + text("storage")
        + b"c"
        + "\n".join(kind.split()).encode()
        + b"\n"
        + text("0")
        + text("cpu")
        + (b"K" + bytes([numel]) + b"tQ")
    )


def tensor(first=b"K\x00", shape=b"K\x08K\x08\x86", strides=b"K\x08K\x01\x86", of=None):
    """The opcodes of a tensor; each argument is opcodes too."""
    called = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return called + (of or storage()) + first + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR"


def holding(value):
    """A dictionary of settings and one tensor's opcodes."""
    return PROTO + b"}(" + text("args") + b"}" + text("model") + b"}(" + text("w") + value + b"uu" + STOP


# --- nothing runs


class Reduced:
    def __init__(self, called, *arguments):
        self.made = called, arguments

    def __reduce__(self):
        return self.made


def hostile(marker):
    yield "posix.system", Reduced(os.system, f"touch {marker}")
    yield "builtins.eval", Reduced(eval, f"open({str(marker)!r}, 'w')")
    yield "builtins.exec", Reduced(exec, f"open({str(marker)!r}, 'w')")
    yield "builtins.__import__", Reduced(__import__, "antigravity")
    yield "io.open", Reduced(open, str(marker), "w")
    yield "pickle.loads", Reduced(pickle.loads, pickle.dumps(Reduced(os.system, f"touch {marker}")))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("dictionary", [True, False])
def test_what_would_run_code_is_refused(tmp_path, protocol, number, dictionary):
    marker = tmp_path / "marker"
    name, value = list(hostile(marker))[number]
    path = archive(tmp_path / "model.pt", pickle.dumps({"args": value, "model": {}}, protocol))
    if dictionary:
        (tmp_path / "dict.txt").write_text("a 1\n")
    with pytest.raises(CorruptError) as caught:
        convert.load(path)
    said = str(caught.value).replace("holds _", "holds ")  # as the module in C is called
    assert said == f"{path}: holds {name}, {NEVER_RUN}"
    assert not marker.exists()


def test_no_class_of_a_file_is_imported_or_called():
    """Not that of a library which is there: a record is made of it."""
    before = set(sys.modules)
    found = load(b"\x80\x02cxmlrpc_like.mod\nCls.inner\n(K\x01K\x02t\x81}" + text("a") + b"K\x03sb.")
    assert (found.made_by, found.arguments, found.state) == ("xmlrpc_like.mod.Cls.inner", (1, 2), {"a": 3})
    assert isinstance(found, Record)
    assert repr(found) == "<xmlrpc_like.mod.Cls.inner>"
    assert load(b"\x80\x02cnumpy\nload\n.") == Global("numpy.load")
    assert set(sys.modules) == before


def test_the_events_that_running_code_raises(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"args": {"a": torch.nn.Linear(1, 1), "b": torch.float32}, "model": {"x": torch.ones(1)}}, path)
    torch_files.read(path, records=True)
    seen = []

    def hook(event, arguments):
        if watching and event in ("exec", "compile", "import", "os.system", "pickle.find_class", "subprocess.Popen"):
            seen.append((event, arguments))

    watching = True
    sys.addaudithook(hook)
    found = torch_files.read(path, records=True)
    watching = False
    assert not seen
    assert found.value["args"]["a"].made_by == "torch.nn.modules.linear.Linear"


# --- plain values


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_are_as_pickle_reads_them(protocol):
    value = {
        "numbers": [0, -1, 255, 65536, 2**40, -(2**70), 1.5, float("inf"), True, False, None, 2 + 1j],
        "texts": ["", "é\ud800", "x" * 70_000, b"", b"\xff" * 300],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        ("a", 1): {"deep": [[[[]]]]},
        3: {1, 2, "a"},
    }
    value["again"] = value["numbers"]
    found = load(pickle.dumps(value, protocol), torch_files._KNOWN)
    assert found == value
    assert found["again"] is found["numbers"]
    if protocol >= 4:
        assert load(pickle.dumps(frozenset("ab"), protocol)) == frozenset("ab")


def test_what_holds_itself():
    value = []
    value.append({"me": value})
    found = load(pickle.dumps(value, 2))
    assert found[0]["me"] is found


# --- bombs


def nested(opcode, count=50_000):
    return PROTO + b")" + opcode * count


BOMBS = {
    "opcodes": (PROTO + b"N" * 2**20 + STOP, "a pickle of more than 524288 opcodes"),
    "a key of nested tuples": (PROTO + b"}" + nested(b"\x85")[2:] + b"Ns" + STOP, "a key that is or holds a tuple"),
    "a set of nested tuples": (
        b"\x80\x04\x8f(" + nested(b"\x85")[2:] + b"\x90" + STOP,
        "a key that is or holds a tuple",
    ),
    "laughs": (
        PROTO + b"}" + b")" + b"".join(b"q\x00h\x00\x86" for _ in range(60)) + b"Ns" + STOP,
        "a key that is or holds a tuple",
    ),
    "a text longer than the file": (
        b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc",
        "expected 1099511627776 bytes in a unicodestring8, but only 3 remain",
    ),
    "bytes longer than the file": (
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc",
        "expected 4611686018427387904 bytes in a bytes8, but only 3 remain",
    ),
    "a huge number": (
        PROTO + b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + STOP,
        "a whole number that is too long",
    ),
    "a number in digits": (b"L" + b"9" * 10**6 + b"L\n.", "<any>"),
    "nothing": (b"", "pickle exhausted before seeing STOP"),
    "no STOP": (PROTO + b"N", "pickle exhausted before seeing STOP"),
    "an empty stack": (PROTO + b"0" + STOP, "it takes more values than there are"),
    "no mark": (PROTO + b"t" + STOP, "it takes more values than there are"),
    "a memo that is not there": (PROTO + b"h\x07" + STOP, "it refers to a value that is not there"),
    "a name without its text": (b"\x80\x04NN\x93" + STOP, "a name that is no text"),
    "a call of a number": (PROTO + b"K\x01)R" + STOP, "a call of what is no function"),
    "an old instance": (b"(ios\nsystem\n.", "a pickle with the opcode INST, which is not read"),
    "a buffer outside": (b"\x80\x05\x97.", "a pickle with the opcode NEXT_BUFFER, which is not read"),
    "an extension": (PROTO + b"\x82\x01" + STOP, "a pickle with the opcode EXT1, which is not read"),
    "a state of a list": (PROTO + b"]}b" + STOP, "a state for a list"),
    "items of a number": (PROTO + b"K\x01(NNu" + STOP, "sets items of a int"),
    "half an item": (PROTO + b"}(Nu" + STOP, "<any>"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb(tmp_path, name):
    content, reason = BOMBS[name]
    path = archive(tmp_path / "model.pt", content)
    started = time.process_time()
    with pytest.raises(CorruptError) as caught:
        torch_files.read(path, records=True)
    assert time.process_time() - started < 3
    if reason != "<any>":
        assert str(caught.value) == f"{path}: not a sound PyTorch file ({reason})"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["a text longer than the file", "a huge memo", "a huge number"])
def test_memory_is_bounded(name):
    """A place in the memo is a number, for which C's unpickler takes as much memory."""
    content = PROTO + b"Nr\xff\xff\xff\x7f" + STOP if name == "a huge memo" else BOMBS[name][0]
    tracemalloc.start()
    try:
        if name == "a huge memo":
            assert load(content) is None
        else:
            with pytest.raises(ValueError, match=r"expected|too long"):
                load(content)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


# --- tensors


HUGE = b"\x8a\x08" + struct.pack("<q", 2**62)
TENSORS = {
    "beyond": (
        tensor(shape=b"K\x09K\x08\x86"),
        "tensor w of shape [9, 8] reaches beyond the 256 bytes of its storage",
    ),
    "first": (tensor(first=b"K\x01"), "tensor w of shape [8, 8] reaches beyond the 256 bytes of its storage"),
    "doubles": (
        tensor(of=storage(kind="torch DoubleStorage")),
        "tensor w of shape [8, 8] reaches beyond the 256 bytes of its storage",
    ),
    "repeats": (
        tensor(shape=b"J\x00\x00\x00\x40J\x00\x00\x00\x40\x86", strides=b"K\x00K\x00\x86"),
        (
            "tensor w of shape [1073741824, 1073741824] repeats the 1 elements that it has in the file; save a copy of "
            "it (torch.Tensor.contiguous)"
        ),
    ),
    "negative": (
        tensor(strides=b"J\xf8\xff\xff\xffK\x01\x86"),
        "not a sound PyTorch file (a tensor of sizes that none has)",
    ),
    "huge": (tensor(shape=HUGE + b"K\x01\x86"), "not a sound PyTorch file (a tensor of sizes that none has)"),
    "true": (tensor(shape=b"\x88\x88\x86"), "not a sound PyTorch file (a tensor of sizes that none has)"),
    "axes": (tensor(shape=b"(" + b"K\x01" * 9 + b"t"), "not a sound PyTorch file (a tensor of sizes that none has)"),
    "strides": (tensor(strides=b"K\x01\x85"), "not a sound PyTorch file (a tensor that is not whole)"),
    "storage": (tensor(of=b"N"), "not a sound PyTorch file (a tensor that is not whole)"),
    "kind": (
        tensor(of=storage(kind="torch StrangeStorage")),
        "not a sound PyTorch file (a storage of a kind that is not known)",
    ),
    "elsewhere": (tensor(of=storage().replace(text("0"), text("1"))), "tensor w has no values in the file"),
    "record": (b"cmine\nTensor\n)R", "'w' of the model is a mine.Tensor, not a tensor"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensor(tmp_path, name):
    opcodes, message = TENSORS[name]
    path = archive(tmp_path / "model.pt", holding(opcodes))
    with pytest.raises(CorruptError) as caught:
        convert.load(path, format="fairseq")
    assert str(caught.value) == f"{path}: {message}"


def test_the_tensor_that_these_are_changed_from_is_sound(tmp_path):
    found = torch_files.read(archive(tmp_path / "model.pt", holding(tensor())))
    assert found.tensors(found.value["model"])["w"].read().tolist() == [[0.0] * 8] * 8


MACHINE = {"protocol_version": 1001, "little_endian": sys.byteorder == "little", "type_sizes": {"int": 4}}


def old_file(path, *, magic=0x1950A86A20F9469CFC6C, machine=MACHINE, keys=("0",), count=64, values=bytes(256), of=None):
    """As PyTorch before 1.6 wrote one tensor."""
    begins = [pickle.dumps(item, 2) for item in (magic, 1001, machine)]
    ends = [pickle.dumps(list(keys), 2), struct.pack("<q", count), values]
    path.write_bytes(b"".join([*begins, holding(tensor(of=of)), *ends]))
    return path


OLD = {
    "magic": ({"magic": 7}, "not a sound PyTorch file (it does not begin as one)"),
    "machine": (
        {"machine": {"little_endian": None}},
        "written on a machine of another byte order; save it again on a usual one",
    ),
    "keys": ({"keys": ["0", "1"]}, "not a sound PyTorch file (its storages are not those of its tensors)"),
    "twice": ({"keys": ["0", "0"]}, "not a sound PyTorch file (its storages are not those of its tensors)"),
    "count": ({"count": -1}, "truncated inside the values of storage '0'"),
    "huge": ({"count": 2**62}, "truncated inside the values of storage '0'"),
    "short": ({"values": bytes(255)}, "truncated inside the values of storage '0'"),
    "fewer": ({"count": 63}, "tensor w of shape [8, 8] reaches beyond the 252 bytes of its storage"),
    "none": ({"keys": []}, "tensor w has no values in the file"),
}


@pytest.mark.parametrize("name", OLD)
def test_a_file_from_before_1_6(tmp_path, name):
    changes, message = OLD[name]
    path = old_file(tmp_path / "model.pt", **changes)
    with pytest.raises(CorruptError) as caught:
        convert.load(path, format="fairseq")
    assert str(caught.value) == f"{path}: {message}"


def test_a_view_in_a_file_from_before_1_6(tmp_path):
    """Of a part of a storage, as the first versions of PyTorch noted it."""
    values = np.arange(72, dtype=np.float32)
    view = b"X\x01\x00\x00\x00vK\x08K\x40\x87"  # its name, the first element and how many
    of = storage(72)[:-2] + view + b"tQ"
    found = torch_files.read(old_file(tmp_path / "model.pt", count=72, values=values.tobytes(), of=of))
    assert (found.tensors(found.value["model"])["w"].read().reshape(-1) == values[8:]).all()


def test_a_name_without_end(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"args": {}, "model": {"x" * 10**6: torch.ones(1)}}, path)
    with pytest.raises(
        CorruptError, match=r"a tensor's name of 1000000 characters begins 'x+…; none has more than 1000"
    ):
        convert.load(path)


def test_names_are_escaped_and_cut(tmp_path):
    """Whatever a file calls its classes reaches no terminal as it is."""
    path = archive(tmp_path / "model.pt", PROTO + b"cos\nsys\x1btem" + b"m" * 10**6 + b"\n" + STOP)
    with pytest.raises(CorruptError) as caught:
        torch_files.read(path)
    assert str(caught.value) == f"{path}: holds os.sys\\x1btem{'m' * 107}…, {NEVER_RUN}"
    archive(path, PROTO + b"cos\\K\nsystem\n" + STOP)
    with pytest.raises(CorruptError) as caught:
        torch_files.read(path)
    assert str(caught.value) == f"{path}: holds os\\K.system, {NEVER_RUN}"
    archive(path, holding(b"cmine\nTen\x07sor\n)R"))
    with pytest.raises(CorruptError) as caught:
        convert.load(path, format="fairseq")
    assert str(caught.value) == f"{path}: 'w' of the model is a mine.Ten\\x07sor, not a tensor"


def test_every_opcode_is_read_or_refused():
    """None does nothing by mistake."""
    read = pickles._PUSHED | pickles._CONSTANTS.keys() | pickles._STEPS.keys() | {"STOP"}
    assert {opcode.name for opcode in pickletools.opcodes} - read == {
        *("INT", "LONG", "FLOAT", "STRING", "UNICODE", "PERSID", "INST", "OBJ", "LIST", "DICT", "DUP"),
        *("EXT1", "EXT2", "EXT4", "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"),
    }


# --- damage


@pytest.fixture(scope="module")
def trained_files(tmp_path_factory):
    """The bytes of checkpoints with records of every kind, of both layouts, and a directory for damaged ones."""
    folder = tmp_path_factory.mktemp("trained")
    made = []
    for zipped in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            forged = fairseq.Forged(patch)
            value = fairseq.trained(fairseq.old(fairseq.state()), fairseq.omegaconf(forged, fairseq.ARGS))
            made.append((fairseq.write(folder / "in", value, zipped=zipped) / "model.pt").read_bytes())
            forged.gone()
    return folder / "in/model.pt", made


_CODES = st.sampled_from([opcode.code.encode("latin-1") for opcode in pickletools.opcodes])
_CHANGES = st.lists(st.tuples(st.integers(0, 6000), _CODES | st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)


def test_any_damage_gives_our_error_or_a_model(trained_files):
    path, made = trained_files

    @given(st.integers(0, 1), _CHANGES)
    @settings(max_examples=100)
    def damage(number, changes):
        content = bytearray(made[number])
        for place, data in changes:
            content[place : place + len(data)] = data
        path.write_bytes(content)
        try:
            checkpoint = convert.load(path)
            assert all(tensor.read().shape == tensor.shape for tensor in checkpoint.tensors.values())
        except CheckpointError as error:
            assert str(path.parent) in str(error)
            assert str(error).isprintable()

    damage()
