"""What was typed, put right before a command sees it: texts are text, `~` is the home directory, `-` is no file.

Of a command's parameters a `Path` is a path, and so is a string marked PATH; every other string is text, but for those
marked RAW, which the command itself looks into. An argument that is no UTF-8 reaches Python with lone surrogates, which
every tokenizer and file would lose or stumble over.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from albert_cli.errors import Notice, TextError
from converters.errors import FileError
from converters.messages import brief


class Kind(Enum):
    """What a parameter holds, beside its type; stands in the annotation."""

    PATH = "a path, of any bytes, though it is a string"
    RAW = "the command finds out itself"
    FILE_OUT = "a path to write, of a file or directory: not standard output"
    STREAM_OUT = "a file to write; - is standard output"
    STREAM_IN = "a file to read; - is standard input"


@dataclass(frozen=True)
class Formerly:
    """An earlier name of an option, or of a key of a TOML file: still read, and shown nowhere.

    `now`: which of the option's names it stands for; the first by default. `notice`: its use gives a notice of the name
    of today, for elsewhere the earlier one means something else.
    """

    name: str
    now: str = ""
    notice: bool = False


# Short names of options, in every command that has these.
SHORT = {"--model": "-m", "--in": "-i", "--out": "-o"}
# Those that are no part of what a command does.
_APART = ("quiet", "verbose")
# The options that were typed: by the name of their parameter, as messages call them.
_TYPED: ContextVar[Mapping[str, str]] = ContextVar("typed", default={})  # noqa: B039 (never changed)
# No array and no seed is of more.
_LARGEST = 2**64

STANDARD_OUTPUT = Path("-")
_STREAMS = {Kind.STREAM_IN, Kind.STREAM_OUT, Kind.FILE_OUT}


class Command(TyperCommand):
    """A command that refuses empty values where nothing can be meant by them, before they become `.` or a default.

    Such are all options, and arguments that are paths: mostly a variable of the shell that is not set. A text may be
    empty.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        for parameter in self.params:
            parameter.opts += [SHORT[name] for name in parameter.opts if name in SHORT]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            given = self.make_parser(ctx).parse_args(args=list(args))[0]
        except typer.BadParameter:
            raise
        except Exception as error:
            self._advise(error)
            raise
        typed = {word.partition("=")[0] for word in args[: args.index("--") if "--" in args else None]}
        for earlier, now in self._earlier_names():
            if earlier.notice and earlier.name in typed:
                warnings.warn(f"{earlier.name} of albert {self.name} is called {now} now", Notice, stacklevel=2)
        for parameter in self.params:
            value = given.get(parameter.name)
            if "" in (value if isinstance(value, (list, tuple)) else [value]) and self._never_empty(parameter):
                raise typer.BadParameter(
                    "it is empty; is a variable of the shell not set?", ctx=ctx, param=cast(Any, parameter)
                )
        rest = super().parse_args(ctx, args)
        options = [item for item in self.params if item.param_type_name == "option" and item.name not in _APART]
        own = {item.name: item.opts[0] for item in options}
        sources = {name: getattr(ctx.get_parameter_source(name), "name", "") for name in own}
        _TYPED.set({name: own[name] for name, source in sources.items() if source == "COMMANDLINE"})
        return rest

    def make_parser(self, ctx: Any) -> Any:
        """A parser that knows the earlier names of options, too."""
        parser = super().make_parser(ctx)
        for earlier, now in self._earlier_names():
            parser._long_opt[earlier.name] = parser._long_opt[now]
        return parser

    def _earlier_names(self) -> Iterator[tuple[Formerly, str]]:
        """Earlier names of options, each with the name of today."""
        hints = get_type_hints(self.callback, include_extras=True)
        for parameter in self.params:
            for mark in marks_of(hints.get(parameter.name))[1]:
                if isinstance(mark, Formerly) and mark.name.startswith("--"):
                    yield mark, mark.now or parameter.opts[0]

    def _never_empty(self, parameter: Any) -> bool:
        if parameter.param_type_name == "option":
            return True
        hint = get_type_hints(self.callback, include_extras=True)[parameter.name]
        return Kind.PATH in marks_of(hint)[1] or "Path" in str(hint)

    def _advise(self, error: Exception) -> None:
        """Say how a text begins with a hyphen, where texts are taken."""
        name = getattr(error, "option_name", None)
        if name is None or getattr(error, "possibilities", None) or not hasattr(error, "message"):
            return
        texts = [item for item in self.params if item.param_type_name == "argument" and not self._never_empty(item)]
        if texts:
            error.message += f"; a text that begins so comes after --: albert {self.name} … -- {name}…"


