"""The paths of the server, as an ASGI application: bodies are read within limits, work waits its turn."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from albert_cli.embedding.units import unit
from albert_cli.errors import EmbeddingError
from albert_cli.serving import bodies
from albert_cli.serving.errors import RequestError, as_json
from albert_cli.serving.model import Asked, Filling, Served
from albert_cli.serving.worker import Kind, QueueFullError, Worker
from converters.errors import AlbertError

_T = TypeVar("_T")
# Seconds in which the body of a request has to arrive.
_PATIENCE = 60
# Seconds for what still comes of a body that is refused.
_MOMENT = 5
# Bodies of the largest size whose texts are held at once, until they are answered.
_BODIES = 16
# What nobody reads: the client has left.
_GONE = 499


@dataclass(frozen=True)
class Limits:
    """`texts` of a request, `body` its bytes, `queue` texts that wait: at most."""

    texts: int = 2048
    body: int = 8 * 2**20
    queue: int = 8192


class _Work(NamedTuple):
    """What a request asks for, and what makes the answer of the results."""

    kind: Kind
    asked: Asked
    answer: Callable[[Sequence[Any]], bytes]


@dataclass
class _Body:
    """What has arrived of a body; `size` is its bytes, which count among those held as long as its texts are."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    def take(self) -> bytes:
        """The whole, to be read once."""
        whole = b"".join(self.chunks)
        self.chunks.clear()
        return whole


class Application:
    """The paths over one model; `answered` counts the requests for its work so far, `given_up` those that its end cut
    off."""

    def __init__(self, served: Served, limits: Limits) -> None:
        self.answered = self.given_up = 0
        self._served, self._name, self._limits = served, served.name, limits
        self._started = int(time.time())
        self._held = 0  # bytes of bodies
        self._worker = Worker(budget=served.budget, capacity=limits.queue)
        # Reads bodies and makes answers of them; one thread, for a tokenizer is not made for several.
        self._reader = ThreadPoolExecutor(1, "reader")
        self.asgi = _to_its_end(
            Starlette(
                routes=[
                    Route("/health", self._health),
                    Route("/v1/models", self._models),
                    Route("/v1/models/{name:path}", self._model),
                    Route("/v1/embeddings", self._working(self._embeddings), methods=["POST"]),
                    Route("/fill-mask", self._working(self._fill_mask), methods=["POST"]),
                    Route("/classify", self._working(self._classify), methods=["POST"]),
                ],
                exception_handlers={
                    HTTPException: _no_such_path,
                    RequestError: _refused,
                    QueueFullError: _full,
                    ClientDisconnect: _gone,
                    AlbertError: _fault,
                    Exception: _defect,
                },
            )
        )

    def close(self) -> None:
        """End the threads; what is computed at the moment is computed to its end."""
        self._worker.close()
        self._reader.shutdown(cancel_futures=True)

    # --- What there is

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": self._name, "waiting": self._worker.waiting})

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._described()]})

    async def _model(self, request: Request) -> Response:
        if (asked := request.path_params["name"]) != self._name:
            raise bodies.no_model(asked, self._name)
        return JSONResponse(self._described())

    def _described(self) -> dict[str, Any]:
        return {"id": self._name, "object": "model", "created": self._started, "owned_by": "albert"}

    # --- What is computed

    def _embeddings(self, body: bytes) -> _Work:
        asked = bodies.read(body, bodies.Embeddings)
        bodies.check_model(asked, self._name)
        dims = asked.dimensions or self._served.dims
        if dims > self._served.dims:
            raise RequestError(
                f"dimensions is {dims}; the vectors of {self._name} have {self._served.dims} numbers",
                param="dimensions",
            )
        texts, ids = bodies.texts_or_ids(asked.input, self._limits.texts)
        rows = self._served.ids(ids) if ids else self._served.texts(texts)
        as_text = asked.encoding_format == "base64"
        return _Work(self._served.vectors, rows, lambda found: self._list_of(found, rows, dims, as_text=as_text))

    def _list_of(self, found: Sequence[NDArray[np.float32]], asked: Asked, dims: int, *, as_text: bool) -> bytes:
        vectors: NDArray[Any] = np.stack(found)
        if dims < vectors.shape[1]:
            vectors = vectors[:, :dims]
            if self._served.renormalizes:
                vectors = unit(vectors)
        rows: list[Any] = vectors.tolist()
        if as_text:
            rows = [base64.b64encode(row.tobytes()).decode() for row in vectors.astype("<f4")]
        data = [{"object": "embedding", "index": row, "embedding": vector} for row, vector in enumerate(rows)]
        return _encoded({"object": "list", "data": data, "model": self._name, "usage": _usage(asked)})

    def _fill_mask(self, body: bytes) -> _Work:
        asked = bodies.read(body, bodies.FillMask)
        bodies.check_model(asked, self._name)
        bodies.check_targets(asked)
        texts = bodies.strings(asked.input, self._limits.texts)
        self._served.check_room_for_candidates(texts, len(asked.targets) or asked.top)
        return _Work(
            Filling(self._served, asked.top, asked.targets),
            Asked(list(enumerate(texts)), self._served.costs(texts)),
            lambda found: self._answer(
                [{"text": text, "masks": masks} for text, masks in zip(texts, found, strict=True)]
            ),
        )

    def _classify(self, body: bytes) -> _Work:
        asked = bodies.read(body, bodies.Classify)
        bodies.check_model(asked, self._name)
        items = bodies.texts_or_pairs(asked.input, self._limits.texts)
        costs = self._served.costs([" ".join(texts) for texts in items])
        return _Work(self._served.classes, Asked(items, costs), self._answer)

    def _answer(self, found: Sequence[dict[str, Any]]) -> bytes:
        data = [{"index": row} | item for row, item in enumerate(found)]
        return _encoded({"object": "list", "data": data, "model": self._name})

    # --- How a request is carried out

    def _working(self, read: Callable[[bytes], _Work]) -> Callable[[Request], Any]:
        """The endpoint of a path whose body says what to compute."""

        async def endpoint(request: Request) -> Response:
            self._worker.check_room(1)
            loop = asyncio.get_running_loop()
            body = _Body()
            try:
                await self._receive(request, body)
                work = await _unless_gone(request, loop.run_in_executor(self._reader, read, body.take()))
                future = self._worker.submit(work.kind, work.asked.items, work.asked.costs)
                found = await _unless_gone(request, asyncio.wrap_future(future))
                answer = await loop.run_in_executor(self._reader, work.answer, found)
            except asyncio.CancelledError:  # what is still asked when the patience of the server's end is over
                self.given_up += 1
                return JSONResponse(as_json("the server is stopping; ask again later", 503), 503)
            finally:
                self._held -= body.size
            self.answered += 1
            return Response(answer, media_type="application/json")

        return endpoint

    async def _receive(self, request: Request, body: _Body) -> None:
        """Fill the body of a request; RequestError for a large one, or one that does not come, QueueFullError where too
        much is held."""
        most = self._limits.body
        said = request.headers.get("content-length", "0")
        try:
            with anyio.fail_after(_PATIENCE):
                arriving = request.stream()
                if not (len(said) < 16 and int(said) <= most):
                    if "expect" not in request.headers:
                        await _pass_over(arriving)
                    raise _too_large(most)
                async for chunk in arriving:
                    if body.size + len(chunk) > most:
                        await _pass_over(arriving)
                        raise _too_large(most)
                    if self._held + len(chunk) > _BODIES * most:
                        raise QueueFullError(1)
                    self._held += len(chunk)
                    body.size += len(chunk)
                    body.chunks.append(chunk)
        except TimeoutError:
            raise RequestError(f"the body did not arrive within {_PATIENCE} seconds", status=408) from None


