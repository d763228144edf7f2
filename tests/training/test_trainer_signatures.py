"""What this package expects of transformers' insides, so that a new version fails here and not in a run.

All methods of Trainer that our trainers override, all private ones that they call, all private attributes that they
read, and all private names of other libraries. If a test fails after an upgrade: read what has changed in the named
method, adapt what uses it, then write down the new signature here and raise the upper bound of `transformers` in
setup.cfg.
"""

import argparse
import ast
import inspect
from collections import defaultdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch
import transformers
from packaging.version import Version
from transformers import Data2VecAudioModel, PreTrainedConfig, PreTrainedModel, Trainer
from transformers.models.auto import auto_factory
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2FeatureEncoder

import modeling_data2vec_generic
from modeling_data2vec_generic.finetuning.arguments import FinetuningArguments
from modeling_data2vec_generic.finetuning.trainer import FinetuningTrainer
from modeling_data2vec_generic.versions import CHECKPOINTING_NAMES, TRANSFORMERS

from ..tiny import tiny_encoder
from .small_runs import trainer as new_trainer

PACKAGE = Path(modeling_data2vec_generic.__file__).parent

# Methods of Trainer, private and public: parameters and defaults.
METHODS = {
    "_evaluate": "(self, trial, ignore_keys_for_eval, skip_scheduler=False)",
    "_finalize_training": "(self, trial, num_train_samples, start_time)",
    "_finish_current_push": "(self)",
    "_get_dataloader": "(self, dataset, description, batch_size, sampler_fn=None, is_training=False, "
    "dataloader_key=None)",
    "_get_eval_sampler": "(self, eval_dataset)",
    "_get_grad_norm": "(self, model, grad_norm=None)",
    "_get_num_items_in_batch": "(self, batch_samples, device)",
    "_get_output_dir": "(self, trial)",
    "_get_train_sampler": "(self, train_dataset=None)",
    "_inner_training_loop": "(self, batch_size=None, args=None, resume_from_checkpoint=None, trial=None, "
    "ignore_keys_for_eval=None)",
    "_load_best_model": "(self)",
    "_load_rng_state": "(self, checkpoint)",
    "_maybe_log_save_evaluate": "(self, tr_loss, grad_norm, model, trial, epoch, ignore_keys_for_eval, start_time, "
    "learning_rate=None)",
    "_move_model_to_device": "(self, model, device)",
    "_push_from_checkpoint": "(self, checkpoint_folder)",
    "_run_epoch": "(self, model, epoch, train_dataloader, steps_in_epoch, num_update_steps_per_epoch, trial, "
    "ignore_keys_for_eval, start_time, resume_from_checkpoint, epochs_trained, steps_trained_in_current_epoch)",
    "_save": "(self, output_dir=None, state_dict=None)",
    "_save_checkpoint": "(self, model, trial)",
    "call_model_init": "(self, trial=None)",
    "compute_loss": "(self, model, inputs, return_outputs=False, num_items_in_batch=None)",
    "create_accelerator_and_postprocess": "(self)",
    "create_optimizer": "(self, model=None)",
    "create_scheduler": "(self, num_training_steps, optimizer=None)",
    "evaluation_loop": "(self, dataloader, description, prediction_loss_only=None, ignore_keys=None, "
    "metric_key_prefix='eval')",
    "floating_point_ops": "(self, inputs)",
    "get_batch_samples": "(self, epoch_iterator, num_batches, device)",
    "get_decay_parameter_names": "(self, model)",
    "get_total_train_batch_size": "(self, args)",
    "get_train_dataloader": "(self)",
    "init_hf_repo": "(self, token=None, private=None)",
    "log": "(self, logs, start_time=None)",
    "prediction_step": "(self, model, inputs, prediction_loss_only, ignore_keys=None)",
    "push_to_hub": "(self, commit_message='End of training', blocking=True, token=None, revision=None, private=None, "
    "**kwargs)",
    "save_metrics": "(self, split, metrics, combined=True)",
    "save_model": "(self, output_dir=None, _internal_call=False)",
    "save_state": "(self)",
    "set_initial_training_values": "(self, args, dataloader)",
    "train": "(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None)",
    "training_step": "(self, model, inputs, num_items_in_batch=None)",
}

# Private attributes of Trainer, and the methods that assign them.
ATTRIBUTES = {
    "_created_lr_scheduler": {"__init__", "create_scheduler", "_prepare_for_training"},
    "_globalstep_last_logged": {"_inner_training_loop", "_maybe_log_save_evaluate"},
    "_initial_global_step": {"_inner_training_loop"},
    "_total_loss_scalar": {"_inner_training_loop", "_maybe_log_save_evaluate", "_finalize_training"},
    "_tr_loss": {"_inner_training_loop", "_run_epoch"},
    "_train_batch_size": {"__init__", "train", "_update_auto_batch_size", "_hp_search_setup"},
}
if TRANSFORMERS < Version("5.19"):  # see versions.py
    del ATTRIBUTES["_initial_global_step"]


