import json
import shutil

import pytest

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining
from modeling_data2vec_generic.hub.layout import is_replaced, model_paths, repository_files

from ..tiny import tiny_encoder

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What a run leaves, with files of everything that must not be pushed."""
    folder = tmp_path_factory.mktemp("finished")
    encoder = tiny_encoder("bert")
    Data2VecGenericForPreTraining(Data2VecGenericConfig(), encoder).save_pretrained(folder)
    encoder.save_pretrained(folder / "encoder")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).write_text("{}")
        (folder / "encoder" / name).write_text("{}")
    (folder / "figures").mkdir()
    (folder / "figures" / "loss.png").write_bytes(b"png")
    for name in ("training_args.bin", "trainer_state.json", "all_results.json", "predictions.jsonl", "my_script.py"):
        (folder / name).write_text("{}")
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / "model.safetensors").write_text("")
    return folder


PROCESSOR = {"tokenizer.json", "tokenizer_config.json", "vocab.txt"}
MODEL = {"config.json", "model.safetensors", *PROCESSOR}


def test_encoder__is_at_the_top_and_nothing_else_but_figures(finished):
    files = repository_files(finished, "encoder")
    assert set(files) == MODEL | {"figures/loss.png"}
    assert all(files[name] == finished / "encoder" / name for name in MODEL)


def test_full_model__has_its_code_beside_it(finished):
    files = repository_files(finished, "full")
    code = {path.name for path in finished.glob("*_data2vec_generic.py")} - {"classification_data2vec_generic.py"}
    assert "modeling_data2vec_generic.py" in code
    assert set(files) == {f"pretraining/{name}" for name in MODEL | code} | {"figures/loss.png"}


def test_full_model__names_its_code_from_the_top_of_the_repository(finished):
    content = repository_files(finished, "full")["pretraining/config.json"]
    pushed, saved = json.loads(content), json.loads((finished / "config.json").read_text())
    assert pushed["auto_map"]["AutoConfig"] == "pretraining/configuration_data2vec_generic.Data2VecGenericConfig"
    assert pushed | {"auto_map": saved["auto_map"]} == saved


def test_both__is_both(finished):
    both = repository_files(finished, "both")
    assert both == repository_files(finished, "full") | repository_files(finished, "encoder")


def test_finetuned_model__is_at_the_top_without_what_quotes_the_data(finished, tmp_path):
    shutil.copytree(finished / "encoder", tmp_path / "run")
    for name in ("trainer_state.json", "predictions.jsonl", "training_args.bin"):
        (tmp_path / "run" / name).write_text("{}")
    assert set(repository_files(tmp_path / "run")) == MODEL


def test_folder__that_is_not_of_a_run_is_whole(finished, tmp_path):
    folder = shutil.copytree(finished / "encoder", tmp_path / "model")
    for name in ("modules.json", "1_Pooling/config.json", ".cache/something"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    assert set(repository_files(folder)) == MODEL | {"modules.json", "1_Pooling/config.json"}


def test_own_encoder__has_its_code_wherever_it_is(tmp_path):
    config = {"model_type": "mine", "auto_map": {"AutoModel": "mine.Mine", "AutoConfig": "other/repo--mine.Config"}}
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["X"], "encoder_config": config}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "mine.py").write_text("from .helper import help")
    (tmp_path / "helper.py").write_text("help = 1")
    (tmp_path / "unrelated.py").write_text("")
    assert {path.name for path in model_paths(tmp_path)} == {
        "config.json",
        "model.safetensors",
        "mine.py",
        "helper.py",
    }


@pytest.mark.parametrize(
    ("missing", "message"),
    [("config.json", "holds no model: config.json"), ("model.safetensors", "holds no weights: model.safetensors")],
)
def test_folder__without_a_model(tmp_path, missing, message):
    for name in {"config.json", "model.safetensors", "trainer_state.json"} - {missing}:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=message):
        repository_files(tmp_path)


def test_run__that_was_stopped_before_its_end(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["Data2VecGenericForPreTraining"]}')
    (tmp_path / "trainer_state.json").write_text("{}")
    with pytest.raises(ValueError, match="no encoder/.*--hub_content full"):
        repository_files(tmp_path)


def test_content__that_is_unknown(finished):
    with pytest.raises(ValueError, match="hub_content='all' is unknown: choose among both, encoder, full"):
        repository_files(finished, "all")


@pytest.mark.parametrize(
    ("path", "replaced"),
    [
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors.index.json", True),
        ("figures/old.png", True),
        ("pretraining/model.safetensors", True),
        ("last-checkpoint/optimizer.pt", False),
        ("checkpoint-2/optimizer.pt", False),
        ("notes.md", False),
        (".gitattributes", False),
        ("my_folder/model.safetensors", False),
    ],
)
def test_replaced__is_what_a_push_would_leave_half(path, replaced):
    assert is_replaced(path, {"model.safetensors": b""}) == replaced
    assert is_replaced("last-checkpoint/optimizer.pt", {"last-checkpoint/model.safetensors": b""})
