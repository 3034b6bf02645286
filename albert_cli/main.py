"""The `albert` command: finds the subcommands, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 a fault of the data or the request (or models that differ), 2 wrong usage, 130 interrupted
(143 by SIGTERM).
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import pkgutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from albert_cli import arguments, commands, console, help_pages, interruption, processes, verbosity
from albert_cli.errors import LostProcessError, Notice, ThreadsError
from albert_cli.machine import check_threads
from converters.errors import AlbertError, UsageError
from converters.libraries import broken_library, missing_library
from converters.messages import escaped

_MOST_MESSAGE = 4000
# What glibc says where a library does not fit into the memory that a process may have.
_NO_ROOM = "failed to map segment from shared object"
# What Python says where the system gives it no thread.
_NO_THREAD = "can't start new thread"
# The commands that many processes, started by torchrun or accelerate launch, do together.
_SHARED = ("finetune", "pretrain")


def _version(wanted: bool) -> None:
    if wanted:
        from albert_cli.machine import described

        (name, version), *facts = described()
        console.say(f"{name} {version}")
        console.print_table(facts)
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_version,
            is_eager=True,
            help="Print what a report of a fault should hold (version, PyTorch, device, instruction sets), and exit.",
        ),
    ] = False,
) -> None:
    command, world = context.invoked_subcommand, processes.world()
    if world > 1 and command not in _SHARED:
        raise typer.BadParameter(
            f"{world} processes were started (WORLD_SIZE), but only {' and '.join(_SHARED)} share their work; run "
            f"albert {command} as one process"
        )


@cache
def build(only: str | None = None) -> typer.Typer:
    """The command line with all commands, each a file of `commands`, or with one alone, which starts sooner."""
    app = typer.Typer(
        name="albert",
        cls=help_pages.Group,
        help="Convert, inspect and use ALBERT language models, and BERT, ELECTRA, RoBERTa and SpanBERT, in any format.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,  # a box breaks names, choices and paths
    )
    app.callback()(_root)
    for name in [only] if only else _command_files():
        app.add_typer(_command(name))
    return app


@cache
def _command(file: str) -> typer.Typer:
    found: typer.Typer = importlib.import_module(f"{commands.__name__}.{file}").app
    help_pages.use(found)
    for command in found.registered_commands:
        if command.callback is not None:
            attended = console.attended()(arguments.checked(command.callback))
            command.callback = verbosity.everywhere(attended)
    return found


def __getattr__(name: str) -> Any:
    """`app`: the whole command line, built when it is asked for."""
    if name == "app":
        return build()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _command_files() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(commands.__path__)]


def _asked_for(words: list[str]) -> str | None:
    """The file of the command that a command line begins with; None for help and what is unknown.

    Where a shell asks how a line may go on, that line counts.
    """
    if "_ALBERT_COMPLETE" in os.environ:
        line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS") or ""
        words = line.split()[1:]
        if line.endswith(tuple(words[:1])):
            return None  # the name of the command is still being typed
    return next((name for name in _command_files() if words[:1] == [name.replace("_", "-")]), None)


def main() -> None:
    """Run the command line: the entry point of the `albert` script."""
    interruption.handle()
    _stand_in()
    for stream in (sys.stdout, sys.stderr):  # names of files and tensors need not be text
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    processes.alone()
    stderr = processes.hush()
    try:
        _run(stderr)
    except BaseException as error:
        finished = isinstance(error, SystemExit) and not error.code
        if (stop := interruption.stopping()) and not finished:
            sys.stderr = stderr
            if stop.number == signal.SIGINT and _for_want_of_threads(error):  # OpenBLAS sends it to its own process
                _fail(str(ThreadsError()), 1)
            _fail(f"interrupted; {stop.kept or interruption.NOTHING}", 128 + stop.number, command=stop.command)
        raise
    finally:
        interruption.over()


def _run(stderr: TextIO) -> None:
    """The command, and its error as one line on `stderr`, by whichever process it befell."""
    try:
        _check_working_directory()
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=Notice)
            warnings.showwarning = _show_notices(warnings.showwarning)
            build(_asked_for(sys.argv[1:]))(prog_name="albert", standalone_mode=True)
    except Exception as error:
        if interruption.stopping() is None:
            sys.stderr = stderr
            _explain(error)
        raise


def _stand_in() -> None:
    """Give a stream that was closed (>&-) the null device: no file opened later may get its number, and its text."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            found = os.open(os.devnull, os.O_RDWR)
            if found != number:
                os.dup2(found, number)
                os.close(found)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _check_working_directory() -> None:
    """Exit with one line where the working directory was deleted: no path in it exists, and libraries cannot load."""
    try:
        Path.cwd()
    except FileNotFoundError:
        _fail("the working directory is gone; cd to another", 1)


