"""What the tests of data share: their own cache, and a look at the warnings."""

import pytest
from transformers.utils import logging


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def transformers_log(caplog):
    """caplog for transformers' loggers, which do not hand on to the root logger, where caplog listens."""
    logging.enable_propagation()
    with caplog.at_level("WARNING"):
        yield caplog
    logging.disable_propagation()
