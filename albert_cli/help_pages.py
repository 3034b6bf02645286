"""The `--help` pages: plain text as wide as the terminal, in which no name, choice or example is broken."""

from __future__ import annotations

import contextlib
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any, get_type_hints

import typer
from typer.core import TyperGroup

from albert_cli import arguments, console
from albert_cli.declared import Within
from converters.messages import visible

EXAMPLES = "Examples:"
# The groups in which commands are listed; a command names its own (rich_help_panel) unless that is USE.
USE = "Use"
PANELS = ("Models", USE, "Train", "Look")
# What to try first: it needs no files, and no model but the one inside the package.
_FIRST = [
    'albert fill-mask "He drank a cup of [MASK]."',
    'albert similarity "I like my phone." "My phone is old." "It rains."',
    "albert similarity -h",
]
# Wider lines are hard to read.
_WIDEST, _NARROWEST = 100, 40
_INDENT, _COLUMN = 2, 28
# Typer puts a default that it knows of into parentheses.
_DEFAULT = re.compile(r"(\[default: )\((.*?)\)(; |\]$)")
_KINDS = {"int": "N", "int range": "N", "float": "X", "float range": "X", "path": "PATH", "str": "TEXT"}


def split_examples(callback: Any) -> tuple[str, list[str]]:
    """A command's docstring: the text, and the lines of its examples as one pastes them, comments included."""
    text, _, below = (inspect.getdoc(callback) or "").partition(EXAMPLES)
    return text.strip(), [line for line in textwrap.dedent(below).splitlines() if line.strip()]


class Command(arguments.Command):
    """A command whose help is laid out here, and whose errors say what is missing."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> Any:
        """Parse the command line: what an absent argument or option is, is said; what pydantic puts before, is not."""
        try:
            return super().make_context(info_name, args, *rest, **more)
        except typer.BadParameter as error:
            parameter = error.param
            if not error.message and parameter is not None:
                error.message = getattr(parameter, "help", None) or ""
            error.message = error.message.removeprefix("Value error, ")
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        text, examples = split_examples(self.callback)
        formatter.write("\n".join([*_head(self.get_usage(ctx), text), *_parameters(self, ctx), *_examples(examples)]))


class Group(TyperGroup):
    """The program itself: its options and its commands, each with the first line of its help."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> Any:
        """Parse the options of the program."""
        with _visible_faults():
            return super().make_context(info_name, args, *rest, **more)

    def invoke(self, ctx: Any) -> Any:
        """Find and run a command."""
        with _visible_faults():
            return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in PANELS}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                meaning = split_examples(command.callback)[0].partition("\n\n")[0]
                panels[panel if panel in panels else USE].append((name, meaning))
        lines = [*_head(self.get_usage(ctx), self.help or ""), *_parameters(self, ctx)]
        for panel, rows in panels.items():
            lines += _section(panel, rows)
        lines += _examples(_FIRST)
        formatter.write("\n".join(lines))


@contextlib.contextmanager
def _visible_faults() -> Iterator[None]:
    """Faults in what was typed quote it."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = visible(message)  # type: ignore[attr-defined]
        raise


def _head(usage: str, text: str) -> Iterator[str]:
    yield usage
    for paragraph in text.split("\n\n"):
        yield ""
        yield from _wrapped(" ".join(paragraph.split()), _width())
    yield ""


def _parameters(command: Any, ctx: Any) -> Iterator[str]:
    rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
    ranges = _ranges(command)
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            kind = parameter.param_type_name
            rows[kind].append(
                (_named(record[0], argument=kind == "argument"), _meaning(record[1], ranges.get(parameter.name)))
            )
    yield from _section("Arguments", rows["argument"])
    yield from _section("Options", rows["option"])


def _ranges(command: Any) -> dict[str, Within]:
    """The ranges that are declared beside options, by the names of their parameters; Typer shows its own."""
    hints = get_type_hints(command.callback, include_extras=True) if command.callback is not None else {}
    marked = ((name, mark) for name, hint in hints.items() for mark in arguments.marks_of(hint)[1])
    return {name: mark for name, mark in marked if isinstance(mark, Within)}


def _meaning(record: str, bounds: Within | None) -> str:
    """A parameter's help with its default and its range in one bracket."""
    shown = _DEFAULT.sub(r"\1\2\3", record)
    if bounds is None:
        return shown
    return f"{shown[:-1]}; {bounds.short}]" if "[default: " in shown else f"{shown} [{bounds.short}]"


def _named(record: str, *, argument: bool) -> str:
    """A parameter with a word for its value: N, PATH or its choices; of an argument the name says it."""
    name, _, value = record.partition(" <")
    if not value or argument:
        return name
    value = value.replace(">", "")
    return f"{name} {_KINDS.get(value, value)}"


def _section(title: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    """Names and what they mean, beside them or, of a long name, below."""
    if not rows:
        return
    yield console.styled(f"{title}:", bold=True)
    column = _INDENT + 2 + min(_COLUMN - _INDENT - 2, max(len(name) for name, _ in rows))
    for name, meaning in rows:
        lines = _wrapped(" ".join(meaning.split()), _width() - column)
        beside = len(name) <= column - _INDENT - 2 and bool(lines)
        padded = name.ljust(column - _INDENT) if beside else name
        yield " " * _INDENT + console.styled(padded, fg="cyan") + (lines[0] if beside else "")
        yield from (" " * column + line for line in (lines[1:] if beside else lines))
    yield ""


def _examples(examples: list[str]) -> Iterator[str]:
    """Every example as it stands: to be copied, not to be folded."""
    if not examples:
        return
    yield console.styled(EXAMPLES, bold=True)
    yield from (" " * _INDENT + line for line in examples)
    yield ""


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words: an option's name has hyphens, a path slashes, and neither is broken."""
    return textwrap.wrap(text, max(width, _NARROWEST // 2), break_long_words=False, break_on_hyphens=False)


def _width() -> int:
    return max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST) - 1)


def use(app: typer.Typer) -> None:
    """Have the help of the app's commands laid out here."""
    for info in app.registered_commands:
        info.cls = Command


__all__ = ["EXAMPLES", "Command", "Group", "split_examples", "use"]