def checked(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every argument put right, or refused, before it begins."""

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        for name, value in given.items():
            if value is not None:
                given[name] = _checked(name, value, facts()[name], given)
        command(**given)

    @functools.cache
    def facts() -> dict[str, tuple[Any, set[Any]]]:
        """Of each parameter Typer's description and our marks."""
        return {name: marks_of(hint) for name, hint in get_type_hints(command, include_extras=True).items()}

    return wrapper


def refuse_idle(why: str, *names: str) -> None:
    """BadParameter where options were typed that have no effect in this call; `why`, as "without --in".

    `names` of their parameters, or as they are typed.
    """
    if idle := [option for name, option in _TYPED.get().items() if {name, option} & set(names)]:
        has, them = ("has", "it") if len(idle) == 1 else ("have", "them")
        raise typer.BadParameter(f"{' and '.join(idle)} {has} no effect {why}; leave {them} out")


def typed_options() -> Mapping[str, str]:
    """The options of this call that were typed, by the names of their parameters."""
    return _TYPED.get()


def expanded(path: str) -> str:
    """A path with `~` and `~user` at its beginning replaced, as a shell does where it stands alone."""
    found = os.path.expanduser(path)  # noqa: PTH111 — a name that is no path must keep its slashes
    if found == path and path.startswith("~") and not os.path.lexists(path):
        user = path.partition("/")[0]
        if user != path:
            raise FileError(
                f"{path}: there is no user {user[1:]!r} here; an absolute path names a directory that is so called"
            )
    return found


def expanded_in(table: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A table of settings with `~` replaced in those that are paths, or lists of them."""

    def one(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [one(item) for item in value]
        return expanded(value) if isinstance(value, str) else value

    return {name: one(value) if name in names else value for name, value in table.items()}


def decoded(text: str, what: str, errors: str = "strict") -> str:
    """A text of the command line; TextError where its bytes were none, unless `errors` is "replace"."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        if errors == "replace":
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        before, bad = text[: error.start], text[error.start].encode("utf-8", "surrogateescape")
        raise TextError(
            f"{what} is not {_encoding()}: byte 0x{bad[0]:02x} at offset {len(os.fsencode(before))} of "
            f"{text.encode('utf-8', 'backslashreplace').decode():.60}; convert it to {_encoding()}"
        ) from None
    return text


def _encoding() -> str:
    return sys.getfilesystemencoding().upper()


def marks_of(hint: Any) -> tuple[Any, set[Any]]:
    """Of a parameter's annotation: Typer's description, and our marks beside it (Kind, Formerly)."""
    if not hasattr(hint, "__metadata__"):  # Python 3.10 wraps the hint of a parameter that defaults to None
        hint = next((item for item in get_args(hint) if hasattr(item, "__metadata__")), hint)
    metadata = getattr(hint, "__metadata__", ())
    info = next((item for item in metadata if isinstance(item, typer.models.ParameterInfo)), None)
    return info, {item for item in metadata if item is not info}


def _checked(name: str, value: Any, facts: tuple[Any, set[Any]], given: dict[str, Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_checked(name, item, facts, given) for item in value]
    info, kinds = facts
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value, _called(name, info))
    if Kind.RAW in kinds or not isinstance(value, (str, Path)) or isinstance(value, Enum):
        return value
    what = _called(name, info)
    if Kind.FILE_OUT in kinds and value == STANDARD_OUTPUT:
        raise typer.BadParameter("- is standard output, which this is not written to; name a file", param_hint=what)
    is_path = isinstance(value, Path) or Kind.PATH in kinds
    if is_path and str(value) == "-" and not kinds & _STREAMS and not os.path.lexists(value):
        raise typer.BadParameter("- is standard input, which this is not read from; name a file", param_hint=what)
    if isinstance(value, Path):
        return Path(expanded(str(value)))
    if Kind.PATH in kinds:
        return expanded(value)
    text = decoded(value, what, str(given.get("errors", "strict")))
    if isinstance(info, typer.models.ArgumentInfo) and "source" in given:
        tell_of_file(text)
    return text


def _finite(value: float, what: str) -> float:
    """A number that an array can hold; BadParameter for others."""
    if not (math.isfinite(value) if isinstance(value, float) else abs(value) <= _LARGEST):
        wanted = "a finite number" if isinstance(value, float) else "a whole number of at most 2**64"
        raise typer.BadParameter(f"{brief(value)} is not {wanted}", param_hint=what)
    return value


def is_file(path: Path) -> bool:
    """Whether there is such a file; no text is too long, or too strange, to be asked for."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, a NUL
        return False


def tell_of_file(text: str, advice: str = "--in {} reads it") -> None:
    """Notice that a text is also the name of a file, which is not read."""
    if is_file(Path(text)):
        warnings.warn(f"{text!r} is taken as a text, not as the file of that name; {advice.format(text)}", Notice, 2)


def _called(name: str, info: Any) -> str:
    """What messages call a parameter: --out, or TEXT."""
    if isinstance(info, typer.models.ArgumentInfo):
        return info.metavar or name.upper()
    flags: Sequence[str] = [
        text for text in (getattr(info, "default", None), *(getattr(info, "param_decls", None) or ())) if text
    ]
    return next((flag for flag in flags if str(flag).startswith("-")), "--" + name.replace("_", "-"))