# Private names elsewhere: where they are found, and the signature of those that are called with arguments.
def layer_with_activation_checkpointing() -> Any:
    model = tiny_encoder("vit")
    getattr(model, f"{CHECKPOINTING_NAMES[0]}_enable")()
    return next(module for module in model.modules() if getattr(module, "gradient_checkpointing", False))


ELSEWHERE: dict[str, tuple[Any, str | None]] = {
    "_BaseAutoModelClass": (auto_factory, None),
    "_BatchNorm": (torch.nn.modules.batchnorm, None),
    "_actions": (argparse.ArgumentParser(), None),
    "_attn_implementation": (PreTrainedConfig(), None),
    "_C": (torch, None),  # of which `DisableTorchFunctionSubclass` is documented
    "_auto_class": (PreTrainedModel, None),
    "_buffers": (torch.nn.Module(), None),
    "_dynamo": (torch, None),
    "_conv_forward": (torch.nn.Conv1d(1, 1, 1), "(input, weight, bias)"),
    "_fingerprint": (datasets.Dataset.from_dict({}), None),
    "_foreach_add_": (torch, None),
    "_foreach_copy_": (torch, None),
    "_foreach_lerp_": (torch, None),
    "_foreach_norm": (torch, None),
    "_freeze_parameters": (Wav2Vec2FeatureEncoder, "(self)"),
    "_from_config": (PreTrainedModel, "(config, **kwargs)"),
    "_gradient_checkpointing_func": (layer_with_activation_checkpointing(), None),
    "_model_mapping": (transformers.AutoModelForImageClassification, None),
    "_init_weights": (PreTrainedModel, "(self, module)"),
    "_mask_hidden_states": (Data2VecAudioModel, "(self, hidden_states, mask_time_indices=None, attention_mask=None)"),
    "_indices": (datasets.Dataset.from_dict({}), None),
    "_no_split_modules": (PreTrainedModel, None),
    "_parameters": (torch.nn.Module(), None),
    "_split_generators": (datasets.DatasetBuilder, None),
    "_supports_sdpa": (PreTrainedModel, None),
    "_version": (torch.zeros(()), None),
}
DOCUMENTED = {"_exit", "_fields", "_replace"}  # of os and of named tuples: private by their names only


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def assigned_by(trainer_class: type) -> dict[str, set[str]]:
    """Private attributes that a class assigns to itself, and in which methods."""
    found: dict[str, set[str]] = defaultdict(set)
    (body,) = ast.parse(inspect.getsource(trainer_class)).body
    for method in ast.walk(body):
        if isinstance(method, ast.FunctionDef):
            for node in ast.walk(method):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_private(node.attr):
                    if ast.unparse(node.value) == "self":
                        found[node.attr].add(method.name)
    return dict(found)


@cache
def parsed() -> list[tuple[str, ast.Module]]:
    return [(str(path.relative_to(PACKAGE)), ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))]


@cache
def our_trainers() -> dict[str, tuple[str, ast.ClassDef]]:
    """File and definition of our classes that are Trainers, by name."""
    classes = {
        node.name: (file, node) for file, tree in parsed() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }
    found: dict[str, tuple[str, ast.ClassDef]] = {}
    while True:
        more = {
            name: (file, node)
            for name, (file, node) in classes.items()
            if name not in found and {ast.unparse(base) for base in node.bases} & {"Trainer", *found}
        }
        if not more:
            return found
        found |= more


def overridden(definition: ast.ClassDef) -> set[str]:
    """Methods of a class that Trainer has too, or that METHODS says it has."""
    own = {node.name for node in definition.body if isinstance(node, ast.FunctionDef)}
    return {name for name in own if hasattr(Trainer, name) or name in METHODS}


