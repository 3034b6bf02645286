"""Errors as data: one line of where, detail and advice, which survives pickling and can be named otherwise."""

import pickle
from pathlib import Path

import pytest

from albert_cli import errors as commands
from converters import errors
from converters.errors import PLACE, AlbertError, CheckpointError, CorruptError, UnknownFormatError, errors_name


def children(kind):
    return {kind, *(below for child in kind.__subclasses__() for below in children(child))}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("no such thing",), "no such thing"),
        ((Path("a/b"), "is damaged"), "a/b: is damaged"),
        (("a/b member x", "is damaged", "fetch it again"), "a/b member x: is damaged; fetch it again"),
        (("", "is damaged", "fetch it again"), "is damaged; fetch it again"),
        (("a", f"holds x and y: name {PLACE}/x"), "a: holds x and y: name a/x"),
    ],
)
def test_the_line(arguments, line):
    for kind in children(AlbertError):
        error = kind(*arguments)
        assert str(error) == line
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (kind, line)
        assert (again.where, again.detail, again.advice) == (error.where, error.detail, error.advice)


def test_what_an_error_has_of_its_own_is_pickled():
    error = commands.ColumnError("t.csv", "no column 'text'", missing=["text"])
    error.where = "data.csv"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.missing) == ("data.csv: no column 'text'", ("text",))


def test_errors_of_commands_are_no_faults_of_a_checkpoint():
    own = {kind for kind in children(AlbertError) if kind.__module__ == commands.__name__}
    assert commands.DataError in own
    assert not [kind for kind in own if issubclass(kind, CheckpointError)]
    assert issubclass(UnknownFormatError, (errors.FormatError, errors.UsageError))


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("/tmp/x1", "model"),
        ("/tmp/x1/config.json", "model/config.json"),
        ("/tmp/x1 member config", "model member config"),
        ("/tmp/x1: config", "model: config"),
        ("/tmp/x12", "/tmp/x12"),
        ("/a/tmp/x1", "/a/tmp/x1"),
    ],
)
def test_a_place_is_named_otherwise(where, shown):
    with pytest.raises(CorruptError) as error, errors_name("model", Path("/tmp/x1")):
        raise CorruptError(where, "holds /tmp/x1", f"name {PLACE}/y")
    assert str(error.value) == f"{shown}: holds /tmp/x1; name {shown}/y"
