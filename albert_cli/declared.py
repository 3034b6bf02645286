"""A setting is declared once: a field of a dataclass with its option. Command line, TOML files and docs follow from it.

    steps: Annotated[int | None, Option("--steps", help="Number of updates.")] = None

`options_of` gives a command the options of such a dataclass, `faults_of`, `read_settings` and `read_facts` hold what a
file says against its types, `layered` puts several sources together.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from typer import BadParameter
from typer.models import OptionInfo

from albert_cli.arguments import Formerly, Kind, expanded_in
from albert_cli.errors import TrainingError
from converters.config import parse_json
from converters.errors import AlbertError, ConfigError, CorruptError, did_you_mean
from converters.files import read_small
from converters.limits import TOML_BYTES
from converters.messages import brief, is_text

GIVEN = "given"
# The most characters of a value in a message.
_SHOWN = 80
# A key of so many parts makes as many tables within one another, in a time that grows with their square.
_DEEP_KEY = re.compile(rb"""(?m)^[ \t\[]*(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){32}""")
# A larger whole number fits no array, and no float.
_LARGEST = 2**64
LARGEST_COUNT = 2**63 - 1
_POWERS: Mapping[float, str] = {LARGEST_COUNT: "2**63 - 1", _LARGEST - 1: "2**64 - 1"}
_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    tuple[str, ...]: "a list of texts",
    Mapping[str, float]: "a table of numbers",
}


@dataclass(frozen=True)
class Within:
    """The finite numbers that a value may be, both ends included, but for those that are `open`.

    Stands in the annotation: help shows it, and the command line, files and dataclasses are held to it.
    """

    least: float
    most: float = math.inf
    open: Literal["", "least", "most", "both"] = ""

    def __contains__(self, value: float) -> bool:
        above = self.least < value if self.open in ("least", "both") else self.least <= value
        below = value < self.most if self.open in ("most", "both") else value <= self.most
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        most = _POWERS.get(self.most, str(self.most))
        if self.open in ("least", "both"):
            ends = [f"above {self.least}", f"{'below' if self.open == 'both' else 'at most'} {most}"]
            return " and ".join(ends[:1] if math.isinf(self.most) else ends)
        if math.isinf(self.most):
            return f"at least {self.least}"
        return f"from {self.least} to {'below ' if self.open == 'most' else ''}{most}"

    @property
    def short(self) -> str:
        """As help shows it; what no array can hold goes without saying."""
        above, below = ("<" if self.open in (end, "both") else "<=" for end in ("least", "most"))
        if self.most >= LARGEST_COUNT:
            return f"x{above.replace('<', '>')}{self.least}"
        return f"{self.least}{above}x{below}{self.most}"

    def refuse(self, value: float | None) -> float | None:
        """The value; BadParameter where it is outside."""
        if value is not None and value not in self:
            raise BadParameter(f"{brief(value)} is not {self}")
        return value


COUNT = Within(1, LARGEST_COUNT)
POSITIVE = Within(0, open="least")
NOT_NEGATIVE = Within(0)


@dataclass(frozen=True)
class Typed:
    """How a setting is typed on the command line, where that is not its own type; `parse` makes the one of the other.

    `parse` raises BadParameter.
    """

    type: Any
    parse: Callable[[Any], Any]


@dataclass(frozen=True)
class Setting:
    """A field of a dataclass of settings, taken apart; `option` None: it has none. `optional`: it may be None."""

    name: str
    type: Any
    option: OptionInfo | None
    marks: tuple[Any, ...]
    default: Any
    optional: bool = False

    @property
    def typed(self) -> Any:
        """Its type on the command line."""
        own = next((mark.type for mark in self.marks if isinstance(mark, Typed)), self.type)
        return list[str] if own == tuple[str, ...] else own

    @property
    def bounds(self) -> Within | None:
        return next((mark for mark in self.marks if isinstance(mark, Within)), None)

    @property
    def is_path(self) -> bool:
        return Kind.PATH in self.marks

    def parameter(self) -> inspect.Parameter:
        """The parameter of a command; its default is None, for nothing was typed, and help shows the setting's own."""
        option = copy.copy(self.option)
        assert option is not None
        if option.show_default is True and isinstance(self.default, (int, float, str)) and self.type is not bool:
            option.show_default = str(self.default)
        if self.bounds is not None and self.typed == self.type:  # else `parse` has them
            option.min, option.callback = None, self.bounds.refuse  # help_pages shows them
        annotated: Any = Annotated
        hint = annotated[(self.typed | None, option, *(mark for mark in self.marks if not isinstance(mark, Typed)))]
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)

    def checked(self, value: Any) -> Any:
        """A value of a file as its option makes it of what is typed; BadParameter for what that refuses."""
        callback = self.option.callback if self.option is not None else None
        return value if callback is None else callback(value)

    def value(self, typed: Any) -> Any:
        """The setting's value from what was typed; None where nothing was."""
        if typed is None or typed == []:
            return None
        parse = next((mark.parse for mark in self.marks if isinstance(mark, Typed)), None)
        if parse is not None:
            return parse(typed)
        return tuple(typed) if isinstance(typed, list) else typed


