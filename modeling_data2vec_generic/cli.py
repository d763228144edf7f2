"""The command line of the scripts: recipes (files of flags, which flags on the command line override) and logging."""

import difflib
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser, TrainingArguments

ENDINGS = (".json", ".yaml", ".yml")
_OF_FILES = ("__train_file", "__validation_file")  # flags with several values that may end like recipes, in one form
_LARGEST_RECIPE = 1_000_000  # bytes
# Flags of earlier versions of transformers and of its example scripts, with what replaces them here.
_RENAMED = {
    "adafactor": "--optim adafactor",
    "block_size": "--max_seq_length",
    "cache_dir": "the environment variable HF_HOME",
    "evaluate_during_training": "--eval_strategy steps",
    "evaluation_strategy": "--eval_strategy",
    "feature_extractor_name": "--processor_name",
    "fsdp_min_num_params": "--fsdp_config",
    "fsdp_transformer_layer_cls_to_wrap": "--fsdp_config",
    "group_by_length": "--train_sampling_strategy group_by_length",
    "image_processor_name": "--processor_name",
    "include_inputs_for_metrics": "--include_for_metrics inputs",
    "include_tokens_per_second": "--include_num_input_tokens_seen",
    "jit_mode_eval": "--torch_compile",
    "logging_dir": "the environment variable TENSORBOARD_LOGGING_DIR",
    "max_length": "--max_seq_length",
    "no_cuda": "--use_cpu",
    "per_gpu_eval_batch_size": "--per_device_eval_batch_size",
    "per_gpu_train_batch_size": "--per_device_train_batch_size",
    "push_to_hub_model_id": "--hub_model_id",
    "push_to_hub_organization": "--hub_model_id",
    "push_to_hub_token": "--hub_token",
    "split_batches": "--accelerator_config",
    "token": "the environment variable HF_TOKEN",
    "tokenizer_name": "--processor_name",
    "torchdynamo": "--torch_compile_backend",
    "train_val_split": "--validation_split_percentage",
    "use_auth_token": "the environment variable HF_TOKEN",
    "warmup_ratio": "--warmup_steps, which takes a share of all steps too",
}


def parse(argv: list[str], groups: Iterable[Any]) -> tuple[Any, ...]:
    """Parses the command line. Flags that are given on it override those of the recipe.

    Args:
        argv: the words of the command line, without the name of the script. One of them may be the path of a recipe.
        groups: dataclasses whose fields are the flags.

    Returns:
        One instance of each of `groups`, in their order.

    Raises:
        ValueError: there is no such recipe or flag, or a flag has a value that cannot be used.
    """
    parser = HfArgumentParser(groups)
    flags = _with_recipe(argv, parser)
    _, unknown = parser.parse_known_args(flags)
    if unknown:
        raise ValueError(" ".join(_remarks(unknown, parser)))
    try:
        return parser.parse_args_into_dataclasses(flags)
    # TrainingArguments raises these, e.g. for "inf" and for packages that are not installed.
    except (ArithmeticError, AttributeError, ImportError, LookupError, OSError, TypeError) as error:
        raise ValueError(f"A flag has a value that cannot be used ({type(error).__name__}: {error}).") from error


def flags_of(argv: list[str], groups: Iterable[Any]) -> list[str]:
    """The words of the command line, with the path of the recipe replaced by its flags, which are moved to the front.

    Args:
        argv: the words of the command line. The recipe may be at any place among them.
        groups: dataclasses whose fields are the flags.

    Raises:
        ValueError: there are several recipes, or the recipe cannot be read.
    """
    return _with_recipe(argv, HfArgumentParser(groups))


def _with_recipe(argv: list[str], parser: HfArgumentParser) -> list[str]:
    without_value = {name for action in parser._actions if action.nargs in (0, "?") for name in action.option_strings}
    known = {action.dest for action in parser._actions}
    places = [
        place
        for place, (before, word) in enumerate(zip(["", *argv], argv, strict=False))
        if word.lower().endswith(ENDINGS) and not word.startswith("-") and not _takes_next(before, without_value)
        if not _is_among_files(argv[:place]) or _has_flags(Path(word), known)
    ]
    if len(places) > 1:
        raise ValueError(f"{' and '.join(argv[place] for place in places)} are several recipes: give one of them.")
    if not places:
        return argv
    place = places[0]
    return recipe_flags(Path(argv[place])) + argv[:place] + argv[place + 1 :]


