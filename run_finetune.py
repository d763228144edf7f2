#!/usr/bin/env python
"""Fine-tune an encoder on a labelled task, and measure how much its pre-training helped.

    python run_finetune.py --model_name_or_path output/digits --dataset_name digits --output_dir output/finetuned
    python run_finetune.py --model_name_or_path output/digits --dataset_name digits --labels_per_class 10 \
        --output_dir output/compared --compare --seeds 0 1 2

It is the command `data2vec finetune`. Recipes are JSON or YAML files of flags, as for run_pretraining.py. Flags on the
command line override them. A flag that is left out takes the default of the task. See --help and --help_all.
"""

from modeling_data2vec_generic.commands.console import run
from modeling_data2vec_generic.commands.finetune import main

__all__ = ["main"]

if __name__ == "__main__":
    run("finetune")
