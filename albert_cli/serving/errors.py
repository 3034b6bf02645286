"""What a request can do wrong, as OpenAI's API reports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converters.errors import AlbertError


class RequestError(AlbertError):
    """A request that is refused. `status`: of HTTP; `param`: the key of the body that is wrong, if one is."""

    def __init__(
        self,
        where: Path | str,
        detail: str | None = None,
        advice: str = "",
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(where, detail, advice)
        self.status, self.param, self.code, self.headers = status, param, code, headers


def as_json(message: str, status: int, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in the form of OpenAI's API, by which its clients know it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
