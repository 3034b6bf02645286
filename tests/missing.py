"""Runs `albert` commands as on a machine that lacks a library, or has a broken one; a process for each, by a fork.

Reads a job as a JSON line: [library, "missing" or "broken", arguments], of several libraries with commas between them;
answers [exit code, what was said on stderr].
The process that forks has the large libraries imported; the one for a job forgets the library, and all that is built on
it, so that both are imported again where they are used. Without these libraries ("bare") it does jobs of a third kind:
"noted", of which the last line on stderr names every library that was looked for.
"""

import importlib
import importlib.machinery
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRELOADED = ("torch", "pyarrow.parquet", "matplotlib.figure", "accelerate")
# Of the libraries above, those that are built on another one.
BUILT_ON = {
    "PIL": ("matplotlib",),
    "huggingface_hub": ("accelerate",),
    "numpy": ("accelerate", "matplotlib", "pyarrow", "safetensors", "torch"),
    "safetensors": ("accelerate",),
    "torch": ("accelerate", "safetensors"),
}
OURS = ("albert_cli", "converters")


class Server:
    """The test's side of it."""

    def __init__(self, *, bare=False):
        self.process = subprocess.Popen(
            [sys.executable, __file__, *(["bare"] if bare else [])],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, library, arguments, how="missing"):
        """Exit code and standard error of a command without a library."""
        print(json.dumps([library, how, list(map(str, arguments))]), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


def serve(*, bare):
    for name in () if bare else PRELOADED:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        library, how, arguments = json.loads(line)
        with tempfile.TemporaryFile() as said:
            pid = os.fork()
            if pid == 0:
                sys.stdin = open(os.devnull)  # noqa: SIM115
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(said.fileno(), 2)
                os._exit(run(library, how, arguments))
            _, status = os.waitpid(pid, 0)
            said.seek(0)
            answer = [os.waitstatus_to_exitcode(status), said.read().decode()]
        print(json.dumps(answer), file=answers, flush=True)


def run(library, how, arguments):
    libraries = (library or "").split(",")
    gone = {*libraries, *OURS, *(name for one in libraries for name in BUILT_ON.get(one, ()))}
    for name in [name for name in sys.modules if name.partition(".")[0] in gone]:
        del sys.modules[name]
    (finder,) = [item for item in sys.meta_path if item is importlib.machinery.PathFinder]
    kind = {"missing": Missing, "broken": Broken, "noted": Noting}[how]
    sys.meta_path[sys.meta_path.index(finder)] = noted = kind(libraries)
    sys.argv = ["albert", *arguments]
    try:
        from albert_cli.main import main

        main()
    except SystemExit as stop:
        return stop.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 70
    finally:
        sys.stderr.flush()
        if how == "noted":
            os.write(2, f"\n{' '.join(noted.names)}\n".encode())
    return 0


class Missing:
    """Finds what Python finds, but for some libraries."""

    find_distributions = staticmethod(importlib.machinery.PathFinder.find_distributions)
    invalidate_caches = staticmethod(importlib.machinery.PathFinder.invalidate_caches)

    def __init__(self, libraries):
        self.libraries = libraries

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.libraries:
            return None
        return importlib.machinery.PathFinder.find_spec(name, path, target)


class Broken(Missing):
    """Finds everything, but of one library a part cannot be loaded."""

    def find_spec(self, name, path=None, target=None):
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        if found is not None and name in self.libraries:
            found.loader = self
        return found

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        said = "libparts.so.1: cannot open shared object file: No such file or directory"
        exec(f"raise ImportError({said!r})", module.__dict__)  # by the library itself


class Noting(Missing):
    """Finds what Python finds, and notes of what."""

    def __init__(self, library):
        super().__init__(library)
        self.names = set()

    def find_spec(self, name, path=None, target=None):
        self.names.add(name.partition(".")[0])
        return importlib.machinery.PathFinder.find_spec(name, path, target)


if __name__ == "__main__":
    serve(bare=sys.argv[1:] == ["bare"])
