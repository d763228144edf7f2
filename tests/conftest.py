import gc
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .loopback_hub import TOKEN, LoopbackHub

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Before torch is imported: tests run side by side, and several threads in each would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

FAST = "mark.fast"  # in the text of each file with a fast test


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m fast`, files without a fast test are not even imported, which would take as long as the fast tests."""
    if config.option.markexpr != "fast" or collection_path.suffix != ".py":
        return None
    return True if FAST not in collection_path.read_text(encoding="utf-8") else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process runs whole files as far as possible, so that what a file makes for all its tests is made once."""
    from xdist.scheduler import WorkStealingScheduling  # which an ordinary run does without

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs of several processes come first. Their file has the slowest fixture, which would be made twice if its tests
    were shared out between processes, as happens to the last ones."""
    items.sort(key=lambda item: "test_global_batch" not in item.nodeid)


@pytest.fixture(scope="module", autouse=True)
def _short_garbage_collections() -> None:
    """Collections leave out what was there before a file's tests, such as imported modules: each run of the Trainer
    begins with a full collection, which would take longer than the run itself."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of data sets that the tests of one file share with nobody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub on the loopback interface that this process talks to, with its token, for the time of a test."""
    with LoopbackHub() as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        # Both keep the address of the Hub that there was when they were made; not all versions have the second one.
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", running.url)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
        # Without waiting between attempts.
        monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
        monkeypatch.setattr("modeling_data2vec_generic.hub.push.sleep", lambda seconds: None)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def transformers_log(caplog):
    """caplog for transformers' loggers, which do not hand on to the root logger, where caplog listens."""
    from transformers.utils import logging  # which imports torch

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
