import pytest
from huggingface_hub import HfApi

from modeling_data2vec_generic.commands import console
from modeling_data2vec_generic.hub.access import Repository, open_repository
from modeling_data2vec_generic.hub.push import PushError, push_directory, upload

from ..loopback_hub import TOKEN
from ..tiny import tiny_encoder

pytestmark = pytest.mark.fast

WHERE = Repository("tester/digits")


@pytest.fixture
def model(tmp_path):
    """A folder of an encoder, with a card."""
    folder = tmp_path / "digits"
    tiny_encoder("vit").save_pretrained(folder)
    (folder / "README.md").write_text('My card.\n\n```python\nAutoModel.from_pretrained("digits")\n```\n')
    return folder


def test_push__is_one_commit_with_the_card_for_the_hub(hub, model):
    open_repository(WHERE)
    push_directory(model, WHERE, message="First")
    repo = hub.repos["tester/digits"]
    assert repo.titles == ["First"]
    assert repo.files["model.safetensors"] == (model / "model.safetensors").read_bytes()
    assert b'My card.\n\n```python\nAutoModel.from_pretrained("tester/digits")' in repo.files["README.md"]


def test_upload__leaves_nothing_of_weights_that_it_replaces(hub):
    open_repository(WHERE)
    upload({"model.safetensors": b"old", "figures/old.png": b"old", "notes.md": b"kept"}, WHERE, "First")
    upload({"model-00001-of-00002.safetensors": b"new"}, WHERE, "Second")
    assert set(hub.repos["tester/digits"].files) == {"model-00001-of-00002.safetensors", "notes.md"}


@pytest.mark.parametrize("trouble", ["broken_uploads", "refused_commits"])
def test_upload__that_breaks_off_is_tried_again(hub, model, trouble):
    setattr(hub, trouble, 2)
    open_repository(WHERE)
    push_directory(model, WHERE)
    assert getattr(hub, trouble) == 0
    assert "model.safetensors" in hub.repos["tester/digits"].files


@pytest.mark.parametrize("trouble", ["broken_uploads", "refused_commits"])
def test_upload__that_keeps_breaking_off_says_how_to_push_again(hub, model, trouble):
    setattr(hub, trouble, 100)
    repository = open_repository(Repository("digits", token=TOKEN, revision="trial"))
    with pytest.raises(PushError) as caught:
        push_directory(model, repository, "encoder")
    message = str(caught.value)
    assert message.startswith("tester/digits was not pushed: ")
    again = f"data2vec push {model} --hub_model_id tester/digits --hub_content encoder --hub_revision trial"
    assert message.endswith(f"Everything is saved in {model}: push it with `{again}`.")
    assert caught.value.__suppress_context__
    assert TOKEN not in message
    assert hub.repos["tester/digits"].titles == []


def test_command__pushes_a_folder_to_a_repository_of_its_name(hub, model):
    console.main(["push", str(model), "--hub_private_repo"])
    repo = hub.repos["tester/digits"]
    assert repo.private
    assert {"README.md", "config.json", "model.safetensors"} == set(repo.files)


def test_command__ends_with_a_message_and_an_exit_code(hub, model):
    hub.broken_uploads = 100
    with pytest.raises(SystemExit, match="tester/other was not pushed.*push it with `data2vec push") as caught:
        console.main(["push", str(model), "--hub_model_id", "other"])
    assert isinstance(caught.value.code, str)  # which is printed, and the exit code is 1


def test_command__makes_no_repository_for_a_folder_without_a_model(hub, tmp_path):
    with pytest.raises(SystemExit, match="data2vec push: .* holds no model"):
        console.main(["push", str(tmp_path)])
    assert hub.requests == []


def test_model__pushes_itself(hub):
    """`PreTrainedModel.push_to_hub` of transformers, with the token of the environment."""
    tiny_encoder("vit").push_to_hub("digits")
    assert {"config.json", "model.safetensors"} < set(hub.repos["tester/digits"].files)
    assert HfApi().model_info("tester/digits").id == "tester/digits"
