"""How many processes prepare rows before the first step."""

import os

from ..arguments import DataArguments

_FEWEST = 1000  # rows per process: with fewer, starting a process takes longer than it saves


def processes_for(rows: int, args: DataArguments) -> int | None:
    """`num_proc` of `Dataset.map`: --preprocessing_num_workers, or else all cores that this process may use.

    Few rows are prepared by one process. So are those of a stream: its windows are prepared by workers of a loader,
    which may not start processes.

    Args:
        rows: the number of rows to prepare.
        args: the flags.

    Returns:
        None: no further process is started.
    """
    if args.streaming:
        return None
    if args.preprocessing_num_workers is not None:
        return args.preprocessing_num_workers
    processes = min(most_processes(args), rows // _FEWEST)
    return processes if processes > 1 else None


def most_processes(args: DataArguments) -> int:
    """--preprocessing_num_workers, or else the number of cores that this process may use."""
    return args.preprocessing_num_workers or _usable_cores()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
