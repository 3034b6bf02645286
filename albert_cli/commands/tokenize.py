"""albert tokenize: texts to ids and back, and why; lengths and unknown characters of a corpus."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from albert_cli import console, options
from albert_cli.arguments import STANDARD_OUTPUT, Kind, refuse_idle

if TYPE_CHECKING:
    from albert_cli.tables.columns import Columns
    from albert_cli.tables.input_files import Kind as InputKind
    from albert_cli.tables.lines import Errors

app = typer.Typer()

_Format = Literal["table", "json", "jsonl", "ids", "tokens", "html"]
_FORMATS: dict[str, _Format] = {".json": "json", ".jsonl": "jsonl", ".html": "html", ".htm": "html"}
_TEXT = (".txt", ".log", ".md")
# Those that messages on a file advise.
_OPTIONS = frozenset({"--text-column", "--text-pair-column", "--errors", "--input-format"})


@app.command(rich_help_panel="Look")
def tokenize(
    texts: options.Texts = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="A model of any format, a .model, .vocab, vocab.txt, vocab.json or tokenizer.json, a published name "
            f"(albert-base-v2) or a Hugging Face Hub repository id; {options.DEFAULT_MODEL}.",
            autocompletion=options.complete_model,
        ),
        Kind.PATH,
    ] = None,
    source: options.TextSource = None,
    input_format: options.InputFormat = None,
    text_column: options.TextColumn = None,
    text_pair_column: options.TextPairColumn = None,
    delimiter: options.Delimiter = None,
    errors: options.Errors = "strict",
    pair: Annotated[
        bool,
        typer.Option("--pair", help="Encode two texts as a pair; separated by a tab where they are lines of text."),
    ] = False,
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, metavar="N", help=f"{options.MAX_LENGTH}.")
    ] = None,
    truncation: Annotated[
        Literal["longest_first", "only_first", "only_second"],
        typer.Option("--truncation", help="Which text of a pair is made shorter."),
    ] = "longest_first",
    stride: Annotated[
        int | None,
        typer.Option("--stride", min=0, metavar="N", help="Cut into windows that overlap by N tokens instead."),
    ] = None,
    pad: Annotated[bool, typer.Option("--pad", help="Fill up to --max-length.")] = False,
    no_special: Annotated[
        bool, typer.Option("--no-special", help="Put no [CLS] and [SEP], or <s> and </s>, around the texts.")
    ] = False,
    special_in_text: Annotated[
        bool,
        typer.Option("--special-in-text", help="Take a literal [MASK] or <mask>, [CLS], … in the text as that token."),
    ] = False,
    cased: options.Cased = None,
    keep_accents: options.KeepAccents = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="SentencePiece alone: no preparation, no special tokens (Julia's way).")
    ] = False,
    index_base: Annotated[
        int, typer.Option("--index-base", min=0, max=1, help="The number of the first id; 1 as in Julia.")
    ] = 0,
    format: Annotated[
        _Format | None,
        typer.Option("--format", help="How to print; as the name of --out ends (.json, .jsonl, .html), else table."),
    ] = None,
    json: options.Json = False,
    stats: Annotated[bool, typer.Option("--stats", help="Figures of the whole input instead of its tokens.")] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="OTHER",
            help="Compare with another tokenizer, named as for --model: ≠ marks another piece, id the same piece with "
            "another id.",
            autocompletion=options.complete_model,
        ),
        Kind.PATH,
    ] = None,
    decode: Annotated[
        str | None,
        typer.Option("--decode", metavar="IDS", help="Turn ids back into text; with --in, a line at a time."),
    ] = None,
    nbest: Annotated[
        int | None, typer.Option("--nbest", min=1, metavar="K", help="The K likeliest ways to cut each text.")
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw a way to cut each text from the K likeliest (64).")
    ] = False,
    alpha: Annotated[
        float, typer.Option("--alpha", min=0.0, max=1e6, help="Sampling: 0 draws evenly, 1 by likelihood.")
    ] = 0.1,
    seed: options.Seed = 42,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write to a file."), Kind.STREAM_OUT] = None,
    force: options.Force = False,
) -> None:
    """Show how texts become token ids, exactly as the model's own tokenizer makes them (Google's, fairseq's), and why.

    Per piece: id, score (of a SentencePiece model), kind, the characters of the original text it stands for, token type
    and attention mask.

    Examples:

        albert tokenize "Kathmandu is city of Temples and Gods." --model hf/

        albert tokenize "Who wrote it?" "Jane Austen did." --pair --model hf/ --json

        albert tokenize --in corpus.txt --model hf/ --stats

        albert tokenize --in reviews.csv --text-column review --model hf/ --stats

        albert tokenize --in corpus.txt --model hf/ --format ids --out ids.txt

        albert tokenize "in 1992, he" --model hf/ --compare other/tokenizer.json

        albert tokenize --decode "2 28823 25 136 3" --model spiece.model
    """
    from albert_cli.registry.resolve import resolve
    from albert_cli.tables.columns import Columns
    from albert_cli.tables.write import check_output
    from albert_cli.tokenization import reports
    from albert_cli.tokenization.tokenizer import Tokenizer

    modes = {
        "--stats": stats,
        "--compare": compare is not None,
        "--decode": decode is not None,
        "--nbest and --sample": nbest is not None or sample,
    }
    mode = _mode(modes)
    _check_input(texts or [], source, pair=pair, pair_column=text_pair_column, decode=decode)
    if pad and max_length is None:
        raise typer.BadParameter("--pad needs --max-length: the length to fill up to")
    _refuse_idle(mode, source=source, out=out, pair=pair, raw=raw, sample=sample, max_length=max_length)
    shown = _format("json" if json else format, out, mode)
    flags: dict[str, Any] = {
        "lowercase": None if cased is None else not cased,
        "keep_accents": keep_accents,
        "raw": raw,
    }
    found = resolve(model, tokenizer_only=True)
    compared = resolve(compare, tokenizer_only=True) if compare else None
    if out is not None and out != STANDARD_OUTPUT:
        check_output(out, source, force=force, others=[*found.files(), *(compared.files() if compared else [])])
    tokenizer = Tokenizer.from_pretrained(found.path, **flags)
    view = reports.View(
        tokenizer,
        index_base=index_base,
        format=shown,
        settings={
            "special_tokens": not (no_special or raw),
            "special_in_text": special_in_text,
            "max_length": max_length,
            "truncation": truncation,
            "stride": stride,
            "pad_to": max_length if pad else None,
        },
    )
    with _progress(source, visible=out not in (None, STANDARD_OUTPUT) or stats) as progress:
        if source is None:
            inputs = _given(texts or [], pair=pair)
        else:
            columns = Columns(text_column, text_pair_column, delimiter=delimiter, options=_OPTIONS)
            inputs = _read(source, columns, input_format, pair=pair, errors=errors, progress=progress)
        if stats:
            output = view.statistics(inputs)
        elif compared:
            other = Tokenizer.from_pretrained(compared.path, **flags)
            output = view.comparison(other, inputs, only_different=source is not None)
        elif decode is not None:
            output = view.decoded((text for text, _ in inputs) if source else [decode])
        elif nbest is not None or sample:
            output = view.alternatives(inputs, nbest, alpha=alpha if sample else None, seed=seed)
        else:
            output = view.records(inputs)
        console.write(output, out, force=force)


def _refuse_idle(
    mode: str | None,
    *,
    source: str | None,
    out: Path | None,
    pair: bool,
    raw: bool,
    sample: bool,
    max_length: int | None,
) -> None:
    """Refuse options of what is not done in this call."""
    named = (mode or "").replace(" and ", " or ")
    if source is None:
        refuse_idle("without --in", *options.OF_TABLES)
    if out is None:
        refuse_idle("without --out", "force")
    if mode not in (None, "--compare"):
        refuse_idle(f"with {named}", "max_length", "truncation", "stride", "pad", "special_in_text")
    if mode in ("--decode", "--nbest and --sample"):
        refuse_idle(f"with {named}", "no_special")
    if mode == "--decode":
        refuse_idle("with --decode", "pair", "raw", "cased", "keep_accents")
    if mode == "--stats":
        refuse_idle("with --stats", "index_base")
    if not sample:
        refuse_idle("without --sample", "alpha", "seed")
    if raw:
        refuse_idle("with --raw", "cased", "keep_accents", "no_special")
    if max_length is None:
        refuse_idle("without --max-length", "stride", "truncation")
    if not pair:
        refuse_idle("without --pair", "truncation")


def _mode(modes: Mapping[str, bool]) -> str | None:
    """The one that is asked for, if any; BadParameter for several."""
    given = [name for name, wanted in modes.items() if wanted]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} do not go together; choose one")
    return given[0] if given else None


def _format(wanted: _Format | None, out: Path | None, mode: str | None) -> _Format:
    """What is asked for, or what the name of the file says; BadParameter where these differ, or a mode lacks it."""
    from converters.staging import meant_as_file

    suffix = "" if out is None else out.suffix.lower()
    named = _FORMATS.get(suffix)
    if out is not None and named is None and suffix not in _TEXT and meant_as_file(out):
        kinds = f"{', '.join(_FORMATS)} or {_TEXT[0]} (table, ids, tokens)"
        raise typer.BadParameter(f"tokens are written as {kinds}, not {suffix}; name such a file", param_hint="--out")
    if wanted and named and wanted != named:
        raise typer.BadParameter(f"{out} is to be {named} by its name, and {wanted} by --format; change one")
    shown = wanted or named or "table"
    if shown in ("ids", "tokens", "html") and mode:
        raise typer.BadParameter(f"--format {shown} does not go with {mode}; choose table, json or jsonl")
    return shown


def _check_input(
    texts: list[str], source: str | None, *, pair: bool, pair_column: str | None, decode: str | None
) -> None:
    if texts and source:
        raise typer.BadParameter("texts on the command line and --in do not go together; choose one")
    if decode is not None and texts:
        raise typer.BadParameter("--decode takes its ids in one argument: --decode '2 48 25'")
    if not texts and not source and decode is None:
        raise typer.BadParameter("nothing to tokenize; give a text, or --in FILE")
    if pair and texts and len(texts) != 2:
        raise typer.BadParameter(f"--pair takes two texts, not {len(texts)}")
    if pair_column is not None and not pair:
        raise typer.BadParameter("--text-pair-column needs --pair")


def _given(texts: list[str], *, pair: bool) -> Iterator[tuple[str, str | None]]:
    """The texts or the pair of the command line."""
    yield from [(texts[0], texts[1])] if pair else ((text, None) for text in texts)


def _read(
    source: str,
    columns: Columns,
    kind: InputKind | None,
    *,
    pair: bool,
    errors: Errors,
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[str, str | None]]:
    """The texts or pairs of files, one by one; a file whose name says no kind has a text in each line."""
    from albert_cli.errors import TextError
    from albert_cli.tables.columns import DEFAULT_PAIR_COLUMN
    from albert_cli.tables.input_files import KINDS, suffix_of
    from albert_cli.tables.texts import stream

    path = Path(source)
    if kind is None and path.is_file() and suffix_of(path) not in KINDS:
        kind = "txt"
    lines = pair and "txt" in columns.files(source, kind).kinds
    if pair and not lines:
        columns = dataclasses.replace(columns, pair=columns.pair or DEFAULT_PAIR_COLUMN)
    for row in stream(source, columns, kind=kind, errors=errors, progress=progress):
        if not lines:
            yield row.text, row.pair if pair else None
            continue
        parts = row.text.split("\t")
        if len(parts) != 2:
            raise TextError(f"{row.place} holds {len(parts)} texts separated by tabs, where --pair needs 2")
        yield parts[0], parts[1]


@contextlib.contextmanager
def _progress(source: str | None, *, visible: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar over the bytes of a file, unless the terminal shows the output itself."""
    if source is None or not Path(source).is_file() or not (visible or not sys.stdout.isatty()):
        yield None
        return
    size = Path(source).stat().st_size
    with console.progress_bytes() as advance:
        yield lambda done: advance("reading", done, size)
