from types import SimpleNamespace

import pytest

from ..loopback_hub import TOKEN, LoopbackHub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that this process talks to, with its token, for the time of a test."""
    with LoopbackHub() as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
        without_waiting = SimpleNamespace(sleep=lambda seconds: None)
        monkeypatch.setattr("huggingface_hub.utils._http.time", without_waiting)  # between attempts
        monkeypatch.setattr("modeling_data2vec_generic.hub.push.sleep", lambda seconds: None)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running
