"""Weights come from safetensors: a pickle that would run code is never read."""

import ast
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForPreTraining

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining, Data2VecGenericModel
from modeling_data2vec_generic.training.arguments import ModelArguments
from modeling_data2vec_generic.training.encoders import load_encoder

from ..tiny import tiny_encoder
from ..traps import WritesFile


@pytest.fixture
def trap(tmp_path: Path):
    """A pickle of this kind of weights, and a check that it was not read."""
    written = tmp_path / "written"
    yield {"weight": WritesFile(written)}
    assert not written.exists()


def test_trap__would_run(tmp_path):
    torch.save({"weight": WritesFile(tmp_path / "written")}, tmp_path / "pickle")
    torch.load(tmp_path / "pickle", weights_only=False)
    assert (tmp_path / "written").exists()


def pickled(folder: Path, content: object, name: str = "pytorch_model.bin") -> Path:
    """The folder with a pickle in the place of its safetensors."""
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / name)
    return folder


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_encoder__of_a_pickle_is_refused_with_the_way_to_convert_it(name, tmp_path, trap):
    tiny_encoder("vit").save_pretrained(tmp_path / "vit")
    folder = pickled(tmp_path / "vit", trap, name)
    with pytest.raises(ValueError, match=rf"{name}, a pickle.*use_safetensors=False\)\.save_pretrained"):
        load_encoder(ModelArguments(model_name_or_path=str(folder)))


def test_encoder__is_read_from_safetensors_where_there_is_a_pickle_too(tmp_path, trap):
    tiny_encoder("vit").save_pretrained(tmp_path)
    torch.save(trap, tmp_path / "pytorch_model.bin")
    load_encoder(ModelArguments(model_name_or_path=str(tmp_path)))


@pytest.mark.parametrize(
    "loader", [Data2VecGenericForPreTraining, Data2VecGenericModel, AutoModel, AutoModelForPreTraining]
)
def test_model__of_a_pickle_is_refused(loader, tmp_path, trap):
    config = Data2VecGenericConfig()
    Data2VecGenericForPreTraining(config, tiny_encoder("vit")).save_pretrained(tmp_path / "model")
    folder = pickled(tmp_path / "model", trap)
    with pytest.raises(ValueError, match="a pickle, which is not read"):
        loader.from_pretrained(folder)


def test_model__converted_as_the_message_says_can_be_loaded(tmp_path):
    encoder = tiny_encoder("vit")
    encoder.save_pretrained(tmp_path / "vit")
    folder = pickled(tmp_path / "vit", encoder.state_dict())
    AutoModel.from_pretrained(folder, use_safetensors=False).save_pretrained(tmp_path / "converted")
    loaded = load_encoder(ModelArguments(model_name_or_path=str(tmp_path / "converted")))
    assert torch.equal(next(loaded.parameters()), next(encoder.parameters()))


ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "run_pretraining.py", ROOT / "run_finetune.py"]
for part in ("modeling_data2vec_generic", "examples", "benchmarks"):
    SOURCES += sorted((ROOT / part).rglob("*.py"))
NODES = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def keywords(function: str) -> list[dict[str, str]]:
    """The keyword arguments of every call of a function in our sources, as source text."""
    called = [node for node in NODES if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(function)]
    return [{str(keyword.arg): ast.unparse(keyword.value) for keyword in node.keywords} for node in called]


def test_sources__pass_trust_remote_code_on_and_never_turn_it_on():
    given = [arguments["trust_remote_code"] for arguments in keywords("") if "trust_remote_code" in arguments]
    assert len(given) >= 4
    assert "True" not in given


def test_sources__unpickle_nothing():
    names = [alias.name for node in NODES if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in NODES if isinstance(node, ast.ImportFrom)]
    assert "torch" in names
    assert not {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "pandas"} & set(names)
    assert all(arguments.get("weights_only") == "True" for arguments in keywords("torch.load"))
    assert all(arguments.get("allow_pickle") == "False" for arguments in keywords("np.load"))


def test_sources__load_weights_from_safetensors_only():
    models = [keywords(f"{name}.from_pretrained") for name in ("AutoModel", "whole_class")]
    assert all(models)
    assert all(arguments["use_safetensors"] == "True" for calls in models for arguments in calls)
