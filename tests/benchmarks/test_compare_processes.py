"""Runs of a comparison in processes of their own: they end with the command, and a failure is raised."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.compare.processes import in_a_process

LIMIT_S = 120


def write_pid_and_wait(path: Path, seconds: float) -> None:
    """Writes this process's number into a file, and stays."""
    path.with_suffix(".part").write_text(str(os.getpid()))
    path.with_suffix(".part").rename(path)
    time.sleep(seconds)


def fail(_table: str, _run: str) -> None:
    raise ValueError("This run fails.")


def wait_for(condition) -> bool:
    until = time.monotonic() + LIMIT_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks for a process in /proc")
def test_in_a_process__ends_when_the_command_is_killed(tmp_path):
    pid_file = tmp_path / "pid"
    code = (
        "from pathlib import Path; from benchmarks.compare.processes import in_a_process; "
        "from tests.benchmarks.test_compare_processes import write_pid_and_wait; "
        f"in_a_process(write_pid_and_wait, Path({str(pid_file)!r}), {10 * LIMIT_S})"
    )
    command = subprocess.Popen([sys.executable, "-c", code])
    try:
        assert wait_for(pid_file.is_file)
        child = int(pid_file.read_text())
        assert is_alive(child)
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait()
    assert wait_for(lambda: not is_alive(child))


def test_in_a_process__raises_when_the_run_fails():
    with pytest.raises(SystemExit, match="The run ended with 1: a run"):
        in_a_process(fail, "a table", "a run")
