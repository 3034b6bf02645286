"""Damaged, hostile and foreign files of every format: refused in one line that names the file, soon, in little memory.

What is done to them, and what is reported then, stands in `corruptions/`, one file per format.
"""

import shutil
import time
import tracemalloc
import warnings

import corruptions
import making
import pytest
from hypothesis import given, settings

from converters import convert
from converters.errors import AlbertError, CheckpointError

FORMATS = corruptions.formats()


def rows(kind, **marks):
    """Every row of a kind of table, with its format."""
    return [
        pytest.param(
            name, item, id=f"{name}: {item.name}", marks=[pytest.mark.slow] if getattr(item, "slow", 0) else []
        )
        for name, module in FORMATS.items()
        for item in getattr(module, kind, list)()
    ]


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """The path of a sound model of a format, which nobody changes."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = FORMATS[name].make(tmp_path_factory.mktemp(name))
        return made[name]

    return of


def copied(path, folder):
    """A copy to damage, and the file of it that is damaged."""
    target = folder / path.name
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        shutil.copy(path, target)
    return target


@pytest.fixture
def source(sound, tmp_path):
    return lambda name: copied(sound(name), tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_the_base_of_all_that_follows_is_sound(sound, name):
    """And small enough for a load at each cut, which then reaches every tensor."""
    checkpoint = convert.load(sound(name))
    assert len(checkpoint.tensors) in (32, 34)
    assert sum(tensor.read().nbytes for tensor in checkpoint.tensors.values()) < 10_000


@pytest.mark.parametrize(("name", "corruption"), rows("corruptions"))
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.usefixtures("in_time")
def test_corruption(source, tmp_path, refused, name, corruption):
    path = source(name)
    corruption.damage(path)
    started = time.process_time()
    message = refused(corruption.command, path, *([tmp_path / "out"] if corruption.command == "convert" else []))
    seconds = time.process_time() - started
    assert corruptions.agrees(message, corruption.message, path, path / FORMATS[name].FILE), message
    assert message.isprintable()
    assert len(message) < 4100
    assert seconds < corruption.seconds


@pytest.mark.parametrize(("name", "series"), rows("series"))
def test_series(source, name, series):
    path = source(name)
    file = path / FORMATS[name].FILE
    series.prepare(path)
    for content, wanted in series.contents(file.read_bytes()):
        file.write_bytes(content)
        try:
            checkpoint = convert.load(path)
        except CheckpointError as error:
            assert corruptions.agrees(str(error), wanted or "$file<any>", path, file), str(error)
            assert "\n" not in str(error)
        else:
            assert wanted is None
            assert len(checkpoint.tensors) == series.tensors


@pytest.mark.parametrize("name", [name for name, module in FORMATS.items() if hasattr(module, "SHRINKS")])
def test_a_file_that_shrinks_after_it_was_opened(source, name):
    path = source(name)
    shrink, message = FORMATS[name].SHRINKS
    checkpoint = convert.load(path)
    shrink(path)
    with pytest.raises(AlbertError, match=message):
        [tensor.read() for tensor in checkpoint.tensors.values()]


@pytest.mark.parametrize(("name", "bomb"), rows("bombs"))
def test_bomb(tmp_path, sound, name, bomb):
    path = tmp_path / sound(name).name
    content = bomb.content()
    path.write_bytes(content)
    convert.source_format(path)  # the libraries are loaded
    started = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        convert.load(path)
    seconds = time.process_time() - started
    assert seconds < 1, seconds
    message = str(caught.value)
    assert corruptions.agrees(message, bomb.message, path, path), message
    assert "\n" not in message
    assert len(message) < 2000
    if bomb.memory:
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError):
                convert.load(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= 4 * len(content) + bomb.slack, peak
    path.unlink()  # many of them are large


@pytest.mark.parametrize(("name", "fuzz"), rows("fuzzes"))
def test_any_damage_gives_our_error_or_a_model(sound, tmp_path, name, fuzz):
    path = copied(sound(name), tmp_path)
    file = path / FORMATS[name].FILE
    fuzz.prepare(path)
    whole = file.read_bytes()

    @given(fuzz.strategy)
    @settings(max_examples=fuzz.examples)
    def damage(drawn):
        file.write_bytes(whole)
        fuzz.damage(path, drawn)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, of what a pickle claims
            try:
                checkpoint = convert.load(path)
                assert all(tensor.read().shape == tensor.shape for tensor in checkpoint.tensors.values())
            except CheckpointError as error:
                assert str(path) in str(error)
                assert "\n" not in str(error)
            else:
                assert not fuzz.refused
                assert fuzz.tensors in (None, len(checkpoint.tensors))

    damage()


# --- of one format alone


@pytest.mark.parametrize("size", [2**31, 2**40])
def test_a_bson_beyond_2_gib_is_refused_before_a_byte_is_read(source, monkeypatch, size):
    path = source("bson")
    with open(path, "r+b") as file:
        file.truncate(size)
    from converters.julia.file import File

    monkeypatch.setattr(File, "_bytes", None)
    with pytest.raises(CheckpointError) as caught:
        convert.load(path)
    assert str(caught.value) == f"{path}: {size} bytes, more than the {2**31 - 1} that a BSON file can have"
    path.unlink()


def test_no_code_of_a_bson_file_is_run(source):
    """The events that running, importing or opening anything would raise."""
    import sys

    from corruptions import bson

    path = source("bson")
    hostile = {"tag": "struct", "type": making.julia_type("Base", "run"), "data": ["touch x"]}
    path.write_bytes(bson.content(bson.setting(hostile)))
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
