"""Which files of an output directory are pushed, and where they go in the repository.

A pre-training run has its full model at the top of the output directory and the plain encoder in `encoder/`. On the
Hub it's the encoder that most people want, without code that must be trusted, so it goes to the top:

| output directory | repository |
|---|---|
| `encoder/*`: weights, configuration, processor, own code of the encoder | the top |
| the same files of the full model | `pretraining/` |
| `figures/*` | `figures/` |

A fine-tuned model stays at the top. Nothing else of an output directory is pushed: neither predictions, which quote
the data, nor `training_args.bin`, a pickle with paths of this machine. Of a folder that is not a run's, all is pushed.
"""

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.utils import CONFIG_NAME

CONTENTS = ("both", "encoder", "full")
ENCODER_DIR, PRETRAINING, FIGURES, CARD = "encoder", "pretraining", "figures", "README.md"
LAST_CHECKPOINT = "last-checkpoint"

_WEIGHTS = "model*.safetensors*"
PROCESSOR_FILES = (
    "*processor_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
)
_PATTERNS = (CONFIG_NAME, "generation_config.json", _WEIGHTS, *PROCESSOR_FILES)

Files = dict[str, Path | bytes]
"""By its path in the repository, a file's path or its content."""


def repository_files(output_dir: Path, content: str = "both") -> Files:
    """What to push of an output directory, but for the card.

    Args:
        output_dir: of a run, or another folder of a model, such as the `encoder/` of a run.
        content: what of a pre-training run: "encoder", "full" (the full model in `pretraining/`, nothing at the top)
            or "both".

    Raises:
        ValueError: `content` is none of these, or the directory holds no such model.
    """
    if content not in CONTENTS:
        raise ValueError(f"hub_content={content!r} is unknown: choose among {', '.join(CONTENTS)}.")
    if not is_pretraining(output_dir) and not (output_dir / TRAINER_STATE_NAME).is_file():
        return dict(_all_files(output_dir))
    figures: Files = {f"{FIGURES}/{name}": path for name, path in _all_files(output_dir / FIGURES).items()}
    if not is_pretraining(output_dir):
        return _at_the_top(output_dir) | figures
    files = figures
    if content != "full":
        if not (output_dir / ENCODER_DIR / CONFIG_NAME).is_file():
            raise ValueError(
                f"{str(output_dir)!r} has no {ENCODER_DIR}/, which a run writes at its end. Let the run finish with "
                "--resume_from_checkpoint true, or push the full model with --hub_content full."
            )
        files |= _at_the_top(output_dir / ENCODER_DIR)
    if content != "encoder":
        files |= _placed(output_dir, PRETRAINING)
    return files


def is_pretraining(folder: Path) -> bool:
    """Whether a folder is that of a pre-training run, with the full model at its top.

    Raises:
        ValueError: there is no model in it.
    """
    is_full = _configuration(folder).get("architectures") == ["Data2VecGenericForPreTraining"]
    return is_full and ((folder / ENCODER_DIR).is_dir() or (folder / TRAINER_STATE_NAME).is_file())


def model_paths(folder: Path) -> list[Path]:
    """Weights, configuration, processor and code of the model in a folder.

    Raises:
        ValueError: there is no model in it.
    """
    code = _code(folder, _configuration(folder))
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and _is_of_model(path.name)]
    if not any(fnmatch(path.name, _WEIGHTS) for path in paths):
        raise ValueError(f"{str(folder)!r} holds no weights: model.safetensors is expected there.")
    return paths + code


def _at_the_top(folder: Path) -> Files:
    return {path.name: path for path in model_paths(folder)}


def _placed(folder: Path, place: str) -> Files:
    """The model of a folder, for the folder `place` of the repository."""
    files: Files = {f"{place}/{path.name}": path for path in model_paths(folder)}
    config = _configuration(folder)
    # transformers looks for code from the top of the repository, also of a model in a folder of it.
    for auto_map in _auto_maps(config):
        auto_map |= {key: value if "--" in value else f"{place}/{value}" for key, value in auto_map.items()}
    files[f"{place}/{CONFIG_NAME}"] = json.dumps(config, indent=2, sort_keys=True).encode() + b"\n"
    return files


def is_replaced(path: str, files: Files) -> bool:
    """Whether a file of the repository belongs to what pushing `files` replaces, so that it goes if it isn't in them.

    Weights that an earlier push left would be loaded in place of the new ones, if these are cut in shards.
    """
    folder, _, name = path.partition("/")
    if not name:
        return _is_of_model(path)
    if folder == LAST_CHECKPOINT:
        return any(file.startswith(f"{LAST_CHECKPOINT}/") for file in files)
    return folder in (PRETRAINING, FIGURES)


def checkpoint_files(folder: Path, place: str) -> Files:
    """All that a run needs to resume from a checkpoint, for the folder `place` of the repository."""
    return {f"{place}/{name}": path for name, path in _all_files(folder).items() if name != TRAINING_ARGS_NAME}


def _all_files(folder: Path) -> dict[str, Path]:
    """By their paths from the folder on, its files and those of folders in it, without hidden ones."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        place.as_posix(): path
        for place, path in found.items()
        if not any(part.startswith(".") for part in place.parts)
    }


def _is_of_model(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _PATTERNS)


def _configuration(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} holds no model: {CONFIG_NAME} is expected there.")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: it is not JSON ({error}).") from None
    return config


def _code(folder: Path, config: dict[str, Any]) -> list[Path]:
    """The files that hold the classes of a configuration, and those that they import."""
    files: set[Path] = set()
    for auto_map in _auto_maps(config):
        for reference in auto_map.values():
            path = folder / f"{reference.partition('.')[0]}.py"
            if path.is_file():  # the code may also be in another repository
                files |= {path, *map(Path, get_relative_import_files(path))}
    return sorted(files)


def _auto_maps(config: dict[str, Any]) -> list[dict[str, str]]:
    """Which classes, as "module.Class", a model and the encoder in it need that are not in transformers."""
    return [part["auto_map"] for part in (config, config.get("encoder_config") or {}) if "auto_map" in part]
