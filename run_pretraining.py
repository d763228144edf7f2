#!/usr/bin/env python
"""Pre-train an encoder of images, video, text, proteins, speech or time series with data2vec.

    python run_pretraining.py examples/vision/digits.json
    python run_pretraining.py examples/vision/digits.json --max_steps 100 --output_dir output/short
    python run_pretraining.py --model_type vit --train_dir my_images --output_dir output/mine

A recipe is a JSON or YAML file of flags. A flag whose value is null there is left out. Flags on the command line
override the recipe. See --help for all flags.
"""

from modeling_data2vec_generic.runs.pretraining import main

if __name__ == "__main__":
    main()
