"""`data2vec finetune`: fine-tunes an encoder on a labelled task. run_finetune.py calls it too."""

import sys

from ..cli.help import RESULT, help_for
from ..runs.arguments import FINETUNING

_USAGE = """
usage: data2vec finetune [RECIPE] [--flag VALUE ...]

Fine-tunes an encoder on a labelled task, and measures what its pre-training was worth.
A flag that is left out takes the published value of the task; the log says which.

  data2vec finetune digits                          a recipe of the package: see `data2vec recipes`
  data2vec finetune digits --seeds 0 1 2            flags override those of the recipe
  data2vec finetune my_recipe.json                  a JSON or YAML file of flags
  data2vec finetune --model_name_or_path output/mine --train_dir my_images --output_dir output/two
"""
_TOPICS = {
    "Data": (
        "train_dir",
        "train_file",
        "validation_file",
        "dataset_name",
        "label_column_name",
        "labels_per_class",
        "label_fraction",
    ),
    "Encoder": ("model_name_or_path", "model_type"),
    "Task": ("task", "problem_type"),
    "Comparison": ("compare", "from_scratch", "linear_probe", "knn", "seeds"),
    "Training": (
        "max_steps",
        "num_train_epochs",
        "per_device_train_batch_size",
        "learning_rate",
        "layer_decay",
        "freeze_encoder_steps",
        "bf16",
        "use_cpu",
        "dataloader_num_workers",
        "seed",
    ),
    "Result": RESULT,
}


def main(argv: list[str] | None = None) -> None:
    """Fine-tunes as the words of a command line say, or prints its help; default: those of this process."""
    words = sys.argv[1:] if argv is None else argv
    if (text := help_for(words, _USAGE, _TOPICS, FINETUNING)) is not None:
        sys.stdout.write(text)
        return
    from ..runs import finetuning  # which takes seconds to import, and help does not need it

    finetuning.main(words)
