#!/usr/bin/env python
"""Pre-train an encoder of images, video, text, proteins, speech or time series with data2vec.

    python run_pretraining.py examples/vision/digits.json
    python run_pretraining.py digits --max_steps 100 --output_dir output/short
    python run_pretraining.py --model_type vit --train_dir my_images --output_dir output/mine

It is the command `data2vec pretrain`. A recipe is a JSON or YAML file of flags, or the name of one of the package. A
flag whose value is null there is left out. Flags on the command line override the recipe. See --help and --help_all.
"""

from modeling_data2vec_generic.commands.console import run
from modeling_data2vec_generic.commands.pretrain import main

__all__ = ["main"]

if __name__ == "__main__":
    run("pretrain")
