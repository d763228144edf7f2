import socket

import pytest

from modeling_data2vec_generic.hub.access import Repository, open_repository

from ..loopback_hub import TOKEN, Repo

pytestmark = pytest.mark.fast


def test_repository__is_made_once_and_gets_its_full_id(hub):
    for _ in range(2):
        assert open_repository(Repository("digits", private=True)).model_id == "tester/digits"
    assert hub.repos["tester/digits"].private
    assert hub.repos["tester/digits"].titles == []  # nothing is written to find out whether it can be


def test_repository__with_another_branch(hub):
    opened = open_repository(Repository("tester/digits", revision="trial"))
    assert opened == Repository("tester/digits", revision="trial")
    assert "POST /api/models/tester/digits/branch/trial" in hub.requests


def refusal(repository: Repository) -> str:
    with pytest.raises(ValueError, match="can't be written to") as caught:
        open_repository(repository)
    assert caught.value.__suppress_context__  # one error, not a chain of them
    return str(caught.value)


def test_no_token__says_how_to_get_one(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    message = refusal(Repository("digits"))
    assert "there is none. Log in with `hf auth login`, or set HF_TOKEN" in message


def test_wrong_token__is_not_shown(hub):
    message = refusal(Repository("digits", token="hf_wrong"))
    assert f"{hub.url} does not accept the token (401: " in message
    assert "hf_wrong" not in message


def test_token__that_cannot_be_sent_is_not_shown(hub):
    message = refusal(Repository("digits", token="hf_wr\nong"))
    assert "Illegal header value b'Bearer ***'" in message


def test_token__is_no_part_of_the_text_of_a_repository():
    assert TOKEN not in repr(Repository("digits", token=TOKEN))


@pytest.mark.parametrize("exists", [True, False])
def test_repository_of_others__names_the_remedy(hub, exists):
    if exists:
        hub.repos["google/vit"] = Repo(writable=False)
    message = refusal(Repository("google/vit"))
    assert "'google/vit' can't be written to: the token may not write there (403: You don't have the rights" in message
    assert "--hub_model_id NAMESPACE/NAME" in message


def test_unreachable__names_the_address(hub, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    assert f"{address} can't be reached" in refusal(Repository("digits"))


def test_offline__says_what_to_unset(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(Repository("digits"))
    assert hub.requests == []


def test_name__that_no_repository_can_have(hub):
    assert "my run" in refusal(Repository("my run"))
    assert hub.requests == []
