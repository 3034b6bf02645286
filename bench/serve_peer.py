"""What one writes without a server made for it: Sentence-Transformers' encode() behind Starlette and uvicorn.

    python bench/serve_peer.py MODEL THREADS PORT      # for bench/serve.py

Requests are encoded one after another, each by itself, in a thread beside the one that speaks HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from concurrent.futures import ThreadPoolExecutor

import torch
import uvicorn
from sentence_transformers import SentenceTransformer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def main(path: str, threads: str, port: str) -> None:
    torch.set_num_threads(int(threads))
    model = SentenceTransformer(path, device="cpu")
    encoder = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(int(threads),))

    async def embeddings(request: Request) -> Response:
        asked = await request.json()
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(encoder, model.encode, asked["input"])
        rows = [base64.b64encode(row.tobytes()).decode() for row in vectors.astype("<f4")]
        data = [{"object": "embedding", "index": number, "embedding": row} for number, row in enumerate(rows)]
        return JSONResponse({"object": "list", "data": data, "model": asked["model"]})

    app = Starlette(routes=[Route("/v1/embeddings", embeddings, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error")


if __name__ == "__main__":
    main(*sys.argv[1:])
