"""What the tests of data share: their own cache, and a look at the warnings."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from transformers.utils import logging


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def transformers_log(caplog):
    """caplog for transformers' loggers, which do not hand on to the root logger, where caplog listens."""
    logging.enable_propagation()
    caplog.set_level("WARNING")
    yield caplog
    logging.disable_propagation()


@pytest.fixture
def little_memory():
    """A context in which this process may take so many bytes more than it has; then allocations fail."""

    @contextmanager
    def limited(more: int) -> Iterator[None]:
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (taken + more, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    return limited
