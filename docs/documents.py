"""What `--json` prints: of every command the JSON Schema of its document; docs/json.md and docs/schemas/ come from it.

A field is a type and what it means. tests/test_json_documents.py holds what the commands print against the schemas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def _of(kind: Any, meaning: str = "", **more: Any) -> Schema:
    return {"type": kind, **({"description": meaning} if meaning else {}), **more}


def text(meaning: str = "", **more: Any) -> Schema:
    return _of("string", meaning, **more)


def whole(meaning: str = "", least: int = 0) -> Schema:
    return _of("integer", meaning, minimum=least)


def number(meaning: str = "", **more: Any) -> Schema:
    return _of("number", meaning, **more)


def share(meaning: str = "") -> Schema:
    return number(meaning, minimum=0, maximum=1)


def flag(meaning: str = "") -> Schema:
    return _of("boolean", meaning)


def many(item: Schema, meaning: str = "") -> Schema:
    return _of("array", meaning, items=item)


def named(item: Schema, meaning: str = "") -> Schema:
    """An object whose names are no part of the schema."""
    return _of("object", meaning, additionalProperties=item)


def maybe(item: Schema) -> Schema:
    """The same, or null."""
    kinds = item["type"]
    return {**item, "type": [*(kinds if isinstance(kinds, list) else [kinds]), "null"]}


class Often(dict[str, Any]):
    """A field that need not be there."""


def often(item: Schema) -> Schema:
    return Often(item)


def fields(meaning: str = "", /, **of: Schema) -> Schema:
    """An object of these fields and no others."""
    needed = [name for name, item in of.items() if not isinstance(item, Often)]
    properties = {name: dict(item) for name, item in of.items()}
    return _of("object", meaning, properties=properties, required=needed, additionalProperties=False)


def either(*kinds: Schema) -> Schema:
    return {"anyOf": list(kinds)}


SHA = text("SHA-256.", pattern="^[0-9a-f]{64}$")
_WRITTEN = fields("With --out.", out=text("The file that was written."), rows=whole("Its rows."))
_TOKENS = {"input_ids": many(whole()), "tokens": many(text())}
_SETTINGS = named({}, "What made the vectors, as in the metadata of the Parquet file.")
_OF_MODEL = many(text(), "Those of the settings that the model's Sentence-Transformers files say.")
_METRICS = named(number(), "Each metric by its name.")
_DIGESTS = named(SHA, "The SHA-256 of each tensor, by its canonical name.")
_NOT_FINITE = fields(
    "Values that are NaN or infinite.", nan=whole(), infinite=whole(), tensors=_of("object", "Those that hold any.")
)
_NOTES = many(text(), "What was inferred or assumed.")
_CANDIDATE = fields(
    rank=whole("Among all pieces, from 1.", 1),
    id=whole("Of the piece."),
    piece=text("As the vocabulary has it."),
    probability=share(),
    filled=text("The text filled in with it."),
)
_SCORED = {
    "row": whole("Of the text, from 0."),
    "text": text(),
    "tokens": whole("Tokens that were scored."),
    "truncated": whole("Tokens left out."),
    "log_likelihood": number("The sum of the log-probabilities, natural."),
    "per_token": maybe(number("Their mean.")),
    "pseudo_perplexity": maybe(number("e to the power of minus the mean.")),
    "mask": text("What was masked together (--mask)."),
}
_RUN = {
    "task": text(),
    "best_step": whole("Of the model that was kept."),
    "steps": whole("Updates that were made."),
    "planned_steps": whole(),
    "stopped_early": flag("Whether --early-stop ended it."),
    "dev": named({"type": ["number", "null"]}, "The metrics of the model that was kept, on the development set."),
    "last_weights_sha256": SHA,
}
_OVER_SEEDS = named(fields(mean=number(), spread=number("Standard deviation.")))
_PREDICTION = {"type": ["string", "number", "null", "array"], "description": "A label, a number, or a list of labels."}

# Of each command: when a document looks so, and how.
DOCUMENTS: Mapping[str, Mapping[str, Schema]] = {
    "answer": {
        "": fields(
            answer=text("Empty where the model finds none."),
            start=_of("integer", "Where it begins in the text, in characters; -1 of none."),
            end=_of("integer", "Where it ends."),
            score=number("Sum of the two logits of the best span."),
            no_answer_score=often(number("That of no answer, above the best span.")),
            no_answer_threshold=often(number("Above it there is no answer.")),
            candidates=often(
                many(
                    fields(
                        text=text(),
                        probability=share(),
                        start_logit=number(),
                        end_logit=number(),
                        start=_of("integer"),
                        end=_of("integer"),
                    ),
                    "With --top, the likeliest first.",
                )
            ),
        )
    },
    "convert": {
        "": fields(
            source=text(),
            out=text("What was written."),
            source_format=text(),
            target_format=text(),
            digests=_DIGESTS,
            parameters=whole(),
            bytes=whole("Of all tensors as written."),
            dropped=named(whole(), "How many variables were left out, by reason."),
            absent=many(text(), "Heads that the model lacks."),
            heads=many(text(), "Heads that were carried."),
            tokenizer=text("Which, and how it was carried."),
            global_step=maybe(whole()),
            cast=maybe(
                fields(
                    "Of --dtype.",
                    dtype=text(),
                    tensors=whole("Those that were cast."),
                    max_abs_error=number(),
                    worst=text("The tensor with that error."),
                )
            ),
            notes=_NOTES,
            not_finite=_NOT_FINITE,
        ),
        "to ONNX": fields(
            source=text(),
            out=text("What was written."),
            source_format=text(),
            target_format=text(),
            head=maybe(text("The one that is in it.")),
            title=text("What is in it, in words."),
            inputs=many(text()),
            outputs=many(text()),
            parameters=whole(),
            bytes=whole("Of the file."),
            shapes=many(many(whole()), "Of the inputs on which it was compared with PyTorch."),
            max_abs_difference=number("The largest from PyTorch's outputs."),
            allowed_difference=number(),
            quantized=maybe(_of("object", "What --quantize cost.")),
            left_out=many(text()),
            dropped=named(whole()),
            tokenizer=text(),
            notes=_NOTES,
        ),
    },
    "diff": {
        "": fields(
            equal=flag(),
            tensors=whole(),
            equal_tensors=whole(),
            differences=many(
                fields(
                    name=text("Of the tensor, `config` or `tokenizer`."),
                    kind=text("What differs: dtype, shape, values, …"),
                    detail=text("In words."),
                    max_abs=maybe(number()),
                )
            ),
        )
    },
    "embed": {
        "": fields(
            out=text("What was written."),
            rows=whole(),
            rows_resumed=whole("Those that were done before."),
            rows_truncated=whole(),
            tokens_truncated=whole(),
            rows_empty=whole(),
            tokens=whole("All that were embedded, special ones counted."),
            dims=whole("Numbers of a vector.", 1),
            columns=many(text(), "Those of the vectors."),
            seconds=number(),
            settings=_SETTINGS,
            settings_of_the_model=_OF_MODEL,
        ),
        "with TEXT": many(fields(text=text(), embedding=many(number(), "The vector."))),
        "with --update, of a file that is there": fields(
            out=text("What was updated."),
            rows=whole("All that it has now."),
            added=whole("Rows that are new."),
            changed=whole("Rows that were embedded again."),
            unchanged=whole(),
            not_in_the_input=whole("Rows that were kept all the same."),
            seconds=number(),
        ),
        "with --merge": fields(
            out=text("What was written."),
            rows=whole(),
            rows_truncated=whole(),
            tokens_truncated=whole(),
            rows_empty=whole(),
            tokens=whole(),
        ),
    },
    "evaluate": {
        "": named(named(_METRICS, "By the split, or the file's name."), "By the run."),
        "with --sts": fields(
            data=text(),
            model=text(),
            pairs=whole(),
            pearson=number(minimum=-1, maximum=1),
            spearman=number(minimum=-1, maximum=1),
            texts_truncated=whole(),
            settings=_SETTINGS,
            settings_of_the_model=_OF_MODEL,
        ),
        "with --retrieval": fields(
            data=text(),
            model=text(),
            queries=whole(),
            texts=whole("Those that were ranked for each query."),
            mrr=share("The mean of 1 / the rank of the first text that belongs to the query."),
            recall_at_1=share(),
            recall_at_5=share(),
            recall_at_10=share("The mean share of a query's texts among its first 10."),
            ndcg_at_10=share(),
            texts_truncated=whole(),
            settings=_SETTINGS,
            settings_of_the_model=_OF_MODEL,
            query_prompt=text("What stood before each query."),
        ),
    },
    "fill-mask": {
        "": many(fields(text=text(), masks=many(many(_CANDIDATE), "For each mask, the likeliest first."))),
        "with --out": _WRITTEN,
    },
    "finetune": {
        "": fields(out=text("The run's directory."), **_RUN),
        "with --seeds": fields(
            out=text(),
            task=text(),
            seeds=many(whole()),
            metrics=_OVER_SEEDS,
            runs=many(fields(**_RUN), "One for each seed."),
        ),
        "with several rates of --lr": fields(
            out=text(),
            task=text(),
            selection_metric=text("By which the best rate is chosen."),
            seeds=many(whole()),
            best_learning_rate=number(),
            sweep=many(
                fields(
                    learning_rate=number(),
                    metrics=_OVER_SEEDS,
                    runs=many(fields(**_RUN), "One for each seed."),
                )
            ),
        ),
    },
    "init": {
        "": fields(out=text(), format=text(), parameters=whole(), seed=whole(), digests=_DIGESTS),
    },
    "inspect": {
        "": fields(
            path=text(),
            format=text(),
            config=_of("object", "As config.json has it."),
            share=maybe(text("Which weights the layers of an ALBERT share.")),
            dtypes=many(text()),
            parameters=named(whole(), "By component."),
            parameters_total=whole(),
            parameters_without_heads=whole(),
            bert_of_same_shape=often(whole("Parameters of a BERT as large; of an ALBERT alone.")),
            times_fewer=often(number()),
            heads=named(flag(), "Which there are."),
            optimizer_slots=whole(),
            global_step=maybe(whole()),
            dropped=named(whole(), "How many variables were left out, by reason."),
            notes=_NOTES,
            sentence_transformers=maybe(_of("object", "What its Sentence-Transformers files say.")),
            tokenizer=text(),
            tokenizer_sha256=maybe(SHA),
            weights_sha256=SHA,
            not_finite=_NOT_FINITE,
            tensors=often(
                many(fields(name=text(), shape=many(whole()), dtype=text(), sha256=SHA), "With --tensors.")
            ),
        )
    },
    "models": {
        "": many(
            fields(
                name=text("What --model takes."),
                kind=text("", enum=["built-in", "hub", "archive"]),
                family=maybe(text()),
                language=maybe(text()),
                licence=maybe(text()),
                parameters=maybe(whole("Of encoder and embeddings.")),
                bytes=maybe(whole("Of the weights in float32.")),
                url=maybe(text()),
                here=maybe(text("Where it lies on this disk.")),
                bytes_here=maybe(whole()),
            )
        )
    },
    "predict": {
        "": fields(
            prediction=_PREDICTION, probabilities=often(named(share(), "Of each label; none of a regression."))
        ),
        "with --labels": fields(
            prediction=text("One of the labels."),
            method=text("`entailment` or `vectors`."),
            template=text("The sentence in which each label stood."),
            probabilities=often(named(share(), "Of each label, by entailment.")),
            cosines=often(named(number(), "Of each label, by vectors.")),
        ),
        "with --in": many(_of("object", "The row's columns, then `prediction` (or `answer`, `tags`), probabilities.")),
        "with --out": _WRITTEN,
    },
    "pretrain": {
        "": fields(
            out=text(),
            steps=whole(),
            seconds=number(),
            tokens_seen=whole(),
            held_out=_METRICS,
            sentence_order_by_length=often(share("What the lengths of the segments alone would give.")),
            data=fields(documents=whole(), held_out_documents=whole(), tokens=whole(), parameters=whole()),
            last_weights_sha256=SHA,
        )
    },
    "score": {
        "": many(
            fields(
                **_SCORED,
                token_scores=many(
                    fields(
                        id=whole(),
                        piece=text(),
                        start=whole("In the text, in characters."),
                        end=whole(),
                        log_probability=number(maximum=0),
                        rank=whole("Among all pieces, from 1.", 1),
                        choice_id=whole("What the model expects there."),
                        choice=text(),
                        choice_log_probability=number(maximum=0),
                        odd=flag("Whether it is far less likely than the others."),
                    )
                ),
            )
        ),
        "with --totals": many(fields(**_SCORED)),
        "with --out": _WRITTEN,
    },
    "search": {
        "": many(
            fields(
                query=text(),
                nearest=many(
                    fields(
                        row=whole("From 0."),
                        cosine=number(minimum=-1, maximum=1),
                        id=often(_of(["string", "integer", "number", "boolean"], "Of the file's own.")),
                        text=often(text("Where the file has it.")),
                        columns=often(named({}, "Its other columns; dates and the like as text.")),
                    ),
                    "The nearest first.",
                ),
            )
        )
    },
    "similarity": {
        "": fields(
            rows=many(text()), columns=many(text()), cosines=many(many(number(minimum=-1, maximum=1)), "Row by row.")
        ),
        "with --top": many(
            fields(
                query=text(),
                nearest=many(
                    fields(
                        row=whole("From 0."),
                        label=text("The text, its id, or the row."),
                        cosine=number(minimum=-1, maximum=1),
                        id=often(text("Of the file's own.")),
                    ),
                    "The nearest first.",
                ),
            )
        ),
    },
    "sop": {
        "": many(
            fields(
                row=whole("From 0."),
                first=text(),
                second=text(),
                question=text("", enum=["sentence order", "next sentence"]),
                in_order=often(share("An ALBERT's.")),
                is_next=often(share("A BERT's.")),
                n_tokens=whole(),
                truncated=whole(),
            )
        ),
        "with --out": _WRITTEN,
    },
    "tokenize": {
        "": many(
            fields(
                text=text(),
                pair=often(text("With --pair.")),
                **_TOKENS,
                kinds=many(text("normal, unknown, control, …")),
                offset_mapping=many(many(whole()), "Begin and end of each piece in the text, in characters."),
                sequence_ids=many({"type": ["integer", "null"]}, "0 or 1; null of a special token."),
                token_type_ids=many(whole()),
                attention_mask=many(whole()),
                special_tokens_mask=many(whole()),
                truncated=whole("Tokens left out."),
                overflowing=often(many(_of("object"), "With --stride: the further windows.")),
            )
        ),
        "with --stats": fields(
            texts=whole(),
            characters=whole(),
            tokens=whole(),
            tokens_per_character=number(),
            unknown_tokens=whole(),
            unknown_rate=share(),
            unknown_characters=named(whole()),
            special_tokens_per_text=whole(),
            length=fields("In tokens, special ones counted.", mean=number(), median=number(), p95=number(),
                          p99=number(), max=whole()),
            longer_than=named(whole(), "How many texts."),
            histogram=named(whole()),
            most_frequent=many(fields(id=whole(), piece=text(), count=whole())),
        ),
        "with --compare": many(
            fields(text=text(), first=fields(**_TOKENS), second=fields(**_TOKENS), equal=flag())
        ),
        "with --nbest": many(
            fields(text=text(), alternatives=many(fields(score=often(number("Log-probability.")), **_TOKENS)))
        ),
        "with --decode": many(fields(text=text())),
    },
}  # fmt: skip


def schema_of(command: str) -> Schema:
    """The JSON Schema of all that `albert COMMAND --json` prints."""
    kinds = DOCUMENTS[command]
    head = {"$schema": DRAFT, "title": f"albert {command} --json"}
    if len(kinds) == 1:
        return head | next(iter(kinds.values()))
    return head | {"anyOf": [{"title": when or "usually", **schema} for when, schema in kinds.items()]}


def page() -> str:
    """docs/json.md."""
    parts = [_HEAD]
    for command, kinds in DOCUMENTS.items():
        parts.append(f"## albert {command}\n\nSchema: [{command}.json](schemas/{command}.json)\n")
        for when, schema in kinds.items():
            rows = list(_rows(schema, ""))
            title = f"{when[0].upper()}{when[1:]}" if when else "The document"
            parts.append(f"{title}: {_kind(schema)}.\n")
            if rows:
                parts.append("| field | type | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _rows(schema: Schema, path: str) -> Iterator[str]:
    """A row for each field, those of lists and objects within included."""
    if schema.get("type") == "array":
        yield from _rows(schema["items"], f"{path}[]")
        return
    for name, item in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        optional = "" if name in schema["required"] else " (may be absent)"
        yield f"| `{here}` | {_kind(item)}{optional} | {item.get('description', '')} |"
        yield from _rows(item, here)


def _kind(schema: Schema) -> str:
    kinds = schema.get("type", "any value")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    words = [_WORDS.get(kind, kind) for kind in kinds]
    if kinds[0] == "array" and "items" in schema:
        words[0] = f"list of {_kind(schema['items'])}"
    elif kinds[0] == "object" and isinstance(schema.get("additionalProperties"), dict):
        words[0] = f"object of {_kind(schema['additionalProperties'])} by name"
    return " or ".join(words)


_WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false"}
_HEAD = """# JSON documents

What `--json` prints on stdout: one document, of which each version has a [JSON Schema](https://json-schema.org/) (draft
2020-12), and a test holds what the commands print against it. In the tables `[]` is an item of a list. Rows are counted
from 0. A number that is not finite is `null`. What was written is `out`. Errors are one line on stderr, not JSON; the
exit code says that there was one.

Written from the code by `make docs`.
"""
