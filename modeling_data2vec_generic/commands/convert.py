"""`data2vec convert`: a checkpoint of fairseq or data2vec-pytorch becomes a folder that `AutoModel` loads."""

import sys

from ..cli import CommandParser
from ..conversion.checkpoints import summarised
from ..conversion.converting import WEIGHTS, Conversion, convert


def main(argv: list[str]) -> None:
    parser = CommandParser(
        prog="data2vec convert",
        description="Convert a checkpoint of fairseq (data2vec and data2vec 2.0), of data2vec_vision/beit or of "
        "data2vec-pytorch into a folder that AutoModel loads. docs/migrating.md has examples.",
    )
    parser.add_argument("checkpoint", help="the file, e.g. checkpoint_best.pt")
    parser.add_argument("output_dir", help="a new folder for the model")
    parser.add_argument(
        "--weights", choices=WEIGHTS, default="student", help="which weights; the teacher's are the EMA (%(default)s)"
    )
    parser.add_argument(
        "--processor_name",
        help="folder or Hub id of the tokenizer that the encoder was trained with, e.g. roberta-base, or of another "
        "processor than the one that is made for images and sound",
    )
    parser.add_argument(
        "--config_overrides",
        help="fields of the configuration that the checkpoint does not say, e.g. num_attention_heads=12",
    )
    parser.add_argument(
        "--config_name",
        help="data2vec-pytorch only: folder or Hub id of the configuration, the encoder_checkpoint of its YAML file",
    )
    parser.add_argument("--model_type", help="or the encoder's type, with its sizes in --config_overrides")
    sys.stdout.write(_report(convert(**vars(parser.parse_args(argv)))))


def _report(done: Conversion) -> str:
    """What was converted, what was left out and how to load the model."""
    model = type(done.model)
    count = sum(weight.numel() for weight in done.model.parameters())
    lines = [f"{done.title}: {model.__name__} with {count / 1e6:.1f} million parameters is in {done.model_dir}"]
    if done.left_out:
        lines.append(f"Left out, since the model has no place for it: {summarised(done.left_out)}")
    if done.processor is None:
        lines.append(
            "No processor was saved: name the tokenizer that the encoder was trained with by --processor_name."
        )
    own = model._auto_class  # of the classes of this package; transformers needs no code for its own
    loader = own or ("AutoModel" if done.model.base_model is done.model else model.__name__)
    remote = ", trust_remote_code=True" if own else ""
    lines += [
        "Load it with:",
        f"    from transformers import {loader}",
        f'    model = {loader}.from_pretrained("{done.model_dir}"{remote})',
    ]
    if own:
        lines.append(
            "Its code lies beside the weights. Where this package is imported, it needs no trust_remote_code."
        )
    return "\n".join(lines) + "\n"
