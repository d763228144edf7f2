"""`data2vec export`: the encoder of a run in the forms that other programs load."""

import sys

from ..cli import CommandParser
from ..exporting.exporter import FORMATS, Export, export
from ..exporting.folders import POOLINGS
from ..exporting.loading import WEIGHTS


def main(argv: list[str]) -> None:
    """Exports as the words after `data2vec export` say.

    Raises:
        ValueError: see `export`.
    """
    parser = CommandParser(
        prog="data2vec export",
        description="Write the encoder of a pre-training run, or a plain encoder, with its processor, in a form that "
        "other programs load.",
    )
    parser.add_argument(
        "model", help="output directory of a pre-training run or a checkpoint-N, folder of a plain encoder, or Hub id"
    )
    parser.add_argument("output_dir", help="a new folder")
    parser.add_argument(
        "--format", choices=FORMATS, default="transformers", help="for whom; torch is torch.export (%(default)s)"
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="student",
        help="of a pre-training run; the teacher's are the EMA (%(default)s)",
    )
    parser.add_argument("--pooling", choices=POOLINGS, default="mean", help="sentence-transformers only (%(default)s)")
    parser.add_argument("--normalize", action="store_true", help="sentence-transformers only: vectors of length 1")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    sys.stdout.write(_report(export(**vars(parser.parse_args(argv)))))


def _report(done: Export) -> str:
    """Where the export is, and how to load it."""
    how = {
        "transformers": f'from transformers import AutoModel\n    model = AutoModel.from_pretrained("{done.folder}")',
        "sentence-transformers": "from sentence_transformers import SentenceTransformer\n"
        f'    vectors = SentenceTransformer("{done.folder}").encode(["a sentence"])',
        "onnx": f'import onnxruntime\n    session = onnxruntime.InferenceSession("{done.file}")\n'
        f"    # inputs: {', '.join(done.inputs)}; output: last_hidden_state",
        "torch": f'import torch\n    module = torch.export.load("{done.file}").module()\n'
        f"    hidden = module({', '.join(done.inputs)})",
    }[done.format]
    return f"The {done.model_type} encoder is in {done.folder}. Load it with:\n    {how}\n"
