"""albert diff: are two models equal, and where not."""

from __future__ import annotations

import dataclasses

import typer

from albert_cli import console, options

app = typer.Typer()


@app.command(rich_help_panel="Look")
def diff(a: options.Model, b: options.Model, json: options.Json = False) -> None:
    """Compare two models of any formats, tensor by tensor, bit for bit.

    Exit code 0 when weights, config and tokenizer are equal, 1 when anything differs.

    Examples:

        albert diff albert_base_v2/ hf/

        albert diff before.npz after.npz --json

        albert diff albert_base_v2.tar.gz albert-base-v2
    """
    from albert_cli.registry import resolve
    from converters import proof

    one, two = resolve.resolve(a).load(), resolve.resolve(b).load()
    with console.progress_bytes() as progress:
        differences = proof.diff(one, two, progress)
    names = {*one.everything(), *two.everything()}
    unequal = names & {item.name for item in differences} if one.config.family == two.config.family else names
    total = len(names)
    if json:
        console.print_json(
            {
                "equal": not differences,
                "tensors": total,
                "equal_tensors": total - len(unequal),
                "differences": [dataclasses.asdict(item) for item in differences],
            }
        )
    elif differences:
        console.print_table([(item.kind, item.name, item.detail) for item in differences], ("", "name", "detail"))
        console.say(f"{total - len(unequal)} of {total} tensors are equal")
    else:
        console.say(f"equal: {total} tensors bit for bit, config and tokenizer")
    if differences:
        raise typer.Exit(1)
