"""--quiet and --verbose, which every command takes beside its own options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from albert_cli import console, phases

QUIET = typer.Option("--quiet", "-q", help="Nothing on stderr but errors: no notes, no bars.")
VERBOSE = typer.Option("--verbose", "-v", help="Say on stderr at the end how many seconds each phase took.")
EVERYWHERE = {"quiet": Annotated[bool, QUIET], "verbose": Annotated[bool, VERBOSE]}


def everywhere(command: Callable[..., None]) -> Callable[..., None]:
    """The command with both options; it does not see them itself."""
    own = inspect.signature(command, eval_str=True).parameters.values()

    @functools.wraps(command)
    def wrapper(*, quiet: bool, verbose: bool, **given: Any) -> None:
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose do not go together; choose one")
        if quiet:
            with console.hushed():
                command(**given)
        elif verbose:
            try:
                with phases.watched() as seconds:
                    command(**given)
            finally:
                console.warn(_said(seconds))
        else:
            command(**given)

    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in EVERYWHERE.items()
    ]
    parameters = [*(item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own), *more]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {item.name: item.annotation for item in parameters}
    return wrapper


def _said(seconds: dict[str, float]) -> str:
    parts = (f"{name} {taken:.2f}" for name, taken in seconds.items() if name != phases.REST)
    rest = f"{phases.REST} {seconds[phases.REST]:.2f}"
    return f"seconds: {', '.join([*parts, rest])}; {sum(seconds.values()):.2f} in all"
