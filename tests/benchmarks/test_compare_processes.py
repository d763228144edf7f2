"""Runs of a comparison in processes of their own: they end with the command, and a failure is raised."""

import subprocess
import sys
import time

import pytest

from benchmarks.compare.processes import in_a_process

LIMIT_S = 120


def stay(_table: str, _run: str) -> None:
    """Says that it runs, and does not end."""
    print("running", flush=True)  # noqa: T201
    time.sleep(10 * LIMIT_S)


def fail(_table: str, _run: str) -> None:
    raise ValueError("This run fails.")


def test_in_a_process__ends_when_the_command_is_killed():
    code = (
        "from benchmarks.compare.processes import in_a_process; "
        "from tests.benchmarks.test_compare_processes import stay; "
        "in_a_process(stay, 'a table', 'a run')"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout.readline() == "running\n"
        command.kill()
        # The run has the same output, which ends when both have ended.
        assert command.communicate(timeout=LIMIT_S) == ("", None)


def test_in_a_process__raises_when_the_run_fails():
    with pytest.raises(SystemExit, match="The run ended with 1: a run"):
        in_a_process(fail, "a table", "a run")
