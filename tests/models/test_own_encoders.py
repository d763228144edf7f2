"""Encoders that are not in transformers: that of docs/own_encoder.md, from its class and from a saved folder."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForPreTraining, PreTrainedConfig, PreTrainedModel, ViTConfig
from transformers.modeling_outputs import BaseModelOutput

from modeling_data2vec_generic import Data2VecGenericConfig, Data2VecGenericForPreTraining, Data2VecGenericModel
from modeling_data2vec_generic.hub.layout import repository_files
from modeling_data2vec_generic.layout_data2vec_generic import UnsupportedBackboneError
from modeling_data2vec_generic.training.arguments import ModelArguments
from modeling_data2vec_generic.training.encoders import load_encoder

from ..tiny import image_folder, run

DOCUMENT = (Path(__file__).parents[2] / "docs" / "own_encoder.md").read_text(encoding="utf-8")
VISIBLE = {"student_input": "visible", "predictor": "conv", "decoder_dim": 16, "decoder_groups": 2, "num_masks": 2}


def documented_code(name: str) -> str:
    """The Python code between two HTML comments of the document."""
    return re.search(rf"<!-- {name}: begin -->\n```python\n(.*?)```\n<!-- {name}: end -->", DOCUMENT, re.DOTALL)[1]


@pytest.fixture(scope="module", autouse=True)
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("data"))
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the document has been followed: my_encoder.py, and output/my_encoder with weights and code."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "my_encoder.py").write_text(documented_code("own encoder"), encoding="utf-8")
    code = "import my_encoder\nassert my_encoder.__file__\n" + documented_code("own encoder saved")
    # In a process of its own: it marks the classes as ones that are saved with their code.
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def mine(workplace: Path) -> Iterator[ModuleType]:
    """The document's module, imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(workplace)
        yield importlib.import_module("my_encoder")
        sys.modules.pop("my_encoder")


@pytest.fixture(scope="module")
def finished(workplace: Path) -> Any:
    """The trainer of a finished run from the folder; the run is in output/mine."""
    images = ["--train_dir", str(image_folder(workplace / "images"))]
    flags = ["--model_name_or_path", str(workplace / "output/my_encoder"), "--trust_remote_code", *images]
    return run(*flags, output_dir=workplace / "output/mine")


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    expected = other.state_dict()
    assert set(one.state_dict()) == set(expected)
    assert [name for name, tensor in one.state_dict().items() if not torch.equal(tensor, expected[name])] == []


# --- as a class


def test_document__shows_an_encoder_in_20_lines():
    assert len([line for line in documented_code("own encoder").splitlines() if line.strip()]) <= 20


@pytest.mark.parametrize("settings", [{}, VISIBLE], ids=["mask_token", "visible"])
def test_own_encoder__trains_when_it_is_passed(settings, mine):
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(**settings), encoder=mine.MyEncoder(mine.MyConfig()))
    assert type(model.encoder) is type(model.teacher) is mine.MyEncoder
    mask = torch.arange(16).expand(2, settings.get("num_masks", 1), 16) % 3 == 1
    model.train()(mask, pixel_values=torch.randn(2, 3, 16, 16)).loss.backward()
    lacking = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert lacking == []
    assert {name.split(".")[0] for name, weight in model.encoder.named_parameters() if weight.grad is not None} == {
        "patch_embeddings",
        "positions",
        "encoder",
    }


def test_own_encoder__passed_without_registration_is_saved_but_not_loaded_without_its_class(mine, tmp_path):
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), encoder=mine.MyEncoder(mine.MyConfig()))
    model.encoder.save_pretrained(tmp_path / "encoder")
    assert_same_weights(mine.MyEncoder.from_pretrained(tmp_path / "encoder"), model.encoder)
    model.save_pretrained(tmp_path / "full")
    message = "model_type='my_encoder', which transformers does not know.*AutoConfig.register and AutoModel.register"
    with pytest.raises(ValueError, match=message):
        Data2VecGenericForPreTraining.from_pretrained(tmp_path / "full", trust_remote_code=True)


# --- from a folder


