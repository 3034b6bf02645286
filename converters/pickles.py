"""Pickles that others wrote, read without running them: each opcode is interpreted here, and nothing is imported.

The name of a class or function in a pickle stays a name (`Global`). Where it would be called, a function of ours is
(`known`), or a `Record` of the call stands for the result. The number of opcodes bounds time and memory.
Format: CPython's Lib/pickletools.py.
"""

from __future__ import annotations

import io
import pickletools
import struct
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Functions = Mapping[str, Callable[..., Any]]

# A tensor takes about 40, so these are some 13,000 tensors.
_MOST_OPCODES = 2**19
_MOST_INT_BYTES = 64  # a state of numpy's random generators has 16
# What Python's own library has of classes that hold values; all else of it could run code where a pickle is loaded.
_HARMLESS_MODULES = ("argparse", "collections", "datetime", "decimal", "enum", "fractions", "pathlib", "typing", "uuid")
_HARMLESS = {
    "_codecs.encode",
    "copyreg._reconstructor",
    "operator.getitem",  # of typing.Dict[str, Any]
    "builtins.getattr",  # of a member of an Enum
    *(f"builtins.{kind.__name__}" for kind in (bool, bytearray, bytes, complex, dict, float, frozenset)),
    *(f"builtins.{kind.__name__}" for kind in (int, list, object, range, set, slice, str, tuple, type)),
}
_TOO_FEW = "it takes more values than there are"
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # since Python 2
_SCALARS = (str, bytes, int, float, complex, bool, type(None))

# What damaged or hostile pickles lead to.
FAULTS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


class RefusedNameError(Exception):
    """A class or function that is not accepted, not even as a record; `name` is its full name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True)
class Global:
    """The full name of a class or function; it is never looked up."""

    name: str


@dataclass(eq=False)
class Record:
    """What a call would have made: the full name of what was called, its arguments, and the state and items it got."""

    made_by: str
    arguments: tuple[Any, ...]
    state: Any = None
    items: list[Any] = field(default_factory=list, repr=False)

    def __repr__(self) -> str:
        return f"<{self.made_by}>"


class Dictionary(dict[Any, Any]):
    """A dictionary with attributes, as PyTorch's state dicts have `_metadata`."""

    state: Any = None


def load(
    file: io.BytesIO, known: Functions, persistent: Callable[[Any], Any], *, accepts: Callable[[str], bool]
) -> Any:
    """The value of the pickle at the file's position, which is left behind it.

    `known`: what is called in the place of a name. `persistent`: the value of a persistent id. `accepts`: whether
    another name may be there, as a record. Raises RefusedNameError, or one of FAULTS for a pickle that is not sound.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in names, which are looked up nowhere
        return _Machine(known, persistent, accepts).run(file)


def is_harmless(name: str) -> bool:
    """Whether a record may be made of a name: not of what Python's own library can run code with."""
    module = name.rpartition(".")[0]
    first = name.partition(".")[0]
    return first not in sys.stdlib_module_names or name in _HARMLESS or (first in _HARMLESS_MODULES and module == first)


