"""The command: `python -m modeling_data2vec_generic.capabilities`."""

import argparse
import sys
from pathlib import Path

from transformers.utils import logging

from . import __doc__ as description
from .rendering import as_text, whole_table, written
from .survey import capability_of


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="data2vec capabilities", description=(description or "").split("\n", 1)[0])
    parser.add_argument("model_type", nargs="?", help="Type to measure, e.g. vit. Default: all, as a table.")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="Put the table into this file, between its markers."
    )
    arguments = parser.parse_args(argv)
    if arguments.model_type is not None and arguments.write is not None:
        parser.error("--write writes the whole table, so it does not go with a model type.")
    logging.set_verbosity_error()
    try:
        if arguments.model_type is not None:
            sys.stdout.write(as_text(capability_of(arguments.model_type)))
        elif arguments.write is not None:
            text = written(arguments.write.read_text(encoding="utf-8"), whole_table(), arguments.write)
            arguments.write.write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(whole_table())
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
