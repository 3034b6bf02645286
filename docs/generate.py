"""Write docs/commands.md, docs/formats.md, docs/json.md, docs/schemas/ and two tables of README.md from the code.

`--check` fails when they are out of date.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import documents
import typer

from albert_cli import commands as package
from albert_cli.arguments import SHORT, marks_of
from albert_cli.exporters import exporters
from albert_cli.help_pages import split_examples
from albert_cli.pretraining.settings import FAMILY as PRETRAINED
from albert_cli.verbosity import EVERYWHERE
from converters.families import families
from converters.family import Family
from converters.formats import Format
from converters.formats import formats as all_formats
from converters.known_keys import Key
from converters.model_settings import KNOWN_KEYS

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"


def commands() -> str:
    """Every command's docstring and options, as plain Markdown."""
    parts = [_COMMANDS_HEAD]
    everywhere = ((get_args(hint)[1].param_decls, get_args(hint)[1]) for hint in EVERYWHERE.values())
    rows = [f"| `{info.default}, {', '.join(short)}` | {info.help} |" for short, info in everywhere]
    parts.append("| option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n")
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda item: item.name):
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        for command in module.app.registered_commands:
            parts += _command(command.name or command.callback.__name__, command.callback)
    return "\n".join(parts)


def _command(name: str, callback: Callable[..., None]) -> Iterator[str]:
    body, examples = split_examples(callback)
    arguments, rows = [], []
    hints = get_type_hints(callback, include_extras=True)
    for name_of, parameter in inspect.signature(callback).parameters.items():
        hint = hints[name_of]
        if not hasattr(hint, "__metadata__"):  # Python 3.10 wraps the hint of a parameter that defaults to None
            hint = next(item for item in get_args(hint) if hasattr(item, "__metadata__"))
        kind, (info, _) = get_args(hint)[0], marks_of(hint)
        if isinstance(info, typer.models.ArgumentInfo):
            arguments.append(info.metavar or name_of.upper())
        elif not info.hidden:
            # Typer takes the first name of an annotated option for its default.
            flags = [text for text in (info.default, *(info.param_decls or ())) if str(text).startswith("-")]
            flags += [SHORT[name] for name in flags if name in SHORT]
            flag = ", ".join(flags) or "--" + name_of.replace("_", "-")
            default = info.show_default if isinstance(info.show_default, str) else parameter.default
            shown = "" if default in (None, inspect.Parameter.empty) or default is False else f" Default: {default}."
            rows.append(f"| `{' '.join([flag, _value(kind, info.metavar)]).strip()}` | {info.help or ''}{shown} |")
    yield f"## albert {' '.join([name, *arguments])}\n\n{body}\n"
    yield "| option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"
    yield "```\n" + "\n".join(examples) + "\n```\n"


def _value(kind: Any, metavar: str | None) -> str:
    """What follows an option: nothing for a flag, the choices of a Literal, else a word for the type."""
    kinds = [item for item in get_args(kind) or (kind,) if item is not type(None)]
    if kinds == [bool]:
        return ""
    choices = get_args(kind) if get_origin(kind) is Literal else get_args(kinds[0])
    if choices and all(isinstance(choice, str) for choice in choices):
        return "\\|".join(choices)
    return (metavar or "").replace("|", "\\|") or {int: "N", float: "X", Path: "PATH"}.get(kinds[0], "TEXT")


def formats() -> str:
    """Every format, the names of every family's tensors, and what is done with each setting."""
    parts = [_FORMATS_HEAD]
    for name, module in all_formats().items():
        dtypes = ", ".join(dtype.name for dtype in module.DTYPES)
        parts.append(f"| `{name}` | {module.DESCRIPTION} | {dtypes} | yes | {'yes' if module.WRITES else 'no'} |")
    for name, module in exporters().items():
        parts.append(f"| `{name}` | {module.DESCRIPTION} | float32 | no | yes, checked |")
    parts += [_names(family) for family in families().values()]
    parts.append(_SETTINGS_HEAD)
    parts += [_row(list(same)) for _, same in groupby(KNOWN_KEYS, lambda key: (key.file, key.treatment, key.note))]
    return "\n".join(parts) + "\n"


