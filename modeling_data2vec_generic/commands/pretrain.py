"""`data2vec pretrain`: pre-trains an encoder without labels. run_pretraining.py calls it too."""

import sys

from ..cli.help import RESULT, help_for
from ..runs.arguments import PRETRAINING

_USAGE = """
usage: data2vec pretrain [RECIPE] [--flag VALUE ...]

Pre-trains an encoder of images, video, text, proteins, speech or time series without labels.

  data2vec pretrain --train_dir photos              settings are chosen for data and device
  data2vec pretrain digits                          a recipe of the package: see `data2vec recipes`
  data2vec pretrain digits --max_steps 100          flags override those of the recipe
  data2vec pretrain my_recipe.json                  a JSON or YAML file of flags
  data2vec pretrain --train_dir my_images --model_type vit --output_dir output/mine
"""
_TOPICS = {
    "Data": ("train_dir", "train_file", "dataset_name", "label_column_name", "max_train_samples", "streaming"),
    "Encoder": ("model_name_or_path", "model_type", "config_overrides"),
    "Objective": (
        "objective",
        "mask_strategy",
        "mask_ratio",
        "average_top_k_layers",
        "ema_decay",
        "ema_end_decay",
    ),
    "Training": (
        "max_steps",
        "num_train_epochs",
        "per_device_train_batch_size",
        "learning_rate",
        "lr_scheduler_type",
        "warmup_steps",
        "weight_decay",
        "bf16",
        "use_cpu",
        "dataloader_num_workers",
        "seed",
    ),
    "Result": RESULT,
}


def main(argv: list[str] | None = None) -> None:
    """Pre-trains as the words of a command line say, or prints its help; default: those of this process."""
    words = sys.argv[1:] if argv is None else argv
    if (text := help_for(words, _USAGE, _TOPICS, PRETRAINING)) is not None:
        sys.stdout.write(text)
        return
    from ..runs import pretraining  # which takes seconds to import, and help does not need it

    pretraining.main(words)
