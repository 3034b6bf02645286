"""`albert serve`: a real server process, asked by OpenAI's own client and by clients that mean harm."""

import base64
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import missing
import numpy as np
import pytest
import tuning
from every_command import invoked
from programs import Program

from albert_cli.errors import HeadError
from albert_cli.serving.worker import QueueFullError, Worker
from albert_cli.tokenization.tokenizer import Tokenizer

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

TEXTS = ["a good film", "", "x", "a bad film, a long one? 9 of 10!", "é, Ünïcode and\ttabs\nlines", "word " * 60]
# As `albert embed` says of its own: but for rounding.
NEAR = 1e-5


def open_file():
    return open(os.memfd_create("said"), "w+b")


class Server:
    """`albert serve` on a free port, ready to be asked."""

    def __init__(self, *arguments):
        self._out, self._err = open_file(), open_file()
        self._clients = []
        words = ["serve", "--port", 0, "--json", "--threads", 1, *arguments]
        self.program = Program(*words, stdout=self._out, stderr=self._err)
        until = time.monotonic() + 300
        while not (said := os.pread(self._out.fileno(), 2**16, 0)).endswith(b"}\n"):
            assert self.program.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.02)
        self.facts = json.loads(said)
        self.url = self.facts["url"]

    def said(self):
        return os.pread(self._err.fileno(), 2**20, 0).decode()

    def ask(self, path, body=None, headers=(), method=None):
        """Status, decoded JSON and headers of an answer; a body that is no bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, dict(headers), method=method)
        try:
            with urllib.request.urlopen(asked, timeout=300) as answer:
                return answer.status, json.loads(answer.read()), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read()), error.headers

    def client(self):
        openai = pytest.importorskip("openai", reason="OpenAI's client is not installed")
        self._clients.append(openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=300))
        return self._clients[-1]

    def connect(self):
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=300)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for client in self._clients:
            client.close()
        self.program.__exit__(*exception)
        self._out.close()
        self._err.close()


@pytest.fixture(scope="module")
def server(letter_model):
    with Server("--model", letter_model, "--max-texts", 3000, "--max-body", 1) as running:
        yield running


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A fine-tuned model, which has no masked-word head."""
    folder = tmp_path_factory.mktemp("run")
    tuning.write_model(folder / "model")
    train = tuning.write_csv(folder / "train.csv", tuning.reviews(12))
    made = invoked("finetune", "csv", "--train", train, "--dev", train, "--model", folder / "model", "--steps", 1,
                   "--max-length", 16, "--out", folder / "run")  # fmt: skip
    assert made.exit_code == 0, made.output
    return folder / "run"


@pytest.fixture(scope="module")
def run_server(run):
    with Server("--model", run, "--name", "reviews", "--pooling", "cls", "--normalize", "--max-queue", 1) as running:
        yield running


def embedded(folder, texts, *options):
    """The vectors of `albert embed`, and how many tokens each text has."""
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found = invoked("embed", "--in", folder / "texts.jsonl", "--out", folder / "v.jsonl", "--force", *options)
    assert found.exit_code == 0, found.output
    rows = [json.loads(line) for line in (folder / "v.jsonl").read_text().splitlines()]
    return np.array([row["embedding"] for row in rows], np.float32), sum(row["n_tokens"] for row in rows)


def vectors_of(answer):
    return np.array([item.embedding for item in answer.data], np.float32)