def _explain(error: Exception) -> None:
    """Exit with one line, unless the error is a defect of this program."""
    if isinstance(error, AlbertError):
        _fail(str(error), 2 if isinstance(error, UsageError) else 1, of_others=isinstance(error, LostProcessError))
    if isinstance(error, BrokenPipeError):
        # The reader of a pipe (head, say) left: nothing more to say, and no second error when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    if isinstance(error, ImportError | OSError) and _NO_ROOM in str(error):
        _fail("too little memory to load a library; raise the limit (ulimit -v), or use a machine with more", 1)
    if isinstance(error, ImportError) and (library := _library_of(error)):
        purpose = f"albert {' '.join(sys.argv[1:2])}".strip()
        if isinstance(error, ModuleNotFoundError) and not _is_installed(library):
            _fail(str(missing_library(library, purpose)), 1)
        _fail(str(broken_library(library, purpose, str(error).split("\n", maxsplit=1)[0])), 1)
    if isinstance(error, RuntimeError | SystemError) and _for_want_of_threads(error):
        _fail(str(ThreadsError()), 1)
    if isinstance(error, MemoryError):
        _fail("out of memory; close other programs or use a machine with more of it", 1)
    if isinstance(error, OSError):
        _fail(f"{error.filename or 'output'}: {error.strerror or error}", 1)


def _for_want_of_threads(error: BaseException) -> bool:
    """Whether a library could start no thread: it says so, or none can be started now."""
    if any(said in str(error) for said in (_NO_THREAD, os.strerror(errno.EAGAIN))):
        return True
    try:
        check_threads(1)
    except ThreadsError:
        return True
    return False


def _library_of(error: ImportError) -> str | None:
    """The library that could not be imported; None where it is this program's own fault."""
    name: str | None = error.name
    if name is None:  # as of a shared library that is missing: the place of the error shows whose it is
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        names = [str(frame.f_globals.get("__name__")) for frame in frames]
        name = next((item for item in reversed(names) if not item.startswith("importlib")), None)
    library = (name or "").partition(".")[0]
    return None if library in ("", "__main__", "albert_cli", "converters") else library


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def _show_notices(show: Callable[..., None]) -> Callable[..., None]:
    """Our own notices as one line on stderr, each once; other warnings as they were shown before."""
    shown = set()

    def show_notice(message: Warning | str, category: type[Warning], *arguments: Any, **more: Any) -> None:
        if not issubclass(category, Notice):
            if not console.is_hushed():
                show(message, category, *arguments, **more)
        elif str(message) not in shown:
            shown.add(str(message))
            console.warn(str(message))

    return show_notice


def _fail(message: str, code: int, *, command: str | None = None, of_others: bool = False) -> None:
    """One printable line on stderr: names from a hostile file can be long and hold escape sequences.

    `command`: what to run next; on a terminal it has a line of its own, to be copied.
    """
    line = " ".join(message.split())
    if not processes.first_to_tell(of_others=of_others):
        raise SystemExit(code) from None
    if command is not None and sys.stderr.isatty():
        console.fail(_printable(f"{line}:"))
        console.complain(_printable(command))
    else:
        console.fail(_printable(line if command is None else f"{line}: {command}"))
    raise SystemExit(code)


def _printable(line: str) -> str:
    line = escaped(line)
    return line if len(line) <= _MOST_MESSAGE else line[:_MOST_MESSAGE] + "…"


if __name__ == "__main__":
    main()
