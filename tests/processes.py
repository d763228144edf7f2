"""Processes that train together, forked from a server that has imported the library once."""

import functools
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks import kills

CONFIGURATION = Path(__file__).parents[1] / "examples" / "accelerate" / "ddp.yaml"
TIMEOUT_S = 300
WRITE_ENVIRONMENT = """
import json, os, pathlib
pathlib.Path(__file__).with_name(os.environ["RANK"] + ".json").write_text(json.dumps(dict(os.environ)))
"""

# One server is enough for all tests, whichever of them starts it.
kills.processes.set_forkserver_preload([*kills.PRELOADED, "benchmarks.memory", "tests.training.runs_of_processes"])


def start_two(function: Callable[..., None], *arguments: Any, logs: Path) -> list[BaseProcess]:
    """Starts `function(rank, *arguments)` in two processes.

    Args:
        function: found by its name, so that it must be one of a module.
        logs: a folder. What process N prints goes to its files `stdout_N` and `stderr_N`.

    Each process has the environment that `accelerate launch` gives to it, and leads a process group of its own.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank, environment in enumerate(launched_environments()):
        run = (rank, environment | {"MASTER_PORT": port}, logs, function, *arguments)
        started.append(kills.processes.Process(target=_run, args=run))
        started[-1].start()
    return started


def run_two(function: Callable[..., None], *arguments: Any, logs: Path) -> None:
    """Runs `function(rank, *arguments)` in two processes, both of which must succeed. See `start_two`."""
    started = start_two(function, *arguments, logs=logs)
    for process in started:
        process.join(TIMEOUT_S)
        process.kill()
    assert [process.exitcode for process in started] == [0, 0], [
        (logs / f"stderr_{rank}").read_text()[-4000:] for rank in range(2)
    ]


@functools.cache
def launched_environments() -> list[dict[str, str]]:
    """What a real `accelerate launch` adds to the environment of each of two processes."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATION)]
    command += ["--num_processes", "2", "--main_process_port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(WRITE_ENVIRONMENT)
        done = subprocess.run([*command, str(script)], capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stderr[-4000:]
        written = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(2)]
    # torch's agent and the store that it keeps have ended with the launch.
    return [
        {name: value for name, value in each.items() if name not in os.environ and "TORCHELASTIC" not in name}
        for each in written
    ]


def _run(rank: int, environment: dict[str, str], logs: Path, function: Callable[..., None], *arguments: Any) -> None:
    os.setpgid(0, 0)
    os.environ |= environment
    gc.freeze()  # or each run of the Trainer begins with a collection among all that has been imported
    for stream in (sys.stdout, sys.stderr):
        with (logs / f"{stream.name.strip('<>')}_{rank}").open("w") as file:
            os.dup2(file.fileno(), stream.fileno())
    function(rank, *arguments)
