"""The console command `data2vec`: finds the command that is asked for and runs it."""

import sys
import traceback
from importlib import import_module
from pathlib import Path

from ..cli.recipes import nearest

# By its name, the file of this folder that runs a command, and what `data2vec --help` says of it.
COMMANDS = {
    "pretrain": ("pretrain", "pre-train an encoder without labels"),
    "finetune": ("finetune", "fine-tune an encoder on a labelled task, and measure what its pre-training was worth"),
    "embed": ("embed", "compute vectors of images, text, sound and other data with an encoder"),
    "convert": ("convert", "convert a checkpoint of fairseq or data2vec-pytorch into one that AutoModel loads"),
    "push": ("push", "push what a run saved to the Hugging Face Hub"),
    "recipes": ("recipes", "list, show and copy the recipes that come with the package"),
    "capabilities": ("capabilities", "what can be done with each type of encoder of transformers"),
    "doctor": ("doctor", "print versions, devices, and what is missing for which kind of data"),
    "export": ("export", "write an encoder for transformers, sentence-transformers, ONNX or torch.export"),
}
_PACKAGE = Path(__file__).parents[1]
_HELP = """usage: data2vec COMMAND ...

data2vec and data2vec 2.0 pre-training for any encoder that transformers' AutoModel loads.

{commands}

`data2vec COMMAND --help` explains a command. To begin: data2vec pretrain digits
"""


def main(argv: list[str] | None = None) -> None:
    """Runs one command.

    Args:
        argv: the words after `data2vec`, the first of which names the command; default: those of this process.

    Raises:
        SystemExit: there is no such command, or it has refused its input, with the reason.
    """
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        commands = "\n".join(f"  {name:<14}{text}" for name, (_, text) in COMMANDS.items())
        sys.stdout.write(_HELP.format(commands=commands))
        return
    name, *rest = words
    if name not in COMMANDS:
        raise SystemExit(
            f"data2vec: there is no command {name!r}: did you mean {nearest(name, COMMANDS, 1)[0]}? The commands are "
            f"{', '.join(COMMANDS)}."
        )
    run(name, rest)


def run(name: str, words: list[str] | None = None) -> None:
    """Runs the command of this name; `words`: those after its name, default: those of this process.

    Raises:
        SystemExit: the command has refused its input, with the reason, which Python prints without a traceback.
    """
    module, _ = COMMANDS[name]
    try:
        import_module(f".{module}", __package__).main(sys.argv[1:] if words is None else words)
    except (ValueError, ImportError) as error:
        if not _is_message(error):
            raise
        hint = " `data2vec doctor` says which packages are missing." if isinstance(error, ImportError) else ""
        raise SystemExit(f"data2vec {name}: {error}{hint}") from None


def _is_message(error: Exception) -> bool:
    """Whether this package raised it, to say what is wrong with its input. Others' errors are shown in full."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return Path(frame.f_code.co_filename).is_relative_to(_PACKAGE)
