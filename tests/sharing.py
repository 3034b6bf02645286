"""Runs `albert` commands, each by two processes as torchrun starts them, from one that has the libraries imported.

Given a JSON list [[arguments, log] of each command, who is killed]; writes the exit codes of each as a JSON line.
"""

import json
import os
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path

from programs import Program


def shared(jobs, folder, *, killed=None):
    """Run commands one after the other; per command the exit codes and what each process said.

    `killed` (rank, file): that process of the last command is killed as soon as there is such a file.
    """
    given = [[list(map(str, words)), str(folder / f"{number}.log")] for number, words in enumerate(jobs)]
    jobs = json.dumps([given, killed and [killed[0], str(killed[1])]])
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import sharing; sharing.serve({jobs!r})"
    with Program(code=code) as process:
        assert process.wait() == 0, process.said()
    codes = [json.loads(line) for line in process.said().splitlines()]
    said = [[Path(f"{log}.{rank}").read_text() for rank in (0, 1)] for _, log in given]
    return list(zip(codes, said, strict=True))


def serve(given):
    import torch

    import albert_cli.pretraining.pretrain
    import albert_cli.training.session  # noqa: F401

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for accelerate, which warns
    jobs, killed = json.loads(given)
    for number, (words, log) in enumerate(jobs):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pids = [start(words, f"{log}.{rank}", rank, port) for rank in (0, 1)]
        if killed and number == len(jobs) - 1:
            threading.Thread(target=kill, args=(pids[killed[0]], Path(killed[1])), daemon=True).start()
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        sys.stdout.write(json.dumps(codes) + "\n")
        sys.stdout.flush()


def kill(pid, file):
    while not file.exists():
        threading.Event().wait(0.01)
    os.kill(pid, signal.SIGKILL)


def start(words, log, rank, port):
    pid = os.fork()
    if pid:
        return pid
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    sys.argv = ["albert", *words]
    code = 70
    try:
        from albert_cli.main import main

        main()
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
