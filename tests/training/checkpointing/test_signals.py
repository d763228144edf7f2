"""Handlers of signals: those of a training process and of loader workers."""

import signal
from typing import Any

import pytest

from modeling_data2vec_generic.training.checkpointing.signals import init_worker

from ..small_runs import Kill, Killed, trainer


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]


def test_handlers__are_taken_away_when_training_fails(tmp_path):
    before = handlers()
    with pytest.raises(Killed):
        trainer(tmp_path, callbacks=[Kill(1)], save_strategy="no").train()
    assert handlers() == before


def test_workers__outlive_sigusr1(monkeypatch):
    former = signal.getsignal(signal.SIGUSR1)
    try:
        init_worker(None, 0)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, former)
