"""The `albert` command: finds the subcommands, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 a fault of the data or the request (or models that differ), 2 wrong usage, 130 interrupted
(143 by SIGTERM).
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from albert_cli import __version__, arguments, commands, console
from albert_cli.errors import Notice
from converters.errors import CheckpointError

_MOST_MESSAGE = 4000

app = typer.Typer(
    name="albert",
    help="Convert, inspect and use ALBERT language models, whatever their format.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)

for _module in pkgutil.iter_modules(commands.__path__):
    _found = importlib.import_module(f"{commands.__name__}.{_module.name}").app
    for _command in _found.registered_commands:
        _command.callback = arguments.checked(_command.callback)
    app.add_typer(_found)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"albert {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: the entry point of the `albert` script."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):  # names of files and tensors need not be text
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=Notice)
            warnings.showwarning = _tell(warnings.showwarning)
            app(standalone_mode=True)
    except CheckpointError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        # The reader of a pipe (head, say) left: nothing more to say, and no second error when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except MemoryError:
        _fail("out of memory; close other programs or use a machine with more of it", 1)
    except OSError as error:
        _fail(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    except _Interrupted as error:
        _fail("interrupted; nothing was left half-written", 128 + error.args[0])


def _tell(show: Callable[..., None]) -> Callable[..., None]:
    """Our own notices as one line on stderr, each once; other warnings as they were shown before."""
    told = set()

    def tell(message: Warning | str, category: type[Warning], *arguments: Any, **more: Any) -> None:
        if not issubclass(category, Notice):
            show(message, category, *arguments, **more)
        elif str(message) not in told:
            told.add(str(message))
            console.warn(str(message))

    return tell


class _Interrupted(BaseException):
    """A signal asks to stop. Not KeyboardInterrupt, which typer turns into a silent exit."""


def _interrupt(number: int, frame: object) -> None:
    raise _Interrupted(number)


def _fail(message: str, code: int) -> None:
    """One printable line on stderr: names from a hostile file can be long and hold escape sequences."""
    line = " ".join(message.split())
    line = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)
    typer.echo(f"albert: {line if len(line) <= _MOST_MESSAGE else line[:_MOST_MESSAGE] + '…'}", err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
