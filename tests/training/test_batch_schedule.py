import logging
import math

import pytest

from modeling_data2vec_generic import Data2VecTrainingArguments
from modeling_data2vec_generic.training.batch_schedule import BatchScaling

pytestmark = pytest.mark.fast


def arguments(tmp_path, **settings):
    schedule = {"ema_decay": 0.999, "ema_end_decay": 0.9999, "ema_anneal_steps": 1000, "warmup_steps": 200}
    return Data2VecTrainingArguments(output_dir=str(tmp_path), **schedule | settings)


def half_life_in_samples(decay, batch):
    return math.log(0.5) / math.log(decay) * batch


def test_scale_to_batch__schedules_take_the_same_number_of_samples(tmp_path):
    scaled = arguments(
        tmp_path, reference_batch_size=512, per_device_train_batch_size=32, gradient_accumulation_steps=2
    )
    BatchScaling(scaled).apply(scaled.train_batch_size * scaled.gradient_accumulation_steps)
    assert scaled.warmup_steps * 64 == 200 * 512
    assert scaled.ema_anneal_steps * 64 == 1000 * 512
    for decay, recipe in ((scaled.ema_decay, 0.999), (scaled.ema_end_decay, 0.9999)):
        assert half_life_in_samples(decay, 64) == pytest.approx(half_life_in_samples(recipe, 512))


def test_scale_to_batch__says_what_it_changed_and_what_not(tmp_path, caplog):
    scaled = arguments(tmp_path, reference_batch_size=512, per_device_train_batch_size=64, learning_rate=1e-3)
    with caplog.at_level(logging.INFO, logger="modeling_data2vec_generic"):
        BatchScaling(scaled).apply(scaled.train_batch_size * scaled.gradient_accumulation_steps)
    assert "batches of 512 samples and this run has 64" in caplog.text
    assert "ema_decay 0.999 -> 0.999875" in caplog.text
    assert "warmup_steps 200 -> 1600" in caplog.text
    assert "ema_anneal_steps 1000 -> 8000" in caplog.text
    assert "learning rate (0.001)" in caplog.text
    assert scaled.learning_rate == 1e-3


def test_scale_to_batch__a_share_of_the_run_and_open_annealing_stay(tmp_path):
    scaled = arguments(tmp_path, reference_batch_size=16, warmup_steps=0.1, ema_anneal_steps=None)
    BatchScaling(scaled).apply(scaled.train_batch_size * scaled.gradient_accumulation_steps)
    assert scaled.warmup_steps == 0.1
    assert scaled.ema_anneal_steps is None


def test_scale_to_batch__without_a_reference_nothing_changes(tmp_path):
    left, before = arguments(tmp_path), arguments(tmp_path)
    BatchScaling(left).apply(left.train_batch_size * left.gradient_accumulation_steps)
    assert left.ema_decay == before.ema_decay
    assert left.warmup_steps == before.warmup_steps


def test_apply__again_begins_with_what_was_written(tmp_path):
    scaled = arguments(tmp_path, reference_batch_size=64)
    scaling = BatchScaling(scaled)
    scaling.apply(32)
    assert scaled.warmup_steps == 400
    scaled.ema_decay = 0.9  # by a trial of a search
    scaling.apply(16)
    assert scaled.warmup_steps == 800
    assert (scaled.ema_decay, scaled.ema_end_decay) == pytest.approx((0.9**0.25, 0.9999**0.25))


def test_reference_batch_size__must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="reference_batch_size=0 must be at least 1"):
        arguments(tmp_path, reference_batch_size=0)