def _to_its_end(app: ASGIApp) -> ASGIApp:
    """The application, without an error for what is cancelled when the server stops."""

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return asgi


async def _pass_over(arriving: AsyncIterator[bytes]) -> None:
    """Throw away what still comes of a body: many clients send all of it before they read an answer."""
    with anyio.move_on_after(_MOMENT):
        async for _ in arriving:
            pass


def _too_large(most: int) -> RequestError:
    return RequestError(f"the body has more than {most:,} bytes; send it in parts", status=413)


async def _unless_gone(request: Request, work: asyncio.Future[_T]) -> _T:
    """The results of the work; ClientDisconnect, and no more work, where the client leaves before."""

    async def departure() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.ensure_future(departure())
    try:
        either: set[asyncio.Future[Any]] = {work, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        gone.cancel()
        work.cancel()


def _encoded(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _usage(asked: Asked) -> dict[str, int]:
    """Tokens that are computed, special ones counted; and those left out, where there are any."""
    tokens = sum(asked.costs)
    cut = {"truncated_tokens": asked.truncated} if asked.truncated else {}
    return {"prompt_tokens": tokens, "total_tokens": tokens} | cut


# --- Errors: all in the form of OpenAI's API


def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(as_json(message, error.status_code), error.status_code, error.headers)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    shown = as_json(str(error), error.status, param=error.param, code=error.code)
    return JSONResponse(shown, error.status, error.headers)


def _full(request: Request, error: Exception) -> Response:
    assert isinstance(error, QueueFullError)
    shown = as_json("too much is waiting to be computed; come again later", 503, code="overloaded")
    return JSONResponse(shown, 503, {"Retry-After": str(error.seconds)})


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=_GONE)


def _fault(request: Request, error: Exception) -> Response:
    """What is wrong with texts, or with what is asked of the model, is the client's; with vectors, the model's."""
    status = 500 if isinstance(error, EmbeddingError) else 400
    return JSONResponse(as_json(str(error), status), status)


def _defect(request: Request, error: Exception) -> Response:
    """The server goes on; what it was is on its stderr."""
    return JSONResponse(as_json("a defect of the server; its log has it", 500), 500)