@cache
def used_names() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Names of Trainer, then private names of other objects, each with the functions that use it."""
    of_trainer: dict[str, set[str]] = defaultdict(set)
    elsewhere: dict[str, set[str]] = defaultdict(set)
    trainers = our_trainers()
    own: set[str] = set()
    for file, definition in trainers.values():
        for name in overridden(definition) - {"__init__"}:
            of_trainer[name].add(f"{file}: {definition.name}.{name}")
        own |= {node.name for node in definition.body if isinstance(node, ast.FunctionDef)}
        own |= {node.attr for node in ast.walk(definition) if is_assignment_to_self(node)}
    theirs = {*vars(Trainer), *assigned_by(Trainer), *METHODS, *ATTRIBUTES}
    for file, tree in parsed():
        for scope, node in scopes(tree):
            if isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    if is_private(alias.name):
                        elsewhere[alias.name].add(file)
            if not isinstance(node, ast.Attribute) or not is_private(node.attr):
                continue
            user, value = f"{file}: {'.'.join(scope)}", ast.unparse(node.value)
            if value.split(".")[-1] == "trainer" or (scope and scope[0] in trainers and value in ("self", "super()")):
                if node.attr in theirs or node.attr not in own:
                    of_trainer[node.attr].add(user)
            elif value not in ("self", "cls") and node.attr not in DOCUMENTED:
                elsewhere[node.attr].add(user)
    return dict(of_trainer), dict(elsewhere)


def is_assignment_to_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"


def scopes(tree: ast.AST, scope: tuple[str, ...] = ()) -> Any:
    """All nodes, each with the names of the classes and functions around it."""
    for node in ast.iter_child_nodes(tree):
        yield scope, node
        inner = (*scope, node.name) if isinstance(node, ast.ClassDef | ast.FunctionDef) else scope
        yield from scopes(node, inner)


def signature(function: Any) -> str:
    """Parameters and defaults, without types."""
    found = inspect.signature(function)
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in found.parameters.values()]
    return str(found.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def changes(trainer_class: Any) -> list[str]:
    """What is not as expected in a Trainer, each with our functions that rely on it."""
    used, _ = used_names()
    found = []
    for name, expected in METHODS.items():
        method = getattr(trainer_class, name, None)
        there = "not there" if method is None else signature(method)
        if there != expected:
            found.append(message(f"Trainer.{name}", f"{name}{expected}", there, used[name]))
    assigned = assigned_by(trainer_class)
    for name, methods in ATTRIBUTES.items():
        there = ", ".join(sorted(assigned.get(name, set())))
        if assigned.get(name, set()) != methods:
            there = f"assigned in {there}" if there else "not there"
            expected = f"to be assigned in {', '.join(sorted(methods))}"
            found.append(message(f"Trainer.{name}", expected, there, used[name]))
    return found


def message(name: str, expected: str, there: str, users: set[str]) -> str:
    return (
        f"transformers {transformers.__version__} changed {name}: expected {expected}; it is {there}. "
        f"Relied on by {'; '.join(sorted(users))}."
    )


def test_trainer__has_what_ours_override_and_read():
    assert changes(Trainer) == []


def test_names_of_trainer__are_all_written_down():
    used, _ = used_names()
    missing = {name: users for name, users in used.items() if name not in {*METHODS, *ATTRIBUTES}}
    assert not missing, f"Add to METHODS or ATTRIBUTES, or rename if it is ours and Trainer now has it too: {missing}"
    assert {*METHODS, *ATTRIBUTES} - used.keys() == set()  # and nothing more is


def test_private_names_elsewhere__are_there():
    _, used = used_names()
    assert used.keys() == ELSEWHERE.keys()
    found = []
    for name, (owner, expected) in ELSEWHERE.items():
        there = "not there" if not hasattr(owner, name) else expected and signature(getattr(owner, name))
        if there != expected:
            found.append(message(f"{owner!r}.{name}", str(expected or "to be there"), str(there), used[name]))
    assert found == []


class ChangedTrainer(Trainer):
    def _evaluate(self, ignore_keys_for_eval: Any, trial: Any = None) -> None:  # type: ignore[override]
        self._tr_loss = 0.0


def test_changes__name_what_is_expected_what_is_there_and_who_relies_on_it():
    evaluate, *others = changes(ChangedTrainer)
    assert evaluate == (
        f"transformers {transformers.__version__} changed Trainer._evaluate: expected "
        "_evaluate(self, trial, ignore_keys_for_eval, skip_scheduler=False); it is (self, ignore_keys_for_eval, "
        "trial=None). Relied on by training/base_trainer.py: ResumableTrainer._evaluate."
    )
    (loss,) = [text for text in others if "Trainer._tr_loss:" in text]
    assert "to be assigned in _inner_training_loop, _run_epoch; it is assigned in _evaluate." in loss
    assert "training/monitoring/bad_steps.py: BadSteps.check" in loss
    assert all("not there" in text for text in others if text is not loss)


# --- the tables at the top of the trainers' files


def rows(file: str, heading: str) -> list[str]:
    """First column of a table of a file's docstring, without quotes."""
    (tree,) = [tree for name, tree in parsed() if name == file]
    _, table = str(ast.get_docstring(tree)).split(f"| {heading} |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    assert all(line.count(" | ") == 2 for line in lines), lines
    return [line.split(" | ")[0].strip("| `") for line in lines]


@pytest.mark.parametrize("name", sorted(our_trainers()))
def test_table__has_each_method_that_is_overridden(name):
    file, definition = our_trainers()[name]
    table = rows(file, "Method")
    assert sorted(table) == sorted(overridden(definition))


def test_tables__have_the_callbacks_in_their_order(tmp_path):
    task: Any = SimpleNamespace(collator=lambda training: None, processor=None)
    arguments = FinetuningArguments(output_dir=str(tmp_path), freeze_encoder_steps=1, use_cpu=True, report_to="none")
    model = transformers.AutoModelForImageClassification.from_config(tiny_encoder("vit").config)
    finetuning = FinetuningTrainer(model=model, args=arguments, task=task, encoder=model.vit)
    base = rows("training/base_trainer.py", "Callback")
    for trainer, file in (
        (new_trainer(tmp_path), "training/trainer.py"),
        (finetuning, "finetuning/trainer.py"),
    ):
        kinds = [type(callback) for callback in trainer.callback_handler.callbacks]
        ours = [kind.__name__ for kind in kinds if kind.__module__.startswith("modeling_data2vec_generic")]
        assert ours == [*base, *rows(file, "Callback")]