def test_openais_client_gets_the_vectors_of_embed(server, letter_model, tmp_path):
    wanted, tokens = embedded(tmp_path, TEXTS, "--model", letter_model)
    client = server.client()
    found = client.embeddings.create(model="hf", input=TEXTS)  # the client asks for base64
    assert np.abs(vectors_of(found) - wanted).max() <= NEAR
    assert [item.index for item in found.data] == list(range(len(TEXTS)))
    assert (found.object, found.model) == ("list", "hf")
    assert (found.usage.prompt_tokens, found.usage.total_tokens) == (tokens, tokens)
    assert found.usage.model_extra == {"truncated_tokens": 4 * 60 - 62}  # 60 words of four letters
    as_floats = client.embeddings.create(model="hf", input=TEXTS, encoding_format="float")
    np.testing.assert_array_equal(vectors_of(as_floats), vectors_of(found))
    one = client.embeddings.create(model="hf", input=TEXTS[3], user="somebody")
    assert np.abs(vectors_of(one) - wanted[3:4]).max() <= NEAR
    assert one.usage.model_extra == {}


def test_base64_is_little_endian_float32(server):
    _, found, _ = server.ask("/v1/embeddings", {"input": "a film", "encoding_format": "base64"})
    _, floats, _ = server.ask("/v1/embeddings", {"input": "a film"})
    decoded = np.frombuffer(base64.b64decode(found["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(decoded, np.array(floats["data"][0]["embedding"], np.float32))


def test_token_ids_are_those_of_the_tokenizer_with_special_tokens_or_without(server, letter_model):
    tokenizer, client = Tokenizer.from_pretrained(letter_model), server.client()
    texts = [text for text in TEXTS if text]
    wanted = vectors_of(client.embeddings.create(model="hf", input=texts))
    for special in (True, False):
        rows = [tokenizer.encode(text, special_tokens=special).ids for text in texts]
        found = client.embeddings.create(model="hf", input=rows)
        assert np.abs(vectors_of(found) - wanted).max() <= NEAR
        assert found.usage.model_extra == {"truncated_tokens": 4 * 60 - 62}
        one = client.embeddings.create(model="hf", input=rows[0])
        assert np.abs(vectors_of(one) - wanted[:1]).max() <= NEAR


def test_dimensions_are_those_of_embed(run_server, run, tmp_path):
    options = ["--model", run, "--pooling", "cls", "--normalize", "--dims", 5]
    wanted, _ = embedded(tmp_path, TEXTS[:4], *options)
    found = run_server.client().embeddings.create(model="reviews", input=TEXTS[:4], dimensions=5)
    assert np.abs(vectors_of(found) - wanted).max() <= NEAR
    np.testing.assert_allclose(np.linalg.norm(vectors_of(found), axis=1), 1, atol=NEAR)
    status, answer, _ = run_server.ask("/v1/embeddings", {"input": "a", "dimensions": 17})
    assert (status, answer["error"]["param"]) == (400, "dimensions")
    assert answer["error"]["message"] == "dimensions is 17; the vectors of reviews have 16 numbers"


def test_windows_are_those_of_embed(letter_model, tmp_path):
    options = ["--model", letter_model, "--on-truncate", "window", "--max-length", 20]
    wanted, tokens = embedded(tmp_path, TEXTS, *options)
    tokenizer = Tokenizer.from_pretrained(letter_model)
    with Server(*options) as running:
        client = running.client()
        found = client.embeddings.create(model="hf", input=TEXTS)
        rows = [tokenizer.encode(text).ids for text in TEXTS]
        of_ids = client.embeddings.create(model="hf", input=rows)
    assert np.abs(vectors_of(found) - wanted).max() <= NEAR
    assert np.abs(vectors_of(of_ids) - wanted).max() <= NEAR
    assert (found.usage.prompt_tokens, of_ids.usage.prompt_tokens) == (tokens, tokens)


def test_a_text_that_is_too_long_is_refused_where_it_is_to_be(letter_model):
    with Server("--model", letter_model, "--on-truncate", "error") as running:
        status, answer, _ = running.ask("/v1/embeddings", {"input": ["a", "word " * 60]})
        assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
        assert answer["error"]["message"] == (
            "input[1] longer than the 64 tokens that a text may have, special ones counted"
        )
        status, answer, _ = running.ask("/fill-mask", {"input": ["a [MASK]", "[MASK] word " * 60]})
        assert status == 400
        assert answer["error"]["message"].startswith("input[1] has ")


def test_many_clients_at_once_each_get_their_own(server, letter_model, tmp_path):
    texts = [f"{'word ' * (number % 9)}{number}" for number in range(96)]
    wanted, _ = embedded(tmp_path, texts, "--model", letter_model)
    client = server.client()

    def ask(row):
        part = texts[row : row + 1 + row % 3]
        return row, vectors_of(client.embeddings.create(model="hf", input=part))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for row, found in pool.map(ask, range(96)):
            assert np.abs(found - wanted[row : row + 1 + row % 3]).max() <= NEAR, row


def test_bodies_count_until_they_are_answered(letter_model):
    """16 bodies of the largest size may be held: while the server is busy, more clients are told to come again."""
    padded = b'{"input": "a"}' + b" " * (2**20 - 99)
    with Server("--model", letter_model, "--max-body", 1) as running, concurrent.futures.ThreadPoolExecutor(32) as pool:
        busy = pool.submit(running.ask, "/v1/embeddings", {"input": ["word " * 30] * 2000})
        statuses = list(pool.map(lambda _: running.ask("/v1/embeddings", padded)[0], range(24)))
        assert (busy.result()[0], set(statuses)) == (200, {200, 503})
        assert running.ask("/v1/embeddings", padded)[0] == 200
        assert running.said() == ""


def test_what_is_there(server, run_server, letter_model):
    client = run_server.client()
    assert [model.id for model in client.models.list()] == ["reviews"]
    assert client.models.retrieve("reviews").owned_by == "albert"
    assert server.ask("/health")[1] == {"status": "ok", "model": "hf", "waiting": 0}
    assert server.facts == {
        "model": "hf", "url": server.url, "dims": 16, "pooling": "mean", "only_this_machine": True,
    }  # fmt: skip
    assert server.url.startswith("http://127.0.0.1:")
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.NotFoundError, match="the model 'gpt' is not served here; name 'reviews'"):
        client.models.retrieve("gpt")
    with pytest.raises(openai.NotFoundError) as error:
        client.embeddings.create(model="gpt", input="a")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_fill_mask_and_classify_answer_as_the_commands(server, run_server, letter_model, run):
    texts = ["a good [MASK]", "<mask> of [MASK]s"]
    status, found, _ = server.ask("/fill-mask", {"input": texts, "top": 3})
    assert status == 200
    wanted = json.loads(invoked("fill-mask", *texts, "--model", letter_model, "--top", 3, "--json").stdout)
    assert without_rounding(found["data"]) == without_rounding(
        [{"index": row} | item for row, item in enumerate(wanted)]
    )
    _, found, _ = server.ask("/fill-mask", {"input": texts[0], "targets": ["a", "b"]})
    assert sorted(item["piece"] for item in found["data"][0]["masks"][0]) == ["▁a", "▁b"]
    films = ["a good film", "a bad film"]
    _, found, _ = run_server.ask("/classify", {"input": films, "model": "reviews"})
    for row, text in enumerate(films):
        wanted = json.loads(invoked("predict", run, text, "--json").stdout)
        assert without_rounding(found["data"][row]) == without_rounding({"index": row} | wanted)
    status, found, _ = run_server.ask("/classify", {"input": [["a film", "a story"]]})
    assert (status, "trained on single texts" in found["error"]["message"]) == (400, True)


def without_rounding(value):
    """The same with floats of five digits."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: without_rounding(item) for key, item in value.items()}
    return [without_rounding(item) for item in value] if isinstance(value, list) else value


def test_a_model_without_the_head_says_which_has_it(server, run_server, letter_model):
    status, found, _ = run_server.ask("/fill-mask", {"input": "a [MASK]"})
    assert status == 400
    assert found["error"]["message"].startswith(
        "reviews: has no masked-word head (MLM), so its weights would be random; take a model that has it, such as "
    )
    for _ in range(2):
        status, found, _ = server.ask("/classify", {"input": "a"})
        assert status == 400
        assert found["error"]["message"] == "hf: no run.toml and no fine-tuned head; make a run with albert finetune"


DEEP = b'{"input": ' + b"[" * 100_000
BAD = [
    ("/v1/embeddings", b"", 400, "the body is not JSON: "),
    ("/v1/embeddings", b"{", 400, "the body is not JSON: "),
    ("/v1/embeddings", b"\xff\xfe{", 400, "the body is not JSON: "),
    ("/v1/embeddings", DEEP, 400, "the body is not JSON: its lists or objects are nested too deep"),
    ("/v1/embeddings", b"9" * 5000, 400, "the body is not JSON: "),
    ("/v1/embeddings", b"[]", 400, "the body is [], not a JSON object"),
    ("/v1/embeddings", {}, 400, "input is missing"),
    ("/v1/embeddings", {"input": None}, 400, "input is missing"),
    ("/v1/embeddings", {"input": []}, 400, "input is [], not a text, a list of texts, or token ids"),
    ("/v1/embeddings", {"input": 7}, 400, "input is 7, not a text, a list of texts, or token ids"),
    ("/v1/embeddings", {"input": {"a": 1}}, 400, "input is {'a': 1}, not a text, a list of texts, or token ids"),
    ("/v1/embeddings", {"input": ["a", None]}, 400, "input[1] is None, not a text"),
    ("/v1/embeddings", {"input": ["a", [1]]}, 400, "input[1] is [1], not a text"),
    ("/v1/embeddings", {"input": [[1], "a"]}, 400, "input[1] is 'a', not a list of token ids"),
    ("/v1/embeddings", {"input": [[]]}, 400, "input[0] is [], not a list of token ids"),
    ("/v1/embeddings", {"input": [True]}, 400, "input[0] is True, not a text or a list of token ids"),
    ("/v1/embeddings", {"input": [1.5]}, 400, "input[0] is 1.5, not a text or a list of token ids"),
    ("/v1/embeddings", {"input": [[7, -1]]}, 400, "text 0 has the token id -1; the vocabulary has 0 to "),
    ("/v1/embeddings", {"input": [10**30]}, 400, f"text 0 has the token id {10**30}; the vocabulary has 0 to "),
    ("/v1/embeddings", {"input": "a", "dimensions": 0}, 400, "dimensions is 0, not at least 1"),
    ("/v1/embeddings", {"input": "a", "dimensions": "2"}, 400, "dimensions is '2', not a whole number"),
    ("/v1/embeddings", b'{"input": "a", "dimensions": NaN}', 400, "dimensions is nan, not a whole number"),
    ("/v1/embeddings", {"input": "a", "encoding_format": "hex"}, 400, "encoding_format is 'hex', not one of float, "),
    ("/v1/embeddings", {"input": "a", "modle": "b"}, 400, "unknown key 'modle'; the keys are model, input, "),
    ("/v1/embeddings", {"input": ["a"] * 3001}, 400, "input has 3,001 texts, more than the 3,000 of one request; "),
    ("/v1/embeddings", b" " * (2**20 + 1), 413, "the body has more than 1,048,576 bytes; send it in parts"),
    ("/fill-mask", {"input": "a"}, 400, "input[0] has no [MASK]; write [MASK] where a word is to be found"),
    ("/fill-mask", {"input": "[MASK]", "top": 10**9}, 400, "top is 1000000000, not from 1 to 1000"),
    ("/fill-mask", {"input": "[MASK]", "targets": ["no"]}, 400, "'no' is 2 pieces"),
    ("/fill-mask", {"input": "[MASK]", "targets": ["a"] * 1001}, 400, "targets has 1,001 words, more than the 1,000 "),
    ("/fill-mask", {"input": "[MASK]" + "a " * 99_999, "top": 1000}, 400, "1,000 candidates for each mask, each with "),
    (
        "/fill-mask",
        {"input": ["[MASK]" * 9] * 999, "top": 100},
        400,
        "100 candidates for each mask, each with its text ",
    ),
    ("/fill-mask", {"input": [1]}, 400, "input[0] is 1, not a text"),
    ("/classify", {"input": [["a", "b", "c"]]}, 400, "input[0] is ['a', 'b', 'c'], not a text or a pair of texts"),
    ("/v1/nothing", {"input": "a"}, 404, "POST /v1/nothing: Not Found"),
    ("/fill-mask", None, 405, "GET /fill-mask: Method Not Allowed"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_request_is_refused_in_openais_form(server, path, body, status, message):
    found, answer, _ = server.ask(path, body)
    assert found == status
    error = answer["error"]
    assert error["message"].startswith(message)
    assert (error["type"], sorted(error)) == ("invalid_request_error", ["code", "message", "param", "type"])
    assert len(error["message"]) < 500


def test_after_all_of_these_it_still_works_and_has_said_nothing(server):
    status, answer, _ = server.ask("/v1/embeddings", b'{"input": ["\\ud800 half", "\\u0000"]}')
    assert (status, len(answer["data"])) == (200, 2)
    assert server.said() == ""


def test_a_body_without_a_length_is_held_to_the_limit_too(server):
    with server.connect() as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):  # it hangs up on what it will not read
            for _ in range(40):
                connection.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_sends_all_before_it_reads_has_its_answer_too(server):
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {3 * 2**19}\r\n"
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14)
        connection.sendall(head.encode() + b"\r\n" + b" " * 3 * 2**19)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    with server.connect() as connection:  # one that asks first need send nothing
        connection.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_no_http_is_refused(server):
    with server.connect() as connection:
        connection.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert server.said() == ""


def test_a_client_that_leaves_does_not_hold_up_the_others(server):
    body = json.dumps({"input": ["word " * 30] * 3000}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for sent in (head + body, head + body[:1000], head[:20]):
        for _ in range(4):
            with server.connect() as connection:
                connection.sendall(sent)
    assert server.ask("/v1/embeddings", {"input": "a"})[0] == 200
    until = time.monotonic() + 60
    while server.ask("/health")[1]["waiting"]:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_where_too_much_waits_clients_are_told_to_come_again(run_server):
    """The server lets one text wait beside those of one request."""

    def ask(_):
        return run_server.ask("/v1/embeddings", {"input": ["a good film of the story"] * 2000})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 503}
    for status, answer, headers in answers:
        if status == 503:
            assert int(headers["Retry-After"]) >= 1
            assert answer["error"]["type"] == "server_error"
            assert answer["error"]["message"] == "too much is waiting to be computed; come again later"
        else:
            assert len(answer["data"]) == 2000


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_when_what_was_asked_is_answered(letter_model, number, code):
    with Server("--model", letter_model) as running:
        asked = {"input": ["word " * 30] * 2000}
        running.ask("/v1/embeddings", {"input": "a"})
        with running.connect(), concurrent.futures.ThreadPoolExecutor(1) as pool:  # one connection is idle
            answer = pool.submit(running.ask, "/v1/embeddings", asked)
            until = time.monotonic() + 60
            while not running.ask("/health")[1]["waiting"]:
                assert time.monotonic() < until
            running.program.send_signal(number)
            status, found, _ = answer.result()
        assert (status, len(found["data"])) == (200, 2000)
        assert running.program.wait() == code
        assert running.said() == "albert: interrupted; 2 requests were answered\n"
        with pytest.raises(OSError, match="refused"):
            running.connect()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs the limits of Linux")
def test_more_clients_than_files_may_be_open_wait_and_it_says_so_once(letter_model):
    import resource

    with Server("--model", letter_model) as running, contextlib.ExitStack() as idle:
        running.ask("/v1/embeddings", {"input": "a"})
        resource.prlimit(running.program.pid, resource.RLIMIT_NOFILE, (40, 40))
        first = idle.enter_context(running.connect())
        others = idle.enter_context(contextlib.ExitStack())
        for _ in range(60):
            others.enter_context(running.connect())
        line = "albert: Too many open files: new clients wait until others leave; raise what ulimit -n says\n"
        until = time.monotonic() + 60
        while not running.said():
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(2.5)  # further tries
        first.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.recv(4096).startswith(b"HTTP/1.1 200 ")
        with running.connect() as late:
            late.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            others.close()
            assert late.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert running.said() == line
        for _ in range(60):
            idle.enter_context(running.connect())
        time.sleep(1)
        running.program.send_signal(signal.SIGTERM)
        assert running.program.wait() == 143
        assert running.said() == line + "albert: interrupted; 1 requests were answered\n"


@pytest.mark.parametrize("signals", [1, pytest.param(2, id="again")])
def test_what_does_not_come_to_an_end_is_given_up(letter_model, signals):
    """A body that was begun; after a second Ctrl-C nothing more is waited for."""
    with Server("--model", letter_model) as running, running.connect() as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        running.ask("/v1/embeddings", {"input": "a"})
        for _ in range(signals):
            running.program.send_signal(signal.SIGINT)
            time.sleep(1)
        parts: list[bytes] = []
        with contextlib.suppress(ConnectionResetError):
            parts.extend(iter(lambda: connection.recv(4096), b""))
        assert running.program.wait() == 130
        assert running.said() == "albert: interrupted; 1 requests were answered, 1 given up\n"
    if signals == 1:
        said = b"".join(parts)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"the server is stopping; ask again later" in said


def test_an_address_that_cannot_be_had_is_refused_before_a_model_is_loaded(refused, server):
    port = server.url.rpartition(":")[2]
    assert refused("serve", "--model", "none", "--port", port) == (
        f"127.0.0.1:{port}: Address already in use; choose another with --port or --host"
    )
    assert refused("serve", "--model", "none", "--host", "a" * 64).startswith(f"--host {'a' * 64}: no address of this")


def test_who_can_reach_it_is_said(letter_model):
    for host, said in (("127.0.0.1", "this machine alone"), ("0.0.0.0", "anyone who reaches this machine may use it")):
        with (
            open_file() as out,
            Program("serve", "--model", letter_model, "--port", 0, "--host", host, stdout=out) as program,
        ):
            until = time.monotonic() + 300
            while not (text := os.pread(out.fileno(), 4096, 0).decode()).endswith("Ctrl-C\n"):
                assert program.poll() is None, program.said()
                assert time.monotonic() < until
                time.sleep(0.02)
        assert re.search(rf"http://{host}:\d+/v1, .*{said}", text), text
        assert "serving  hf: vectors of 16 numbers, pooling mean" in text


@pytest.mark.parametrize("library", ["starlette", "uvicorn"])
def test_without_its_libraries_it_says_what_to_install(library):
    with contextlib.closing(missing.Server(bare=True)) as bare:
        code, said = bare.run(library, ["serve", "--model", "built-in"])
    needed = f"albert serve needs the library '{library}', which is not installed: pip install 'starlette' 'uvicorn'"
    assert (code, said) == (1, f"albert: {needed}\n")


class Recorder:
    """A kind of work that notes its batches, and can be held up."""

    def __init__(self):
        self.batches = []
        self.free = threading.Event()

    def __call__(self, items):
        self.free.wait(60)
        self.batches.append(list(items))
        if "bad" in items:
            raise HeadError("bad is bad")
        return [f"{item}!" for item in items]


@pytest.fixture
def worker():
    made = Worker(budget=10, capacity=30)
    yield made
    made.close()


def held_up(worker, kind):
    """A worker that computes a first item until `kind.free` is set."""
    first = worker.submit(kind, ["first"], [1])
    while worker.waiting:
        time.sleep(0.001)
    return first


def test_what_waits_makes_one_batch_in_which_requests_have_like_shares(worker):
    kind = Recorder()
    held_up(worker, kind)
    large = worker.submit(kind, [f"l{number}" for number in range(12)], [1] * 12)
    small = [worker.submit(kind, [f"s{number}"], [1]) for number in range(3)]
    kind.free.set()
    assert large.result(60) == [f"l{number}!" for number in range(12)]
    assert [future.result(60) for future in small] == [["s0!"], ["s1!"], ["s2!"]]
    assert kind.batches[1] == [*(f"l{number}" for number in range(7)), "s0", "s1", "s2"]  # 10 tokens, all requests
    assert kind.batches[2] == [f"l{number}" for number in range(7, 12)]
    assert len(kind.batches) == 3


def test_an_item_above_the_budget_is_a_batch_of_its_own(worker):
    kind = Recorder()
    held_up(worker, kind)
    found = worker.submit(kind, ["a", "b", "c"], [50, 50, 3])
    kind.free.set()
    assert found.result(60) == ["a!", "b!", "c!"]
    assert kind.batches[1:] == [["a"], ["b"], ["c"]]


def test_a_request_with_a_fault_fails_alone(worker):
    kind = Recorder()
    held_up(worker, kind)
    good, bad, other = (worker.submit(kind, [name], [1]) for name in ("good", "bad", "other"))
    kind.free.set()
    assert (good.result(60), other.result(60)) == (["good!"], ["other!"])
    with pytest.raises(HeadError, match="bad is bad"):
        bad.result(60)


def test_kinds_of_work_do_not_mix(worker):
    one, two = Recorder(), Recorder()
    two.free.set()
    held_up(worker, one)
    futures = [worker.submit(kind, [name], [1]) for kind, name in ((one, "a"), (two, "b"), (one, "c"))]
    one.free.set()
    assert [future.result(60) for future in futures] == [["a!"], ["b!"], ["c!"]]
    assert (one.batches[1:], two.batches) == ([["a", "c"]], [["b"]])


def test_what_nobody_waits_for_is_not_computed(worker):
    kind = Recorder()
    held_up(worker, kind)
    given_up = worker.submit(kind, ["a"] * 20, [10] * 20)
    assert worker.waiting == 20
    assert given_up.cancel()
    assert worker.waiting == 0
    kind.free.set()
    assert worker.submit(kind, ["b"], [1]).result(60) == ["b!"]
    assert kind.batches[1:] == [["b"]]


def test_there_is_room_for_one_request_of_any_size_and_then_for_as_many_texts_as_may_wait(worker):
    kind = Recorder()
    held_up(worker, kind)
    worker.submit(kind, ["a"] * 40, [1] * 40)
    with pytest.raises(QueueFullError) as error:
        worker.submit(kind, ["b"], [1])
    assert error.value.seconds == 1
    kind.free.set()


def test_the_end_waits_for_the_batch_and_gives_up_the_rest():
    worker, kind = Worker(budget=10, capacity=30), Recorder()
    first, rest = held_up(worker, kind), worker.submit(kind, ["rest"], [1])
    threading.Timer(0.1, kind.free.set).start()
    worker.close()
    assert first.result(0) == ["first!"]
    assert rest.cancelled()
    assert kind.batches == [["first"]]


def test_the_page_on_the_server_shows_what_it_answers(server):
    """The README's lines for clients run as they stand, but for the address."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    code = next(part for part in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "import OpenAI" in part)
    pytest.importorskip("openai", reason="OpenAI's client is not installed")
    code = code.replace("http://127.0.0.1:8080", server.url).replace('"all-MiniLM-L6-v2"', '"hf"')
    found = {}
    exec(code, found)
    found["client"].close()
    assert len(found["vectors"]) == 2
    assert len(found["vectors"][0]) == 16