def test_folder__is_trained_and_leaves_an_encoder_of_its_own_class(finished, workplace):
    student = finished.model.encoder
    assert type(student).__name__ == "MyEncoder"
    saved = AutoModel.from_pretrained(workplace / "output/mine/encoder", trust_remote_code=True)
    assert type(saved).__name__ == "MyEncoder"
    assert_same_weights(saved, student)
    before = AutoModel.from_pretrained(workplace / "output/my_encoder", trust_remote_code=True).state_dict()
    assert all(not torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


LOADERS = {
    "AutoModel": (AutoModel, Data2VecGenericModel),
    "AutoModelForPreTraining": (AutoModelForPreTraining, Data2VecGenericForPreTraining),
    "Data2VecGenericModel": (Data2VecGenericModel, Data2VecGenericModel),
    "Data2VecGenericForPreTraining": (Data2VecGenericForPreTraining, Data2VecGenericForPreTraining),
}


@pytest.mark.parametrize("name", LOADERS)
def test_full_model__loads_with_its_encoder(name, finished, workplace):
    loader, expected = LOADERS[name]
    loaded = loader.from_pretrained(workplace / "output/mine", trust_remote_code=True)
    assert type(loaded) is expected
    assert type(loaded.encoder).__name__ == type(loaded.config.encoder_config).__name__.replace("Config", "Encoder")
    assert_same_weights(loaded.encoder, finished.model.encoder)
    if expected is Data2VecGenericForPreTraining:
        assert_same_weights(loaded, finished.model)


@pytest.mark.parametrize("name", ["AutoModelForPreTraining", "Data2VecGenericForPreTraining"])
def test_full_model__loads_from_its_folder_of_a_repository(name, finished, workplace, tmp_path):
    for path, file in repository_files(workplace / "output/mine").items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file if isinstance(file, bytes) else file.read_bytes())
    loader, _ = LOADERS[name]
    loaded = loader.from_pretrained(tmp_path, subfolder="pretraining", trust_remote_code=True)
    assert type(loaded.encoder).__name__ == "MyEncoder"
    assert_same_weights(loaded, finished.model)
    assert_same_weights(AutoModel.from_pretrained(tmp_path, trust_remote_code=True), finished.model.encoder)


def test_checkpoint__that_is_pushed_gets_an_encoder_of_its_own_class(finished, workplace, tmp_path):
    for path in (workplace / "output/mine").glob("*"):
        if path.is_file():
            shutil.copy(path, tmp_path)
    finished.complete_checkpoint(tmp_path)
    saved = AutoModel.from_pretrained(tmp_path / "encoder", trust_remote_code=True)
    assert_same_weights(saved, finished.model.encoder)


def test_full_model__takes_changes_to_its_configuration(finished, workplace):
    loaded = Data2VecGenericForPreTraining.from_pretrained(
        workplace / "output/mine", trust_remote_code=True, loss_beta=3.0
    )
    assert loaded.config.loss_beta == 3.0
    assert_same_weights(loaded, finished.model)


def test_full_model__is_saved_again_with_the_code_of_its_encoder(finished, workplace, tmp_path):
    loaded = Data2VecGenericForPreTraining.from_pretrained(workplace / "output/mine", trust_remote_code=True)
    loaded.save_pretrained(tmp_path)
    again = Data2VecGenericForPreTraining.from_pretrained(tmp_path, trust_remote_code=True)
    assert_same_weights(again, finished.model)


def test_full_model__is_one_to_go_on_from(finished, workplace):
    arguments = ModelArguments(model_name_or_path=str(workplace / "output/mine"), trust_remote_code=True)
    assert_same_weights(load_encoder(arguments), finished.model.encoder)


WITHOUT_THE_PACKAGE = """
import sys
sys.modules["modeling_data2vec_generic"] = None  # importing it fails, as where it is not installed
import torch
from transformers import AutoModel, AutoModelForPreTraining
models = [
    AutoModel.from_pretrained("output/mine/encoder", trust_remote_code=True),
    AutoModel.from_pretrained("output/mine", trust_remote_code=True).encoder,
    AutoModelForPreTraining.from_pretrained("output/mine", trust_remote_code=True).encoder,
]
torch.save([(type(model).__name__, model.state_dict()) for model in models], "loaded.pt")
"""


def test_both__load_where_the_package_is_not_installed(finished, workplace):
    (workplace / "elsewhere").mkdir()
    (workplace / "elsewhere" / "output").symlink_to(workplace / "output")
    environment = os.environ | {"HF_MODULES_CACHE": str(workplace / "modules"), "PYTHONPATH": ""}
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_PACKAGE],
        cwd=workplace / "elsewhere",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    expected = finished.model.encoder.state_dict()
    for name, weights in torch.load(workplace / "elsewhere/loaded.pt"):
        assert name == "MyEncoder"
        assert all(torch.equal(tensor, expected[key]) for key, tensor in weights.items())


def test_config_name__gives_a_new_encoder_of_its_own_class(workplace, tmp_path):
    flags = ["--config_name", str(workplace / "output/my_encoder"), "--trust_remote_code"]
    flags += ["--config_overrides", "hidden_size=32", "--train_dir", str(image_folder(tmp_path / "images"))]
    trainer = run(*flags, output_dir=tmp_path / "out")
    assert type(trainer.model.encoder).__name__ == "MyEncoder"
    assert trainer.model.encoder.config.hidden_size == 32
    loaded = AutoModel.from_pretrained(tmp_path / "out" / "encoder", trust_remote_code=True)
    assert_same_weights(loaded, trainer.model.encoder)


# --- code is run only with trust_remote_code


@pytest.mark.parametrize("flag", ["--model_name_or_path", "--config_name"])
def test_run__does_not_run_code_unless_told_to(flag, workplace, tmp_path):
    flags = [flag, str(workplace / "output/my_encoder"), "--train_dir", str(image_folder(tmp_path / "images"))]
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        run(*flags, output_dir=tmp_path / "out")


