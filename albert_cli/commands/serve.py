"""albert serve: a model behind HTTP, for clients of OpenAI's API."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

import typer

from albert_cli import console, options, vector_options
from converters.libraries import require_library

app = typer.Typer()

_MIB = 2**20


@app.command()
def serve(
    model: options.ModelName = None,
    host: Annotated[
        str,
        typer.Option("--host", metavar="HOST", help="The address to listen at; 0.0.0.0 is all that this machine has."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="The port to listen at; 0: any free one.")
    ] = 8080,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="What clients call the model; by default its name, of a path the last part."
        ),
    ] = None,
    pooling: vector_options.Pooling = None,
    layer: vector_options.Layer = None,
    normalize: vector_options.Normalize = None,
    dims: vector_options.Dims = None,
    prompt: vector_options.Prompt = None,
    max_length: options.MaxLength = None,
    cased: options.Cased = None,
    on_truncate: vector_options.OnTruncate = "warn",
    max_texts: Annotated[
        int, typer.Option("--max-texts", min=1, metavar="N", help="Texts of one request at most; more are refused.")
    ] = 2048,
    max_body: Annotated[
        int, typer.Option("--max-body", min=1, max=1024, metavar="MIB", help="Mebibytes of one request at most.")
    ] = 8,
    max_queue: Annotated[
        int,
        typer.Option(
            "--max-queue", min=1, metavar="N", help="Texts that may wait; clients beyond are told to come again (503)."
        ),
    ] = 8192,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.VectorPrecision = "auto",
    batch_tokens: options.BatchTokens = None,
    json: options.Json = False,
) -> None:
    """Serve a model over HTTP: vectors for clients of OpenAI's API, masked words, and the classes of a fine-tuned one.

    `POST /v1/embeddings` takes `input` (a text, a list, or token ids), `dimensions`, `encoding_format` (`float` or
    `base64`) and `model`, and gives the vectors of `albert embed`. `POST /fill-mask` takes `input`, `top` and
    `targets`; `POST /classify` takes `input`, texts or pairs, and answers as `albert predict --json`. `GET /v1/models`
    and `GET /health` say what is there. Errors have the form of OpenAI's API.

    What waits while a batch is computed makes the next batch, in which every request has a like share. Only this
    machine is heard unless --host says otherwise, and there are no passwords. Ctrl-C or SIGTERM ends it when what was
    asked is answered. Needs `pip install '.[serve]'`.

    Examples:

        albert serve --model all-MiniLM-L6-v2/ --port 8080

        albert serve --model runs/sst2 --name reviews

        curl http://127.0.0.1:8080/v1/embeddings \\
            -d '{"input": ["A text.", "Another."]}'
    """
    for library in ("starlette", "uvicorn"):
        require_library(library, "albert serve")
    from albert_cli.machine import find_device
    from albert_cli.serving import server
    from albert_cli.serving.app import Application, Limits
    from albert_cli.serving.model import Served
    from albert_cli.tokenization.preparation import encodable

    with server.open_socket(host, port) as bound:
        settings = vector_options.settings_of(
            layer, cased, pooling=pooling, normalize=normalize, dims=dims, max_length=max_length,
            on_truncate=on_truncate, prompt=prompt,
        )  # fmt: skip
        computing = {"precision": precision, "batch_tokens": batch_tokens, "threads": threads}
        plan = vector_options.plan_of(model, settings, find_device(device), **computing)
        found = plan.model
        own = found.name if found.revision else PurePath(found.name).name or found.path.absolute().name
        called = name or encodable(own)
        served = Served(plan, model, called, device=device, batch_tokens=batch_tokens)
        application = Application(served, Limits(max_texts, max_body * _MIB, max_queue))
        server.listen(bound)
        address, private = server.url_of(bound), server.is_private(bound)
        facts = {"model": called, "url": address, "dims": served.dims, "pooling": plan.settings.pooling}
        if json:
            console.print_json(facts | {"only_this_machine": private})
        else:
            reach = "heard by this machine alone" if private else "anyone who reaches this machine may use it"
            console.print_table(
                [
                    ("serving", f"{called}: vectors of {served.dims} numbers, pooling {plan.settings.pooling}"),
                    ("at", f"{address}/v1, {reach}"),
                    ("stop", "Ctrl-C"),
                ]
            )
        server.run(application, bound)
