"""One self-contained HTML page of tokenized texts: coloured pieces, details under the pointer; no script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from albert_cli.tokenization.encoding import Encoding
from albert_cli.tokenization.pieces import CONTROL, DIGIT_COMMA
from albert_cli.tokenization.records import Record
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.messages import escaped

_HUES = 6
_CLASS_OF = {CONTROL: "control", DIGIT_COMMA: "digit-comma"}  # other kinds are their own class
_LEGEND = (
    ("normal", "piece of the vocabulary"),
    ("unknown", "not in the vocabulary"),
    ("control", "special token"),
    ("user-defined", "symbol that is always a piece"),
    ("digit-comma", "split again after a digit and a comma"),
    ("byte", "part of a character"),
)
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --paper: #fff; --line: #d5d5dd; --faint: #6a6a75; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ee; --paper: #17171b; --line: #3a3a44; --faint: #9a9aa6; } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 2rem auto; padding: 0 1.25rem }
h1 { font-size: 1.3rem; margin: 0 0 .25rem } p { margin: .25rem 0 1rem; color: var(--faint) }
section { border-top: 1px solid var(--line); padding: 1rem 0 1.5rem }
.source { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 .75rem; color: var(--ink) }
.note { font-size: .85rem } div.note { margin-bottom: 1.25rem }
.pieces { display: flex; flex-wrap: wrap; gap: .35rem }
.t { position: relative; padding: .1rem .4rem; border-radius: .35rem; border: 1px solid transparent; text-align: center;
  color: #16161a; font-family: ui-monospace, monospace; overflow-wrap: anywhere; cursor: default }
.t small { display: block; font-size: .7rem; opacity: .7 }
.h0 { background: #ffd9c7 } .h1 { background: #fff0b8 } .h2 { background: #d4f0c4 }
.h3 { background: #c6ecec } .h4 { background: #d2dcff } .h5 { background: #ecd2f5 }
.unknown { border: 2px solid #c4001d; background: #ffe3e6 } .control { background: #d5d5dd; font-weight: 600 }
.user-defined { border: 1px dashed #555 } .digit-comma { border: 2px dotted #0b57d0 } .byte { border: 1px dotted #555 }
.padding { opacity: .45 }
.t dl { display: none; position: absolute; z-index: 1; left: 0; top: 105%; margin: 0; padding: .5rem .7rem;
  width: max-content; max-width: 22rem; grid-template-columns: auto 1fr; gap: .05rem .8rem;
  text-align: left; font-size: .8rem;
  background: var(--paper); color: var(--ink); border: 1px solid var(--line); border-radius: .4rem;
  box-shadow: 0 4px 14px #0004 }
.t:hover dl, .t:focus dl { display: grid } dt { color: var(--faint) } dd { margin: 0; overflow-wrap: anywhere }
"""


def page(
    tokenizer: Tokenizer, records: Iterable[Record], *, title: str = "Tokens", index_base: int = 0
) -> Iterator[str]:
    """The page, in parts as the records come."""
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        "<p>Point at a piece for its details. Ids stand below the pieces.</p>\n"
        '<div class="pieces note">'
        + "".join(
            f'<span class="t h{n} {name}">{name}<small>{text}</small></span>' for n, (name, text) in enumerate(_LEGEND)
        )
        + "</div>\n"
    )
    for record in records:
        yield from _section(tokenizer, record, index_base)
    yield "</body>\n</html>\n"


def _section(tokenizer: Tokenizer, record: Record, index_base: int) -> Iterator[str]:
    yield "<section>\n"
    for text in (record.text, record.pair):
        if text is not None:
            yield f'<div class="source">{escape(escaped(text))}</div>\n'
    for encoding in record.encoding.windows():
        left_out = f", {encoding.truncated} left out" if encoding.truncated else ""
        yield f'<p class="note">{len(encoding)} tokens{left_out}</p>\n<div class="pieces">\n'
        number = 0
        for part in encoding.parts():
            for n in range(len(part)):
                yield _token(tokenizer, record, part, n, index_base, hue=number % _HUES)
                number += 1
        yield "</div>\n"
    yield "</section>\n"


def _token(tokenizer: Tokenizer, record: Record, encoding: Encoding, n: int, index_base: int, *, hue: int) -> str:
    number, kind = encoding.ids[n], encoding.kinds[n]
    score = tokenizer.segmenter.score(number)
    details = {
        "id": str(number + index_base),
        "score": None if score is None else f"{score:.5g}",
        "kind": kind,
        "text": None if encoding.sequence_ids[n] is None else escaped(record.source(n, encoding)),
        "span": None if encoding.sequence_ids[n] is None else "{}–{}".format(*encoding.offsets[n]),  # noqa: RUF001
        "token type": str(encoding.token_type_ids[n]),
        "attention": str(encoding.attention_mask[n]),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in details.items() if value is not None)
    classes = f"t h{hue} {_CLASS_OF.get(kind, kind)}" + ("" if encoding.attention_mask[n] else " padding")
    return (
        f'<span class="{classes}" tabindex="0">{escape(escaped(encoding.pieces[n]))}'
        f"<small>{number + index_base}</small><dl>{listed}</dl></span>\n"
    )
