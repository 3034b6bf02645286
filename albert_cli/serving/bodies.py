"""The bodies of requests: JSON, read into a dataclass for each path, every fault named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, cast

from albert_cli.declared import Within, faults_of_facts, settings_of
from albert_cli.serving.errors import RequestError
from albert_cli.tables.nested import parsed
from converters.errors import did_you_mean
from converters.limits import JSON_VALUES, json_fault
from converters.messages import brief, escaped, listing

B = TypeVar("B", bound="Body")
# Candidates for a mask, as many as anyone looks at.
_MOST_CANDIDATES = 1000


@dataclass(frozen=True)
class Body:
    """What every body may have: which model is meant."""

    model: str | None = None


@dataclass(frozen=True)
class Embeddings(Body):
    """`POST /v1/embeddings`, as OpenAI's: `input` is a text, a list of texts, token ids, or a list of lists of them."""

    input: Any = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Within(1)] | None = None
    user: str | None = None


@dataclass(frozen=True)
class FillMask(Body):
    """`POST /fill-mask`: texts with masks; the `top` likeliest pieces for each mask, or the `targets`."""

    input: Any = None
    top: Annotated[int, Within(1, _MOST_CANDIDATES)] = 5
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Classify(Body):
    """`POST /classify`: a text or a list of them; for a model of pairs, a list of pairs."""

    input: Any = None


def read(body: bytes, declared: type[B]) -> B:
    """The body as `declared`; RequestError for what is no such body."""
    if json_fault(body):
        raise RequestError(f"the body holds more than {JSON_VALUES:,} values")
    try:
        data = parsed(body)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise RequestError(f"the body is {brief(data)}, not a JSON object")
    known = settings_of(cast(type, declared))
    for key in data:
        if key not in known:
            near = did_you_mean(key, known)
            raise RequestError(f"unknown key {brief(key)}; the keys are {', '.join(known)}{near}", param=key)
    if data.get("input") is None:
        raise RequestError("input is missing", param="input")
    if faults := faults_of_facts(data, declared):
        raise RequestError("; ".join(faults), param=faults[0].partition(" ")[0])
    values: dict[str, Any] = data | {"targets": tuple(data["targets"])} if "targets" in data else data
    return declared(**values)


def texts_or_ids(given: Any, most: int) -> tuple[list[str], list[list[int]]]:
    """The texts of an `input`, or the token ids; one of the two lists is empty. RequestError for anything else."""
    if isinstance(given, str):
        return [given], []
    items = given if isinstance(given, list) else []
    if items and all(map(_is_id, items)):
        return [], [items]
    _check_count(items, given, most, "a text, a list of texts, or token ids")
    if isinstance(items[0], str):
        return strings(given, most), []
    for number, item in enumerate(items):
        if not (isinstance(item, list) and item and all(map(_is_id, item))):
            wanted = "a list of token ids" if isinstance(items[0], list) else "a text or a list of token ids"
            raise RequestError(f"input[{number}] is {brief(item)}, not {wanted}", param="input")
    return [], items


def strings(given: Any, most: int) -> list[str]:
    """The texts of an `input`: one, or a list of at most so many. RequestError for anything else."""
    items = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    _check_count(items, given, most, "a text or a list of texts")
    for number, item in enumerate(items):
        if not isinstance(item, str):
            raise RequestError(f"input[{number}] is {brief(item)}, not a text", param="input")
    return items


def texts_or_pairs(given: Any, most: int) -> list[tuple[str, ...]]:
    """Each text, or pair of texts, of an `input`; RequestError for anything else."""
    items = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    _check_count(items, given, most, "a text, a list of texts, or a list of pairs of texts")
    found: list[tuple[str, ...]] = []
    for number, item in enumerate(items):
        texts = [item] if isinstance(item, str) else item
        if not (isinstance(texts, list) and 1 <= len(texts) <= 2 and all(isinstance(text, str) for text in texts)):
            raise RequestError(f"input[{number}] is {brief(item)}, not a text or a pair of texts", param="input")
        found.append(tuple(texts))
    return found


def check_model(body: Body, name: str) -> None:
    """RequestError where a body means another model than the one there is."""
    if body.model not in (None, name):
        raise no_model(str(body.model), name)


def check_targets(body: FillMask) -> None:
    """RequestError for more targets than anyone compares."""
    if (count := len(body.targets)) > _MOST_CANDIDATES:
        raise RequestError(
            f"targets has {count:,} words, more than the {_MOST_CANDIDATES:,} of one request", param="targets"
        )


def no_model(asked: str, name: str) -> RequestError:
    """The error of another model than the one there is."""
    return RequestError(
        f"the model {brief(asked)} is not served here; name {escaped(name)!r}",
        status=404,
        param="model",
        code="model_not_found",
    )


def no_such(rows: list[int], what: str) -> str:
    """The beginning of an error about some of the inputs."""
    return f"{listing(f'input[{row}]' for row in rows)} {what}"


def _check_count(items: list[Any], given: Any, most: int, wanted: str) -> None:
    if not items:
        raise RequestError(f"input is {brief(given)}, not {wanted}", param="input")
    if len(items) > most:
        raise RequestError(
            f"input has {len(items):,} texts, more than the {most:,} of one request; send it in parts", param="input"
        )


def _is_id(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)