class _Machine:
    def __init__(self, known: Functions, persistent: Callable[[Any], Any], accepts: Callable[[str], bool]) -> None:
        self._known, self._persistent, self._accepts = known, persistent, accepts
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number >= _MOST_OPCODES:
                raise ValueError(f"a pickle of more than {_MOST_OPCODES} opcodes")
            name = opcode.name
            if name in _PUSHED:
                self._push(argument)
            elif name in _CONSTANTS:
                self._push(_CONSTANTS[name]())
            elif name == "STOP":
                break
            elif name in _STEPS:
                _STEPS[name](self, argument)
            else:
                raise ValueError(f"a pickle with the opcode {name}, which is not read")
        return self._pop()

    def _push(self, value: Any) -> None:
        if isinstance(value, int) and value.bit_length() > 8 * _MOST_INT_BYTES:
            raise ValueError("a whole number that is too long")
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack:
            raise IndexError(_TOO_FEW)
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack:
            raise IndexError(_TOO_FEW)
        return self._stack[-1]

    def _popped_to_mark(self) -> list[Any]:
        if not self._marks:
            raise IndexError(_TOO_FEW)
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _pop_mark(self, _: Any) -> None:
        self._popped_to_mark()

    def _drop(self, _: Any) -> None:
        self._pop()

    def _put(self, place: Any) -> None:
        self._memo[place] = self._top()

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._top()

    def _get(self, place: Any) -> None:
        if place not in self._memo:
            raise LookupError("it refers to a value that is not there")
        self._push(self._memo[place])

    def _tuple(self, count: int) -> None:
        start = len(self._stack) - count
        if start < 0:
            raise IndexError(_TOO_FEW)
        items = tuple(self._stack[start:])
        del self._stack[start:]
        self._push(items)

    def _marked_tuple(self, _: Any) -> None:
        self._push(tuple(self._popped_to_mark()))

    def _append(self, _: Any) -> None:
        self._extend([self._pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._popped_to_mark())

    def _extend(self, items: list[Any]) -> None:
        into = self._top()
        if isinstance(into, list):
            into.extend(items)
        elif isinstance(into, Record):
            into.items.extend(items)
        else:
            raise TypeError(f"appends to a {type(into).__name__}")

    def _setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _setitems(self, _: Any) -> None:
        self._set(self._popped_to_mark())

    def _set(self, items: list[Any]) -> None:
        into, pairs = self._top(), list(zip(items[::2], items[1::2], strict=True))
        if isinstance(into, dict):
            for key, value in pairs:
                into[hashable(key)] = value
        elif isinstance(into, Record):
            into.items.extend(pairs)
        else:
            raise TypeError(f"sets items of a {type(into).__name__}")

    def _additems(self, _: Any) -> None:
        items = self._popped_to_mark()
        into = self._top()
        if not isinstance(into, set):
            raise TypeError(f"adds to a {type(into).__name__}")
        into.update(map(hashable, items))

    def _frozenset(self, _: Any) -> None:
        self._push(frozenset(map(hashable, self._popped_to_mark())))

    def _global(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")
        self._name(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        full = f"{_RENAMED.get(module, module)}.{name}"
        if full not in self._known and not self._accepts(full):
            raise RefusedNameError(full)
        self._push(Global(full))

    def _reduce(self, _: Any) -> None:
        arguments, called = self._pop(), self._pop()
        self._push(self._made(called, arguments))

    def _newobj_ex(self, _: Any) -> None:
        named, arguments, called = self._pop(), self._pop(), self._pop()
        self._push(self._made(called, (*arguments, named) if named else arguments))

    def _made(self, called: Any, arguments: Any) -> Any:
        if not isinstance(called, Global) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no function")
        function = self._known.get(called.name)
        return Record(called.name, arguments) if function is None else function(*arguments)

    def _build(self, _: Any) -> None:
        state, built = self._pop(), self._top()
        if not isinstance(built, (Record, Dictionary)):
            raise TypeError(f"a state for a {type(built).__name__}")
        built.state = state

    def _binpersid(self, _: Any) -> None:
        self._push(self._persistent(self._pop()))

    def _nothing(self, _: Any) -> None:
        pass


def hashable(key: Any) -> Any:
    """What may be a key: a tuple in another, which takes time and stack without bound to hash, may not."""
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, (*_SCALARS, Global, Record)) for part in parts):
        raise TypeError(f"a key that is or holds a {type(key).__name__}")
    return key


# Opcodes that push their argument, those that push a new value, and all others that are read.
_PUSHED = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": Dictionary,
    "EMPTY_SET": set,
}
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine._nothing,
    "FRAME": _Machine._nothing,
    "MARK": _Machine._mark,
    "POP": _Machine._drop,
    "POP_MARK": _Machine._pop_mark,
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "TUPLE": _Machine._marked_tuple,
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._setitem,
    "SETITEMS": _Machine._setitems,
    "ADDITEMS": _Machine._additems,
    "FROZENSET": _Machine._frozenset,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "NEWOBJ_EX": _Machine._newobj_ex,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._binpersid,
}
