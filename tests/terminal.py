"""The `albert` command in a pseudo-terminal, and what its screen shows."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte
from programs import Program

ROOT = Path(__file__).parents[1]


class Terminal:
    """A program in a terminal of so many columns; `raw` is all that it wrote, `lines` what one sees of that.

    `forked`: it has the large libraries imported when it starts, see `programs`.
    """

    def __init__(self, *arguments, columns=80, code=None, cwd=None, forked=False, **variables):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        program = ["-c", code] if code else ["-m", "albert_cli"]
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environment |= {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"} | variables
        self.raw, self.seen, self.columns = b"", [], columns
        self._pyte = pyte.Screen(columns, 600)
        self._stream = pyte.ByteStream(self._pyte)
        self._lines = []
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "env": environment, "cwd": cwd}
        if forked:
            self._process = Program(*arguments, code=code, session=True, **streams)
        else:
            words = [sys.executable, *program, *map(str, arguments)]
            self._process = subprocess.Popen(words, start_new_session=True, **streams)
        os.close(theirs)

    @property
    def lines(self):
        """The lines of the screen, without the empty ones at the end."""
        for row in self._pyte.dirty:
            self._lines += [""] * (row + 1 - len(self._lines))
            cells = self._pyte.buffer[row]
            self._lines[row] = "".join(cells[column].data for column in range(max(cells, default=-1) + 1)).rstrip()
        self._pyte.dirty.clear()
        while self._lines and not self._lines[-1]:
            self._lines.pop()
        return list(self._lines)

    def _read(self, patience):
        if not select.select([self._ours], [], [], patience)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other side is closed
            return False
        self.raw += data
        self._stream.feed(data)
        self.seen.append("\n".join(self.lines))
        return bool(data)

    def until(self, text, seconds=60):
        """Wait until the screen shows a text."""
        end = time.monotonic() + seconds
        while text not in "\n".join(self.lines):
            assert time.monotonic() < end, (text, self.lines)
            assert self._read(0.2), (text, self.lines)

    def send(self, number=signal.SIGINT):
        """Ctrl-C, or another signal."""
        os.kill(self._process.pid, number)

    def end(self, seconds=120):
        """Wait for the end; returns the exit code."""
        end = time.monotonic() + seconds
        while self._read(0.2):
            if time.monotonic() > end:
                self._process.kill()
                raise AssertionError(self.lines)
        code = self._process.wait()
        os.close(self._ours)
        return code

    def ever(self, text):
        """Whether the screen ever showed that."""
        return any(text in screen for screen in self.seen)