@functools.cache
def settings_of(declared: type) -> dict[str, Setting]:
    """The settings of a dataclass by name."""
    found = {}
    hints = get_type_hints(declared, include_extras=True)
    for item in dataclasses.fields(declared):
        hint = hints[item.name]
        own, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        default = None if item.default is dataclasses.MISSING else item.default
        option = next((one for one in metadata if isinstance(one, OptionInfo)), None)
        marks = tuple(one for one in metadata if one is not option)
        bare = _without_none(own)
        found[item.name] = Setting(item.name, bare, option, marks, default, bare != own)
    return found


def options_of(declared: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Have a command take all options of a dataclass; its parameter `given` gets those typed, by name, else None."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        settings = {name: item for name, item in settings_of(declared).items() if item.option is not None}

        @functools.wraps(command)
        def wrapper(**typed: Any) -> None:
            given = {name: item.value(typed.pop(name)) for name, item in settings.items()}
            command(**typed, **{GIVEN: given})

        parameters: list[inspect.Parameter] = []
        for name, parameter in own.items():
            if name == GIVEN:
                parameters += [item.parameter() for item in settings.values()]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate


def read_settings(path: Path, declared: type, *, of_run: bool = False) -> dict[str, Any]:
    """Settings of a TOML file: its `settings` table, as in a run.toml, or its top level unless it is `of_run`.

    Earlier names are read as those of today. TrainingError for what is no setting, or of another type: all in one line.
    """
    data = load_toml(path)
    table = data.get("settings", data)
    if of_run and table is data:
        raise TrainingError(f"{path}: damaged: settings is missing; restore it")
    if not isinstance(table, dict):
        raise TrainingError(f"{path}: settings is {brief(table, _SHOWN)}, not a table")
    if faults := faults_of(table, declared):
        raise TrainingError(f"{path}: {'; '.join(faults)}")
    now = _earlier_keys(declared)
    if twice := [f"{old} and {now[old]}" for old in table if now.get(old) in table]:
        raise TrainingError(f"{path}: {', '.join(twice)} are the same setting; leave the first out")
    settings = settings_of(declared)
    paths = [name for name, item in settings.items() if item.is_path]
    values = expanded_in({str(now.get(key, key)): value for key, value in table.items()}, paths)
    for key, value in values.items():
        with _refused_in(path, key):
            values[key] = settings[key].checked(value)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


@contextlib.contextmanager
def _refused_in(path: Path, key: str) -> Iterator[None]:
    """A TrainingError for what an option refuses, found in a file."""
    try:
        yield
    except BadParameter as error:
        raise TrainingError(f"{path}: {key}: {error.message}") from None


@functools.cache
def _earlier_keys(declared: type) -> dict[str, str]:
    """Earlier names of settings in TOML files, with those of today."""
    return {
        mark.name.removeprefix("--").replace("-", "_"): name
        for name, item in settings_of(declared).items()
        for mark in item.marks
        if isinstance(mark, Formerly)
    }


def faults_of(table: Mapping[str, Any], declared: type, *, within: str = "", complete: bool = False) -> list[str]:
    """What is wrong with a table of a TOML file that is to fit a dataclass, whose fields may be dataclasses.

    `within`: what the table is called, if it is one within another. `complete`: whatever has no default must be there,
    and there may be other keys; else any may be left out, and other keys are faults.
    """
    before = f"{within}." if within else ""
    settings = settings_of(declared)
    known = settings | {earlier: settings[name] for earlier, name in _earlier_keys(declared).items()}
    faults = [
        fault
        for key, value in table.items()
        if key in known and not (value is None and known[key].optional)
        for fault in _misfits(value, known[key].type, before + key, known[key].marks)
    ]
    unknown = [key for key in table if key not in known]
    if unknown and not complete:
        near = "".join(_near(key, settings) for key in unknown)
        faults.append(f"{', '.join(unknown)}: no such setting; the settings are {', '.join(settings)}{near}")
    if complete:
        needed = [item.name for item in dataclasses.fields(declared) if item.default is item.default_factory]
        faults += [f"{before}{key} is missing" for key in needed if key not in table]
    return faults


def read_facts(path: Path, declared: type, advice: str, error: type[AlbertError] = CorruptError) -> dict[str, Any]:
    """The JSON object in a file that a program of ours wrote, complete and of the types of a dataclass.

    `error` in one line of all faults where it is anything else, with the `advice`.
    """
    try:
        data = parse_json(read_small(path), str(path))
    except (ConfigError, CorruptError) as fault:
        raise error(f"{fault}; {advice}") from None
    if faults := faults_of_facts(data, declared):
        raise error(f"{path}: damaged: {'; '.join(faults)}; {advice}")
    return dict(data)


def faults_of_facts(data: Any, declared: type) -> list[str]:
    """What is wrong with something that is to be a complete table; see `faults_of`."""
    if not isinstance(data, Mapping):
        return [f"{brief(data, _SHOWN)}, no table"]
    return faults_of(data, declared, complete=True)


def facts_of_texts(texts: Mapping[str, str], declared: type) -> dict[str, Any]:
    """The values of metadata, where all are texts: what their JSON says of fields that are no texts, if it is JSON."""

    def value(key: str, text: str) -> Any:
        if key not in settings or settings[key].type is str or get_origin(settings[key].type) is Literal:
            return text
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
        return text

    settings = settings_of(declared)
    return {key: value(key, text) for key, text in texts.items()}


def layered(*layers: Mapping[str, Any], exclusive: Sequence[str]) -> dict[str, Any]:
    """Settings of several sources, of which the first that has a value counts; None is no value.

    Of those that are `exclusive`, a source that has one overrides all of them in the sources after it.
    """
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        chosen = {key: value for key, value in layer.items() if value is not None}
        if chosen.keys() & set(exclusive):
            values = {key: value for key, value in values.items() if key not in exclusive}
        values |= chosen
    return values


def load_toml(path: Path) -> dict[str, Any]:
    """A TOML file; TrainingError where it is none."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        data = read_small(path, TOML_BYTES)
        if _DEEP_KEY.search(data):
            raise RecursionError
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}: not TOML, which is UTF-8: byte {error.start} is not") from None
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(f"{path}: not TOML: {error}") from None
    except ValueError:  # Python's own limit, of 4,300 digits
        raise TrainingError(f"{path}: a whole number of thousands of digits; no setting is so large") from None
    except RecursionError:
        raise TrainingError(f"{path}: lists or tables within one another, too deep; no setting is so") from None


def _misfits(value: Any, wanted: Any, name: str, marks: Sequence[Any] = ()) -> list[str]:
    """Where a value of a file is not of a type, or not within its bounds, each with what is wanted there."""
    if get_origin(wanted) is Annotated:
        wanted, *marks = get_args(wanted)
    if faults := _of_another_type(value, wanted, name):
        return faults
    bounds = next((mark for mark in marks if isinstance(mark, Within)), None)
    outside = bounds is not None and isinstance(value, (int, float)) and value not in bounds
    return [f"{name} is {brief(value, _SHOWN)}, not {bounds}"] if outside else []


def unfit(settings: Any) -> list[str]:
    """Numbers of a dataclass of settings that are out of their range, and paths that no run.toml can hold."""
    found = [*_unwritable(settings)]
    numbers = ((item, getattr(settings, name)) for name, item in settings_of(settings.__class__).items())
    found += [
        f"{item.name} is {brief(value, _SHOWN)}, not {item.bounds}"
        for item, value in numbers
        if item.bounds is not None and value is not None and value not in item.bounds
    ]
    return found


def _unwritable(settings: Any) -> Iterator[str]:
    for name, item in settings_of(settings.__class__).items():
        value = getattr(settings, name) if item.is_path else None
        for path in [value] if isinstance(value, str) else value or ():
            if not is_text(path):
                yield f"{name} is {brief(path, _SHOWN)}, a name that is not UTF-8, as run.toml is; give it another name"


def _of_another_type(value: Any, wanted: Any, name: str) -> list[str]:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return []
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type) and isinstance(value, dict):
        return faults_of(value, wanted, within=name, complete=True)
    if origin is tuple and isinstance(value, list):
        return _each(((f"{name}[{number}]", item) for number, item in enumerate(value)), arguments[0])
    if origin is not None and origin is get_origin(Mapping[str, Any]) and isinstance(value, dict):
        return _each(((f"{name}.{key}", item) for key, item in value.items()), arguments[1])
    if origin is Literal:
        return [] if value in arguments else [f"{name} is {brief(value, _SHOWN)}, not one of {', '.join(arguments)}"]
    if isinstance(value, str) and "\0" in value:
        return [f"{name} is {brief(value, _SHOWN)}, which holds a NUL character"]
    fits = {
        bool: isinstance(value, bool),
        int: _is_whole(value),
        float: isinstance(value, float) or _is_whole(value),
        str: isinstance(value, str),
    }
    if fits.get(wanted, False):
        return []
    kind = _WORDS.get(wanted, "a list" if origin is tuple else "a table")
    return [f"{name} is {brief(value, _SHOWN)}, not {kind}"]


def _near(key: str, settings: Mapping[str, Setting]) -> str:
    """What may have been meant: a setting whose option is so called, or one of a like name."""
    called = f"--{key.replace('_', '-')}"
    for name, item in settings.items():
        if item.option is not None and called in (item.option.default, *(item.option.param_decls or ())):
            return f"; did you mean {name!r}?"
    return did_you_mean(key, settings)


def _each(items: Iterable[tuple[str, Any]], wanted: Any) -> list[str]:
    return [fault for name, item in items for fault in _misfits(item, wanted, name)]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, UnionType):
        return hint
    return next(item for item in get_args(hint) if item is not type(None))
