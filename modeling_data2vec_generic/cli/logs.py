"""Logging of a run to the terminal."""

import logging

from transformers import TrainingArguments


def start_logging(arguments: TrainingArguments) -> None:
    """Starts logging to the terminal at the level of `--log_level`.

    The main process logs what this package does (level INFO) at any `--log_level`; the others log its errors only.
    """
    log_to_terminal(arguments.get_process_log_level(), arguments.should_log)


def log_to_terminal(level: int, is_main: bool) -> None:
    """Starts logging to the terminal: this package as `start_logging` says, all others at `level`."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=level)
    own_level = logging.INFO if is_main else logging.ERROR
    logging.getLogger("modeling_data2vec_generic").setLevel(own_level)
