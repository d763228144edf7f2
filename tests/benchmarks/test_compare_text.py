import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, AutoTokenizer

from benchmarks.compare import rows
from benchmarks.compare.peers.text import train_mlm
from benchmarks.compare.table import Outcome
from benchmarks.compare.tables import text
from benchmarks.compare.tables.text import DATA2VEC, MLM, NEW, WITH_DROPOUT, Parts, TextTable, config_of, word_features
from modeling_data2vec_generic.modalities.text.tokenizer import train_tokenizer

TEXTS = ["a small dog", "a large dog that barks", "the sound of a dog", "small"] * 4


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 270)


@pytest.fixture(scope="module")
def config(tokenizer):
    return config_of({**text.ROFORMER, **text.TINY}, tokenizer)


def test_mlm__leaves_a_plain_encoder_that_has_been_trained(tokenizer, config, tmp_path):
    trained = train_mlm(
        config,
        Dataset.from_dict({"text": TEXTS}),
        tokenizer,
        tmp_path,
        mask_ratio=0.5,
        max_seq_length=6,
        max_steps=3,
        learning_rate=0.1,
        use_cpu=True,
        train_sampling_strategy="group_by_length",
        per_device_train_batch_size=4,
        logging_steps=1,
    )
    assert trained.steps == 3
    assert trained.clock.seconds > 0
    assert trained.final_loss > 0
    encoder, loading = AutoModel.from_pretrained(trained.encoder_dir, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    # Weights that have moved by 0.1 are no longer those of an initialisation with a deviation of 0.02.
    assert encoder.encoder.layer[0].output.dense.weight.std() > 0.05


@pytest.mark.fast
def test_word_features__are_those_of_first_tokens(tokenizer, config):
    torch.manual_seed(0)
    encoder = AutoModel.from_config(config).eval()
    words = ["a", "dog", "unheard"]
    encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    assert encoded.input_ids.shape[1] > 5  # the last word has several tokens
    sentences = Dataset.from_dict({"tokens": [words, ["small"]], "tags": [[3, 4, 5], [6]]})
    features, tags = word_features(encoder, tokenizer, sentences)
    with torch.no_grad():
        alone = encoder(**encoded).last_hidden_state[0, 1:4].numpy()
    np.testing.assert_allclose(features[:3], alone, atol=1e-5)
    assert tags.tolist() == [3, 4, 5, 6]


@pytest.mark.fast
def test_parts__have_no_text_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "PARTS", tmp_path)
    monkeypatch.setattr(text, "DATA", tmp_path)
    documents = [f"c{number:02}" for number in range(30)]
    tokens = [[document, str(sentence)] for document in documents for sentence in range(2)]
    (tmp_path / "brown").mkdir()
    Dataset.from_dict({"tokens": tokens, "tags": tokens, "document": np.repeat(documents, 2)}).to_parquet(
        tmp_path / "brown/brown.parquet"
    )
    seen = {}
    for scored_on in ("test", "validation"):
        parts = Parts.of("brown", scored_on, quick=False)
        seen[scored_on] = set(text.read(parts.texts)["text"])
        held_out = text.read(parts.test)
        assert len(held_out) == 6
        assert not seen[scored_on] & {" ".join(words) for words in held_out["tokens"]}
        assert len(text.read(parts.train)) == len(seen[scored_on])
        assert len(AutoTokenizer.from_pretrained(parts.tokenizer(270))) == 270
    assert seen["validation"] < seen["test"]


@pytest.mark.fast
def test_runs__differ_in_their_contender_alone():
    table = TextTable(data=["glosses"], seeds=[0])
    runs = {run.contender: run for run in table.runs()}
    assert runs[NEW].budget_s is None
    for name in ("vocabulary", "per_device_train_batch_size", "lr_scheduler_type", "warmup_steps"):
        assert runs[DATA2VEC].settings[name] == runs[MLM].settings[name]
    ours, theirs = (runs[name].settings["encoder"] for name in (DATA2VEC, MLM))
    assert {name for name in ours if ours[name] != theirs[name]} <= set(WITH_DROPOUT["encoder"])
    assert len({run.key for run in table.variants()}) == len(table.variants())


@pytest.mark.fast
def test_markdown__compares_with_mlm_within_a_seed():
    table = TextTable(data=["glosses"], seeds=[0, 1])
    scores = {DATA2VEC: {0: 0.42, 1: 0.46}, MLM: {0: 0.40, 1: 0.43}}
    found = [
        rows.row_of(run, Outcome(5, 1.0, {"few": scores[run.contender][run.seed]}))
        for run in table.runs()
        if run.contender in scores
    ]
    assert "| glosses, data2vec, 700 s | 2.5 ± 6.4 | - | - | - |" in table.markdown(found, [])
