"""A process that has everything imported and forks one conversion per line it reads, for tests to kill or confine.

Reads jobs as JSON lines; answers `{"pid"}`, then `{"done"}` or `{"error", "message"}` unless killed, then `{"status"}`.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOBODY = 65534
_SET_PTRACER = 0x59616D61  # prctl(2)


class Server:
    """The test's side of it."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == {"ready": True}

    def _answer(self):
        return json.loads(self.process.stdout.readline())

    def start(self, source, target, **job):
        """Start a conversion; its process id. Options: uid, fsize, start (a time), stop, those of conversion.convert.

        stop: it stops itself before it converts, so that a tracer can be attached, and waits for SIGCONT.
        """
        print(json.dumps({"source": str(source), "target": str(target), **job}), file=self.process.stdin, flush=True)
        return self._answer()["pid"]

    def finish(self):
        """What became of it: {"done"}, {"error", "message"} or {"status"} with a signal."""
        answer = self._answer()
        if "status" not in answer:
            assert "status" in self._answer()
        return answer

    def convert(self, source, target, **job):
        self.start(source, target, **job)
        return self.finish()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


def serve():
    import making

    from converters import convert as conversion

    # Whatever is imported late is imported now: an unprivileged child may not be able to read the libraries. But not
    # TensorFlow, which costs seconds.
    with tempfile.TemporaryDirectory() as folder:
        forms = [form for form in conversion.writable() if form not in making.BY_TENSORFLOW]
        for name, form in enumerate([*forms, forms[0]]):
            conversion.save(making.model(), f"{folder}/{name}", format=form)
            conversion.load(f"{folder}/{name}")
    say(ready=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            sys.stdin = None
            say(pid=os.getpid())  # said by the child, so that nothing it says later can come before it
            run(conversion, **json.loads(line))
        _, status = os.waitpid(pid, 0)
        say(status=os.waitstatus_to_exitcode(status))


def run(conversion, source, target, uid=None, fsize=None, start=None, stop=False, **options):
    from converters.errors import AlbertError

    if uid is not None and os.getuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if fsize is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fsize, fsize))
    if start is not None:
        time.sleep(max(0.0, start - time.time()))
    if stop:
        ctypes.CDLL(None).prctl(_SET_PTRACER, ctypes.c_ulong(-1))  # by any process of this user
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        conversion.convert(source, target, **options)
    except AlbertError as error:
        say(error=type(error).__name__, message=str(error))
        os._exit(1)
    say(done=True)
    os._exit(0)


def say(**answer):
    os.write(1, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve()