@pytest.mark.parametrize("loader", [Data2VecGenericModel, Data2VecGenericForPreTraining, AutoModel])
def test_full_model__does_not_run_code_unless_told_to(loader, finished, workplace):
    with pytest.raises(ValueError, match=r"model_type='my_encoder'.*trust_remote_code=True"):
        loader.from_pretrained(workplace / "output/mine")


OWN_VIT = """
from transformers import PreTrainedModel, ViTConfig
from torch import nn
class OwnConfig(ViTConfig):
    pass
class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    main_input_name = "pixel_values"
    def __init__(self, config):
        super().__init__(config)
        self.patch_embeddings = nn.Conv2d(3, config.hidden_size, 8, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(config.hidden_size, config.hidden_size)) for _ in range(2))
        self.post_init()
    def forward(self, pixel_values):
        hidden = self.patch_embeddings(pixel_values).flatten(2).transpose(1, 2)
        for block in self.blocks:
            hidden = block(hidden)
        return (hidden,)
"""


def test_own_class__under_the_name_of_a_known_type_is_taken_if_it_is_trusted(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own_vit.py").write_text(OWN_VIT)
    settings = ViTConfig(hidden_size=16, image_size=32).to_dict()
    settings["auto_map"] = {"AutoConfig": "own_vit.OwnConfig", "AutoModel": "own_vit.OwnModel"}
    (tmp_path / "own" / "config.json").write_text(json.dumps(settings))
    config = load_encoder_from_scratch(tmp_path / "own")
    assert type(config).__name__ == "OwnModel"
    model = Data2VecGenericForPreTraining(Data2VecGenericConfig(), config)
    model.save_pretrained(tmp_path / "full")
    loaded = Data2VecGenericForPreTraining.from_pretrained(tmp_path / "full", trust_remote_code=True)
    assert type(loaded.encoder).__name__ == "OwnModel"
    assert_same_weights(loaded, model)


def load_encoder_from_scratch(folder: Path) -> PreTrainedModel:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    return AutoModel.from_config(config, trust_remote_code=True)


# --- errors name what is missing


class OwnConfig(PreTrainedConfig):
    model_type = "incomplete"
    hidden_size: int = 16


class WidthlessConfig(PreTrainedConfig):
    model_type = "incomplete"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.linear(hidden)


class Incomplete(PreTrainedModel):
    """A complete encoder, of which each test takes one thing away."""

    config_class = OwnConfig

    def __init__(self, config, blocks: nn.Module | None = None, content: str = "words"):
        super().__init__(config)
        self.content = content
        self.register_module(content, nn.Embedding(20, 16))
        self.blocks = nn.ModuleList(Block() for _ in range(3)) if blocks is None else blocks
        self.post_init()

    def forward(self, input_ids: Tensor) -> BaseModelOutput:
        hidden = getattr(self, self.content)(input_ids)
        for block in self.blocks:
            hidden = block(hidden)
        return BaseModelOutput(hidden)


class Complete(Incomplete):
    def get_input_embeddings(self) -> nn.Module:
        return self.words


def built(encoder: PreTrainedModel) -> Data2VecGenericForPreTraining:
    return Data2VecGenericForPreTraining(Data2VecGenericConfig(), encoder=encoder)


def test_encoder__with_blocks_content_and_width_is_taken():
    model = built(Complete(OwnConfig()))
    mask = torch.tensor([[True, False, True, False]])
    assert model(mask, input_ids=torch.tensor([[3, 4, 5, 6]])).loss.item() > 0


def test_encoder__without_a_list_of_blocks_is_refused():
    with pytest.raises(UnsupportedBackboneError, match=r"Complete .*'incomplete'.* no stack of blocks.*ModuleList"):
        built(Complete(OwnConfig(), blocks=nn.Sequential(Block(), Block())))


def test_encoder__without_a_content_module_is_refused():
    with pytest.raises(UnsupportedBackboneError, match=r"Incomplete .*does not say where its content is embedded.*"):
        built(Incomplete(OwnConfig()))


def test_encoder__that_names_its_content_module_as_others_do_is_taken():
    assert built(Incomplete(OwnConfig(), content="patch_embeddings")).layout.content == "patch_embeddings"


def test_encoder__without_a_width_is_refused():
    with pytest.raises(UnsupportedBackboneError, match=r"how wide its blocks are.*hidden_size"):
        built(Complete(WidthlessConfig()))


def test_encoder__that_does_not_run_its_blocks_is_refused():
    class Idle(Complete):
        def forward(self, input_ids: Tensor) -> BaseModelOutput:
            return BaseModelOutput(self.words(input_ids))

    with pytest.raises(ValueError, match=r"did not call blocks.0"):
        built(Idle(OwnConfig()))(torch.tensor([[True, False]]), input_ids=torch.tensor([[3, 4]]))