def _names(family: Family) -> str:
    """The names of a family's tensors in every scheme that it has."""
    places = {"layer": 0, "group": 0, "inner": 0}
    keras = family.keras(next(iter(family.presets.values()))).rows
    google = [family.google([part.component]) for part in family.parts] or [family.google()]
    columns = {
        "Google (`tf`, `bson`, `npz`)": [row for table in google for row in table.rows],
        "Model Garden (`saved-model`)": keras,
        "fairseq": family.fairseq.rows,
    }
    columns = {title: rows for title, rows in columns.items() if rows}
    lines = [f"\n## Names of {' and '.join(family.titles)}\n", f"| {' | '.join([_CANONICAL, *columns])} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for row in family.hf.rows:
        cells = [row.canonical]
        for rows in columns.values():
            same = (row.canonical, row.canonical.format(**places))
            cells.append("`, `".join(dict.fromkeys(other.foreign for other in rows if other.canonical in same)))
        lines.append(f"| {' | '.join(f'`{cell}`' if cell else '' for cell in cells)} |")
    return "\n".join(lines)


def readme() -> str:
    """The README with its tables of models and formats, and of commands and models, written anew."""
    text = README.read_text(encoding="utf-8")
    for begins, lines in ((_FORMATS_BEGIN, _models_and_formats()), (_COMMANDS_BEGIN, _commands_and_models())):
        before, start, rest = text.partition(begins)
        _, end, after = rest.partition(_TABLE_ENDS)
        text = "\n".join([before + start, *lines, end + after])
    return text


def _models_and_formats() -> list[str]:
    known, more = all_formats(), exporters()
    lines = [
        f"| model | {' | '.join(f'`{name}`' for name in (*known, *more))} |",
        "|---" * (1 + len(known) + len(more)) + "|",
    ]
    for family in families().values():
        cells = [_held(module) if module.holds(family) else "no" for module in known.values()]
        cells += ["written, checked"] * len(more)
        lines += [f"| {title} | {' | '.join(cells)} |" for title in family.titles]
    return lines


def _commands_and_models() -> list[str]:
    """What each command does with the models of each title, by the heads that they are pre-trained with."""
    titles = [(title, heads, family) for family in families().values() for title, heads in family.titles.items()]
    lines = [f"| command | {' | '.join(title for title, _, _ in titles)} |", "|---" * (1 + len(titles)) + "|"]
    for names, does in _DOES.items():
        shown = ", ".join(f"`{name}`" for name in names)
        lines.append(f"| {shown} | {' | '.join(does(family, heads) for _, heads, family in titles)} |")
    return lines


def _fills(family: Family, heads: Sequence[str]) -> str:
    """By which of a family's models masks are filled, where there are several."""
    if "mlm" not in heads:
        return "no"
    return next((part.name for part in family.parts if part.component == "mlm"), "yes")


def _scores(family: Family, heads: Sequence[str]) -> str:
    found = {"rtd": "replaced words", "mlm": "expected words"}
    names = {part.component: f"{part.name}: " for part in family.parts}
    return "; ".join(names.get(head, "") + found[head] for head in heads if head in found) or "no"


def _orders(family: Family, heads: Sequence[str]) -> str:
    return {"sop": "sentence order", "nsp": "next sentence"}.get(family.pair if family.pair in heads else "", "no")


def _makes(family: Family, heads: Sequence[str]) -> str:
    """Whether there are presets of a family, and with the heads of this model of it."""
    if not family.presets:
        return "no"
    own = next(iter(family.titles.values())) == heads
    return "yes" if own else f"the encoder, as {next(iter(family.titles))}"


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _held(module: Format) -> str:
    return "read, written, proved" if module.WRITES else "read"


def _schema(command: str) -> str:
    return json.dumps(documents.schema_of(command), indent=1, ensure_ascii=False) + "\n"


def _row(keys: list[Key]) -> str:
    """Keys of one file that are treated alike, with the values of a refused one that are accepted."""
    names = ", ".join(f"`{key.key}`" for key in keys if key.key) or "the file"
    values = ", ".join(f"`{json.dumps(value)}`" for value in keys[0].harmless)
    note = f"{keys[0].note} (accepted: {values})" if values else keys[0].note
    return f"| `{keys[0].file}` | {names} | {keys[0].treatment} | {note} |".replace("\n", " ")


_CANONICAL = "canonical (Hugging Face: `safetensors`, `torch`)"
_FORMATS_BEGIN, _COMMANDS_BEGIN, _TABLE_ENDS = (
    "<!-- models and formats, written by make docs -->",
    "<!-- commands and models, written by make docs -->",
    "<!-- end -->",
)

# What a command does with a model of a family that has these heads.
_DOES: Mapping[tuple[str, ...], Callable[[Family, Sequence[str]], str]] = {
    (
        "convert",
        "inspect",
        "diff",
        "models",
        "tokenize",
        "embed",
        "search",
        "similarity",
        "serve",
    ): lambda family, heads: "yes",
    ("init",): _makes,
    ("fill-mask",): _fills,
    ("fill-mask --span",): lambda family, heads: _yes("sbo" in heads),
    ("score",): _scores,
    ("sop",): _orders,
    ("finetune", "evaluate", "predict"): lambda family, heads: _yes(
        any(family.text_head in parts for parts in family.classes.values())
    ),
    ("answer",): lambda family, heads: _yes(any(entry.role == "qa" for entry in family.entries)),
    ("pretrain",): lambda family, heads: _yes(family.model_type == PRETRAINED),
}

_COMMANDS_HEAD = """# Commands

Written from the code by `make docs`. Where no `--model` is named, commands take the one that the environment's
`ALBERT_MODEL` names, else the small built-in one, and say which on stderr. `albert -V` prints what a report of a fault
should hold. Of every command:
"""

_SETTINGS_HEAD = """
## Settings of a model directory

What is done with every file and key that transformers and sentence-transformers are known to write. Refused: an error
of one line that names the key, unless its value is one of those accepted. No effect: it changes no id, vector or
probability. `albert_config.json` is read as `config.json` is. A key of a config that is not listed is kept, and `albert
inspect` notes it. The files of a Sentence-Transformers model decide the defaults of `albert embed` and `similarity`, of
`albert evaluate --sts` and `--retrieval`, `albert finetune sts` and `pairs`; the other commands do not read them;
`1_Pooling`, `2_Dense` and the like stand for the directories that `modules.json` names.

| file | key | treatment | what is done |
|---|---|---|---|"""

_FORMATS_HEAD = """# Formats

Written from the code by `make docs`. In names `{layer}` counts the layers, `{group}` and `{inner}` ALBERT's groups and
the layers in each; `npz` has `weights/` before each name. What Google or Model Garden has no name for has Hugging
Face's in `bson` and `npz`, Google's in `saved-model`. `--to sentence-transformers` writes `safetensors` without
heads, and the files that the library reads beside it.

| format | what it is | dtypes | read | written |
|---|---|---|---|---|"""
PAGES: dict[Path, Callable[[], str]] = {
    HERE / "commands.md": commands,
    HERE / "formats.md": formats,
    HERE / "json.md": documents.page,
    README: readme,
    **{HERE / "schemas" / f"{command}.json": partial(_schema, command) for command in documents.DOCUMENTS},
}


def main() -> None:
    stale = []
    for page, make in PAGES.items():
        text, name = make(), page.relative_to(HERE.parent).as_posix()
        if "--check" in sys.argv:
            if not page.exists() or page.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            page.parent.mkdir(exist_ok=True)
            page.write_text(text, encoding="utf-8")
            print(name)
    if stale:
        sys.exit(f"out of date: {', '.join(stale)}; run make docs")


if __name__ == "__main__":
    main()
