"""`albert` as a program of its own that starts in a moment: forked off a process that has the libraries imported.

For tests that kill a program or look at its terminal, and ask nothing of its start. It imports our own modules itself.
Its pictures are only begun, as with the fixture `undrawn`.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRELOADED = (
    *("torch", "torch._dynamo", "accelerate", "safetensors.torch", "sentencepiece"),
    *("pyarrow.parquet", "pyarrow.dataset", "matplotlib.figure", "matplotlib.backends.backend_agg", "google_crc32c"),
    *("typer.main", "pydantic", "google.protobuf.text_format", "sentencepiece.sentencepiece_model_pb2", "ml_dtypes"),
)
# Of the environment, what the libraries look at when they are imported.
FIXED = {"OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TORCH_CPP_LOG_LEVEL": "FATAL"}


class Program:
    """A program that runs: `albert` with arguments, or any code; as `subprocess.Popen`, as far as it is needed.

    Its streams are those given (files or their numbers), or else files in memory whose text `said` gives; but those
    whose numbers are in `closed` are closed when it begins. `preload`: libraries that it has imported as well.
    """

    def __init__(
        self,
        *arguments,
        code=None,
        cwd=None,
        env=None,
        stdin=None,
        stdout=None,
        stderr=None,
        session=False,
        closed=(),
        preload=(),
    ):
        self._said = [os.memfd_create("said") for given in (stdout, stderr) if given is None]
        for file in self._said:
            weakref.finalize(self, os.close, file)
        with contextlib.ExitStack() as stack:
            streams = [stdin if stdin is not None else stack.enter_context(open(os.devnull))]
            said = iter(self._said)
            streams += [next(said) if given is None else given for given in (stdout, stderr)]
            job = {
                "arguments": list(map(str, arguments)),
                "code": code,
                "cwd": str(cwd or Path.cwd()),
                "environment": dict(os.environ if env is None else env),
                "session": session,
                "closed": list(closed),
            }
            self._server = _Server.of(preload)
            self.pid = self._server.start(job, [one if isinstance(one, int) else one.fileno() for one in streams])

    def poll(self):
        """The exit code, or None while it runs; negative for a signal."""
        return self._server.code(self.pid, wait=False)

    def wait(self, seconds=300):
        return self._server.code(self.pid, wait=True, seconds=seconds)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def said(self):
        """What it wrote to the streams that were not given, as one text."""
        return "".join(os.pread(file, os.fstat(file).st_size, 0).decode() for file in self._said)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()
        self.wait()


class _Server:
    """The process that has the libraries imported, and those to `preload`; for each such choice one until the end."""

    _running = {}  # noqa: RUF012

    @classmethod
    def of(cls, preload=()):
        if preload not in cls._running:
            cls._running[preload] = cls(preload)
        return cls._running[preload]

    def __init__(self, preload):
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *preload],
                env=os.environ | FIXED | {"PYTHONPATH": str(ROOT)},
                pass_fds=[theirs.fileno()],
            )
        self._codes = {}
        atexit.register(self._close)

    def _close(self):
        self._ours.close()
        self._process.wait()

    def start(self, job, streams):
        socket.send_fds(self._ours, [json.dumps(job).encode()], streams)
        while "pid" not in (answer := self._answer()):
            pass
        return answer["pid"]

    def code(self, pid, *, wait, seconds=300):
        end = time.monotonic() + seconds
        while pid not in self._codes:
            self._ours.settimeout(max(end - time.monotonic(), 0.001) if wait else 0.0)
            try:
                self._answer()
            except BlockingIOError:
                return None
            except TimeoutError:
                raise subprocess.TimeoutExpired("albert", seconds) from None
            finally:
                self._ours.settimeout(None)
        return self._codes[pid]

    def _answer(self):
        data = self._ours.recv(65536)
        if not data:
            raise RuntimeError("the process that starts programs has ended")
        answer = json.loads(data)
        if "code" in answer:
            self._codes[answer["of"]] = answer["code"]
        return answer


def serve(number, *preload):
    for name in (*PRELOADED, *preload):
        importlib.import_module(name)
    figure = sys.modules["matplotlib.figure"].Figure
    figure.savefig = lambda self, target, **options: Path(target).write_bytes(b"not drawn")
    gc.freeze()
    ours = socket.socket(fileno=number)
    with selectors.DefaultSelector() as waiting:
        waiting.register(ours, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is not ours:
                    waiting.unregister(key.fd)
                    os.close(key.fd)
                    _, status = os.waitpid(key.data, 0)
                    ours.send(json.dumps({"of": key.data, "code": os.waitstatus_to_exitcode(status)}).encode())
                    continue
                data, streams, _, _ = socket.recv_fds(ours, 2**20, 3)
                if not data:
                    return None
                pid = os.fork()
                if pid == 0:
                    others = [entry.fd for entry in waiting.get_map().values()]
                    waiting.close()
                    for other in others:
                        os.close(other)
                    return json.loads(data), streams
                for stream in streams:
                    os.close(stream)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                ours.send(json.dumps({"pid": pid}).encode())


def run(job, streams):
    """What a program started with these streams would do, up to its exit code."""
    if job["session"]:
        os.setsid()
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    lines = 1 if os.isatty(1) else -1
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False, buffering=lines)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115
    for number in job["closed"]:  # as Python finds them
        os.close(number)
        name = ("stdin", "stdout", "stderr")[number]
        setattr(sys, name, None)
        setattr(sys, f"__{name}__", None)
    sys.argv = ["albert", *job["arguments"]]
    try:
        if job["code"] is not None:
            exec(compile(job["code"], "<string>", "exec"), {"__name__": "__main__"})
        else:
            from albert_cli.__main__ import run as start

            start()
    except SystemExit as stop:
        return stop.code or 0
    return 0


def end(code):
    """As Python ends, but that it would take thousands of modules apart."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    given = serve(int(sys.argv[1]), *sys.argv[2:])
    if given is not None:
        end(run(*given))
