"""Tiny encoders and tiny data for the tests that run the whole scripts.

The encoders are what the scripts make of `--model_type` and `--config_overrides`; `BACKBONES` holds these flags.
`tiny_encoders.py` has tiny encoders of many more types.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import PIL.Image
import pytest
import soundfile
import transformers
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedModel

import run_pretraining
from modeling_data2vec_generic.runs import pretraining

_BLOCKS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_PATCHES = {"image_size": 16, "patch_size": 4}  # 4 x 4 patches
_FRAMES = {  # 400 samples for the first frame, 320 for each further one
    "conv_dim": [8, 8, 8],
    "conv_kernel": [20, 8, 3],
    "conv_stride": [20, 8, 2],
    "num_conv_pos_embeddings": 2,
    "num_conv_pos_embedding_groups": 2,
}
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vision", _BLOCKS | _PATCHES),
    "beit": ("vision", _BLOCKS | _PATCHES | {"use_relative_position_bias": True}),
    "data2vec-vision": ("vision", _BLOCKS | _PATCHES | {"use_shared_relative_position_bias": True}),
    "bert": ("text", _BLOCKS | {"max_position_embeddings": 40}),
    "roberta": ("text", _BLOCKS | {"max_position_embeddings": 40}),
    "wav2vec2": ("speech", _BLOCKS | _FRAMES),
    "data2vec-audio": ("speech", _BLOCKS | _FRAMES | {"conv_pos_kernel_size": 3}),
}
CLASSES = ("one", "two", "three")
WORDS = "a seed sprouts in rain and the sun warms it until leaves open wide to catch every drop of light".split()


def from_scratch(model_type: str, **changes: Any) -> list[str]:
    """Flags of a new tiny encoder."""
    settings = BACKBONES[model_type][1] | changes
    overrides = ",".join(f"{name}={value}".replace(" ", "") for name, value in settings.items())
    return ["--model_type", model_type, "--config_overrides", overrides]


def tiny_encoder(model_type: str, **changes: Any) -> PreTrainedModel:
    """The same encoder in Python, without dropout."""
    config = CONFIG_MAPPING[model_type](**BACKBONES[model_type][1] | changes)
    for name in vars(config):
        if "dropout" in name and isinstance(getattr(config, name), float):
            setattr(config, name, 0.0)
    return AutoModel.from_config(config)


def run(*flags: str, output_dir: Path, steps: int = 2, figures: bool = False) -> Any:
    """One run of the script through its `main`; returns the trainer, which holds model and log.

    Figures are left out unless a test reads them: drawing them takes as long as all the rest.
    """
    trainers: list[Any] = []

    class Recorded(pretraining.Data2VecTrainer):  # type: ignore[name-defined,misc]
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            trainers.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "Data2VecTrainer", Recorded)
        if not figures:
            patch.setattr(pretraining, "pictures_of", lambda *_: None)
        try:
            recipe = [flag for flag in flags[:1] if flag.endswith(".json")]
            run_pretraining.main([*recipe, *run_flags(output_dir, steps), *flags[len(recipe) :]])
        finally:
            transformers.logging.set_verbosity_warning()
    return trainers.pop()  # else it would be held by its own class, and its workers would take seconds to stop


def run_card(output_dir: Path, **inputs: Any) -> dict[str, Any]:
    """The names that the code of a model card defines, which reads these inputs."""
    names = dict(inputs)
    card = (output_dir / "README.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.+?)```", card, re.DOTALL):
        exec(code, names)
    return names


def run_flags(output_dir: Path, steps: int) -> list[str]:
    """Flags that every tiny run shares."""
    return (
        f"--output_dir {output_dir} --max_steps {steps} --per_device_train_batch_size 4 --logging_steps 1 "
        "--save_strategy no --use_cpu --disable_tqdm true --report_to none"
    ).split()


def pictures(count: int, size: tuple[int, int] = (20, 18)) -> list[PIL.Image.Image]:
    """RGB images whose brightness goes with their class, which is the number modulo three."""
    rng = np.random.default_rng(0)
    levels = (60, 120, 180)
    return [
        PIL.Image.fromarray((rng.integers(0, 60, (size[1], size[0], 3)) + levels[i % 3]).astype(np.uint8))
        for i in range(count)
    ]


def image_folder(folder: Path, count: int = 18, labelled: bool = True) -> Path:
    """PNG and JPEG files, in a sub-folder for each class or all in one."""
    for i, picture in enumerate(pictures(count)):
        path = (folder / CLASSES[i % 3] if labelled else folder) / f"{i:03}.{('png', 'jpg')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return folder


def image_parquet(path: Path, count: int = 18) -> Path:
    """A table with a column `picture` of encoded images and a column `kind` of classes."""
    folder = image_folder(path.parent / f"{path.stem}_files", count, labelled=False)
    rows = [{"bytes": file.read_bytes(), "path": file.name} for file in sorted(folder.iterdir())]
    from datasets import Dataset, Features, Image, Value

    data = {"picture": rows, "kind": [CLASSES[i % 3] for i in range(count)]}
    Dataset.from_dict(data, Features({"picture": Image(), "kind": Value("string")})).to_parquet(path)
    return path


def sentences(count: int) -> list[str]:
    """Sentences of 4 to 12 words."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=4 + i % 9)) for i in range(count)]


