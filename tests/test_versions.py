"""What differs between versions of other packages, as one version after the other would see it."""

from types import SimpleNamespace

import pytest
import torch
from packaging.version import Version

from modeling_data2vec_generic import versions

pytestmark = pytest.mark.fast


def test_train_loss__is_the_mean_of_the_steps_that_count_in_all_versions(monkeypatch):
    """Ten steps whose losses sum up to 24, two of which were skipped and count for nothing."""
    for version, divisor in (("5.10.1", 10), ("5.19.0", 8)):
        monkeypatch.setattr(versions, "TRANSFORMERS", Version(version))
        trainer = SimpleNamespace(
            state=SimpleNamespace(global_step=10),
            _initial_global_step=2,
            _total_loss_scalar=20.0,
            _tr_loss=torch.tensor(4.0),
        )
        versions.prepare_train_loss(trainer)
        assert (trainer._total_loss_scalar + trainer._tr_loss.item()) / divisor == pytest.approx(3.0)


def test_loader_flags__are_defaults_before_there_were_any(monkeypatch):
    given = SimpleNamespace(dataloader_in_order=False, dataloader_multiprocessing_context="spawn")
    for version, expected in (("5.15.0", (False, "spawn")), ("5.14.1", (True, None))):
        monkeypatch.setattr(versions, "TRANSFORMERS", Version(version))
        names = ("dataloader_in_order", "dataloader_multiprocessing_context")
        assert tuple(versions.loader_flag(given, name) for name in names) == expected


def test_archives__lose_their_names_where_datasets_lists_them(monkeypatch):
    monkeypatch.setattr(versions, "DATASETS", Version("4.5.0"))
    assert versions.without_names_of_archives([("a.png", None, "a"), ("b.zip", "b", ["c"])]) == (
        ("a.png", None, "a"),
        (None, "b", ["c"]),
    )
    monkeypatch.setattr(versions, "DATASETS", Version("4.4.2"))
    assert versions.without_names_of_archives([("a.png", "a"), (None, ["c"])]) == (("a.png", "a"), (None, ["c"]))


def test_checkpointing__of_visible_positions_is_refused_before_5_23(monkeypatch):
    asked = SimpleNamespace(gradient_checkpointing=True)
    monkeypatch.setattr(versions, "TRANSFORMERS", Version("5.22.2"))
    versions.require_checkpointing_of_visible(SimpleNamespace(gradient_checkpointing=False))
    with pytest.raises(ValueError, match="gradient_checkpointing=True does not work with student_input='visible'"):
        versions.require_checkpointing_of_visible(asked)
    monkeypatch.setattr(versions, "TRANSFORMERS", Version("5.23.0"))
    versions.require_checkpointing_of_visible(asked)