def _takes_next(word: str, without_value: set[str]) -> bool:
    """Whether `word` is a flag whose value is the next word. `without_value`: the flags that need no value."""
    return word.startswith("--") and "=" not in word and word not in without_value


def _is_among_files(before: list[str]) -> bool:
    """Whether a word may be a further value of a flag that takes files. `before`: the words before it."""
    flag = next((word for word in reversed(before) if word.startswith("--")), "")
    return flag.split("=")[0].replace("-", "_") in _OF_FILES


def _has_flags(path: Path, known: set[str]) -> bool:
    """Whether a file is a recipe, and not rows of data: an object whose names are flags, some of which are `known`."""
    try:
        flags = recipe_flags(path) if path.is_file() and path.stat().st_size < _LARGEST_RECIPE else []
    except ValueError:
        return False
    return any(word.removeprefix("--") in known for word in flags if word.startswith("--"))


def _remarks(unknown: list[str], parser: HfArgumentParser) -> list[str]:
    """Messages on unknown flags, one for each, or on words that belong to no flag."""
    known = sorted(name for action in parser._actions for name in action.option_strings if name.startswith("--"))
    flags = [word.split("=")[0] for word in unknown if word.startswith("-")]
    if not flags:
        return [f"{unknown[0]!r} belongs to no flag, and is no recipe, whose name ends in {', '.join(ENDINGS)}."]
    remarks = []
    for flag in flags:
        now = _RENAMED.get(flag.strip("-").replace("-", "_"))
        nearest = difflib.get_close_matches(flag, known, n=1, cutoff=0)[0]
        remarks.append(f"There is no flag {flag}: " + (f"use {now}." if now else f"did you mean {nearest}?"))
    return remarks


def recipe_flags(path: Path) -> list[str]:
    """The flags of a recipe, as words of a command line.

    Raises:
        ValueError: there is no such file, it cannot be read, or it does not hold an object of flags.
    """
    if not path.is_file():
        raise ValueError(f"There is no recipe {path}. Recipes are files such as examples/vision/digits.json.")
    kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
    try:
        content = path.read_bytes()  # both parsers detect the encoding
        recipe = json.loads(content) if kind == "JSON" else yaml.load(content, _YamlLoader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: also bad UTF-8 and huge numbers
        raise ValueError(f"The recipe {path} is not valid {kind}: {error}.") from error
    except OSError as error:
        raise ValueError(f"The recipe {path} cannot be read: {error.strerror}. Check its permissions.") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"The recipe {path} holds a {type(recipe).__name__} where an object of flags is expected.")
    if empty := [name for name, value in recipe.items() if isinstance(value, list) and None in value]:
        raise ValueError(f"The recipe {path} has null within the list of {', '.join(empty)}. Remove it.")
    return as_flags(recipe)


class _YamlLoader(yaml.SafeLoader):
    """A YAML loader that follows YAML 1.2 in two points where PyYAML does not.

    It reads yes, no, on and off as strings, since flags have them as values, and 1e-4 as a number.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_YamlLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), "tTfF")
_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), "-+.0123456789"
)


def as_flags(settings: dict[str, Any]) -> list[str]:
    """Turns settings, by name, into words of a command line. An empty list becomes "none", and None is left out."""
    flags: list[str] = []
    for name, value in settings.items():
        if value is None:
            continue
        values = (value or ["none"]) if isinstance(value, list) else [value]
        flags += [f"--{name}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in values)]
    return flags


def start_logging(arguments: TrainingArguments) -> None:
    """Starts logging to the terminal at the level of `--log_level`.

    The main process logs what this package does (level INFO) at any `--log_level`; the others log its errors only.
    """
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=arguments.get_process_log_level())
    own_level = logging.INFO if arguments.should_log else logging.ERROR
    logging.getLogger("modeling_data2vec_generic").setLevel(own_level)
