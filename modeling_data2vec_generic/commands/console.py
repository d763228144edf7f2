"""The console command `data2vec`: finds the command that is asked for and runs it."""

import sys
from importlib import import_module

# By its name, the file of this folder that runs a command, and what `data2vec --help` says of it.
COMMANDS = {
    "pretrain": ("pretrain", "pre-train an encoder without labels"),
    "finetune": ("finetune", "fine-tune an encoder on a labelled task, and measure what its pre-training was worth"),
    "convert": ("convert", "convert a checkpoint of fairseq or data2vec-pytorch into one that AutoModel loads"),
    "push": ("push", "push what a run saved to the Hugging Face Hub"),
    "embed": ("embed", "compute vectors of images, text, sound and other data with an encoder"),
}


def main(argv: list[str] | None = None) -> None:
    """Runs one command.

    Args:
        argv: the words after `data2vec`, the first of which names the command; default: those of this process.
    """
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write("usage: data2vec COMMAND ...\n\n")
        sys.stdout.writelines(f"  {name:<14}{text}\n" for name, (_, text) in COMMANDS.items())
        return
    name, *rest = words
    if name not in COMMANDS:
        raise SystemExit(f"data2vec: there is no command {name!r}. Commands: {', '.join(COMMANDS)}.")
    module, _ = COMMANDS[name]
    import_module(f".{module}", __package__).main(rest)