def text_file(path: Path, count: int = 40, column: str = "text") -> Path:
    """txt, csv, jsonl or parquet by the name's ending; all but txt with a column `label`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pandas.DataFrame({column: sentences(count), "label": [CLASSES[i % 3] for i in range(count)]})
    if path.suffix == ".txt":
        path.write_text("\n\n".join(table[column]), encoding="utf-8")
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in table.to_dict("records")), encoding="utf-8")
    else:
        table.to_parquet(path)
    return path


def protein_file(path: Path, count: int = 40) -> Path:
    """A FASTA file of proteins of 8 to 38 residues, in lines of 10."""
    rng = np.random.default_rng(0)
    entries = []
    for i in range(count):
        residues = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), size=8 + i % 31))
        lines = [residues[start : start + 10] for start in range(0, len(residues), 10)]
        entries.append("\n".join([f">protein {i}", *lines]))
    path.write_text("\n".join(entries) + "\n", encoding="utf-8")
    return path


def series_parquet(path: Path, count: int = 18, length: int = 63, channels: int = 2) -> Path:
    """A column `series` of (length, channels) values, waves whose frequency goes with the class, and `label`."""
    from datasets import Dataset

    rng = np.random.default_rng(0)
    times = np.arange(length)[:, None] + 10 * np.arange(channels)
    waves = [np.sin(times * (0.2, 0.7, 1.5)[i % 3]) + 0.1 * rng.normal(size=times.shape) for i in range(count)]
    Dataset.from_dict({"series": waves, "label": [CLASSES[i % 3] for i in range(count)]}).to_parquet(path)
    return path


def video_parquet(path: Path, count: int = 9, frames: int = 8) -> Path:
    """A column `video` of clips, a picture that moves to the right, and `label`, which the brightness gives away."""
    from datasets import Dataset, Features, Image, List, Value

    clips = [[picture.rotate(0, translate=(t, 0)) for t in range(frames)] for picture in pictures(count)]
    features = Features({"video": List(Image()), "label": Value("string")})
    labels = [CLASSES[i % 3] for i in range(count)]
    Dataset.from_dict({"video": clips, "label": labels}, features=features).to_parquet(path)
    return path


def sound_folder(folder: Path, count: int = 18, labelled: bool = True, seconds: float = 0.25) -> Path:
    """wav, flac and ogg at three rates, every second one stereo; the pitch goes with the class."""
    rng = np.random.default_rng(0)
    for i in range(count):
        rate = (16000, 8000, 22050)[i // 3 % 3]
        times = np.arange(int(rate * seconds * (1 + 0.1 * (i % 4)))) / rate
        sound = 0.3 * np.sin(2 * np.pi * (200, 500, 1100)[i % 3] * times) + 0.01 * rng.normal(size=len(times))
        if i % 2:
            sound = np.stack([sound, 0.5 * sound], axis=1)
        path = (folder / CLASSES[i % 3] if labelled else folder) / f"{i:03}{('.wav', '.flac', '.ogg')[i // 2 % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, rate)
    return folder
