"""Words of a command line become dataclasses, with messages about flags that there are not."""

import re
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterable
from typing import Any, NoReturn

from transformers import HfArgumentParser

from .recipes import ENDINGS, nearest

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

_NO_RECIPE = (
    f" It is no recipe either: the name of one stands first, and a file of your own ends in {', '.join(ENDINGS)}."
)


class _RaisesErrors:
    """For a parser that raises its errors, in place of ending the process."""

    def error(self, message: str) -> NoReturn:
        words = message.removeprefix("argument ")  # which argparse puts before all names of the flag, --a_b/--a-b
        raise ValueError(re.sub(r"^(--\w+)/--[\w-]+", r"\1", words) + ".")


class _FlagParser(_RaisesErrors, HfArgumentParser):
    """A parser of flags that are fields of dataclasses."""


class CommandParser(_RaisesErrors, ArgumentParser):
    """A parser of a command that has few flags of its own, and no recipes. It takes no abbreviated flags.

    Raises:
        ValueError: when it parses: there is no such flag, or a value cannot be used.
    """

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, **settings)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Namespace:  # type: ignore[override]
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            raise ValueError(" ".join(_remarks(unknown, self)))
        return parsed


def new_parser(groups: Iterable[Any]) -> HfArgumentParser:
    """A parser of the flags that are fields of the dataclasses `groups`."""
    return _FlagParser(groups, add_help=False, allow_abbrev=False)


def parse(words: list[str], groups: Iterable[Any]) -> tuple[Any, ...]:
    """Parses flags. Of a flag that is there more than once, the last value counts.

    Args:
        words: of a command line. There is no recipe among them: see `flags_of_words`.
        groups: dataclasses whose fields are the flags.

    Returns:
        One instance of each of `groups`, in their order.

    Raises:
        ValueError: there is no such flag, or a flag has a value that cannot be used.
    """
    parser = new_parser(groups)
    _, unknown = parser.parse_known_args(words)
    if unknown:
        raise ValueError(" ".join(_remarks(unknown, parser)))
    try:
        return parser.parse_args_into_dataclasses(words, look_for_args_file=False)
    # TrainingArguments raises these, e.g. for "inf" and for packages that are not installed.
    except (ArithmeticError, AttributeError, ImportError, LookupError, OSError, TypeError) as error:
        raise ValueError(f"A flag has a value that cannot be used ({type(error).__name__}: {error}).") from error


def names_in(words: list[str], groups: Iterable[Any]) -> set[str]:
    """Names of the fields of `groups` that the flags among these words set."""
    parser = new_parser(groups)
    for action in parser._actions:
        action.default = SUPPRESS
    return set(vars(parser.parse_known_args(words)[0]))


def _remarks(unknown: list[str], parser: ArgumentParser) -> list[str]:
    """Messages on unknown flags, one for each, or on words that belong to no flag."""
    known = sorted(name for action in parser._actions for name in action.option_strings if name.startswith("--"))
    flags = [word.split("=")[0] for word in unknown if word.startswith("-")]
    if not flags:
        return [f"{unknown[0]!r} belongs to no flag." + (_NO_RECIPE if isinstance(parser, _FlagParser) else "")]
    remarks = []
    for flag in flags:
        now = _RENAMED.get(flag.strip("-").replace("-", "_"))
        remarks.append(
            f"There is no flag {flag}: " + (f"use {now}." if now else f"did you mean {nearest(flag, known, 1)[0]}?")
        )
    return remarks
