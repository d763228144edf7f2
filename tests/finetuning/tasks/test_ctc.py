"""Speech recognition with CTC: transcripts, predictions, and errors."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import soundfile
import torch
from datasets import Audio, Dataset
from safetensors.torch import load_file
from transformers import (
    AutoModelForCTC,
    AutoProcessor,
    Trainer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    pipeline,
)

import run_finetune
from modeling_data2vec_generic import cli
from modeling_data2vec_generic.finetuning.defaults import with_defaults
from modeling_data2vec_generic.finetuning.labelled_rows import chosen_rows, parted_rows, read_rows
from modeling_data2vec_generic.finetuning.labels.transcripts import (
    confusions,
    frames_needed,
    new_tokenizer,
    normalized,
    read_frames,
    read_labels,
)
from modeling_data2vec_generic.finetuning.models import Source, build_model, encoder_path, load_source
from modeling_data2vec_generic.finetuning.tasks.ctc import SpeechRecognition, frame_counter
from modeling_data2vec_generic.runs import finetuning

from ...tiny import run_flags, tiny_encoder
from ...tiny_encoders import TINY

pytestmark = pytest.mark.usefixtures("own_cache")

PITCHES = {"a": 300, "b": 1200, "c": 3000}
RATE = 16000


def sung(text: str, seconds: float = 0.08) -> np.ndarray:
    """A tone that swells and fades for each letter, silence for a space."""
    times = np.arange(int(seconds * RATE)) / RATE
    swell = np.sin(np.pi * times / seconds)
    notes = [swell * np.sin(2 * np.pi * PITCHES.get(letter, 0) * times) for letter in text]
    return (0.3 * np.concatenate(notes) + 0.01 * np.random.default_rng(0).normal(size=len(text) * len(times))).astype(
        np.float32
    )


def sung_rows(folder: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """A wav file for each text, named by its number, and rows with path and transcript."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        soundfile.write(folder / f"{number}.wav", sung(text), RATE)
    return [{"audio": str(folder / f"{number}.wav"), "text": text} for number, text in enumerate(texts)]


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 clips in `songs.jsonl`, transcripts in capitals with a full stop, and a tiny encoder."""
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    words = [["".join(rng.choice(list("abc"), size)) for size in (2 + i % 3, 2)] for i in range(48)]
    rows = sung_rows(folder / "wav", [" ".join(pair) for pair in words])
    write_jsonl(folder / "songs.jsonl", [row | {"text": f"{row['text'].upper()}."} for row in rows])
    torch.manual_seed(0)
    tiny_encoder("data2vec-audio").save_pretrained(folder / "encoder")
    return folder


OWN = "--task ctc --validation_split_percentage 25 --chars_to_ignore .".split()


def finetune(data: Path, output_dir: Path, *flags: str, steps: int = 2) -> Path:
    source = [] if "--train_file" in flags else ["--train_file", str(data / "songs.jsonl")]
    encoder = ["--model_name_or_path", str(data / "encoder")]
    run_finetune.main([*run_flags(output_dir, steps), *OWN, *encoder, *source, *flags])
    return output_dir


LEARNING = (
    "--learning_rate 1e-2 --freeze_encoder_steps 0 --freeze_convolutions false --mask_time_prob 0 "
    "--mask_feature_prob 0 --per_device_train_batch_size 12"
).split()


@pytest.fixture(scope="module")
def learnt(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        return finetune(data, tmp_path_factory.mktemp("learnt"), *LEARNING, steps=100)


def results(output_dir: Path) -> dict[str, float]:
    return json.loads((output_dir / "all_results.json").read_text())


def predictions(output_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output_dir / "predictions.jsonl").read_text().splitlines()]


# --- transcripts


def test_normalized__lower_case_single_spaces_and_no_ignored_characters():
    assert normalized("  It's\t10 | o'Clock!?\n", ["!", "'?"], lower_case=True) == "its 10 oclock"
    assert normalized("A.", ["."], lower_case=False) == "A"
    assert normalized(None, [], lower_case=True) == normalized("..", ["."], lower_case=True) == ""


def test_tokenizer__has_the_characters_in_order_and_writes_them_back():
    tokenizer = new_tokenizer(["ba č", "ab"])
    assert tokenizer.get_vocab() == {"a": 0, "b": 1, "č": 2, "|": 3, "[UNK]": 4, "[PAD]": 5}
    labels = tokenizer("ab čab")["input_ids"]
    assert labels == [0, 1, 3, 2, 0, 1]
    assert read_labels(tokenizer, [[*labels, -100, -100]]) == ["ab čab"]


def test_unknown_character__is_a_single_one_that_nothing_equals():
    tokenizer = new_tokenizer(["ab"])
    (text,) = read_labels(tokenizer, [tokenizer("axb")["input_ids"]])
    assert (len(text), text[0], text[2]) == (3, "a", "b")
    assert text[1] not in "ab[UNK]"


def test_greedy_decoding__merges_repeats_and_drops_blanks():
    tokenizer = new_tokenizer(["ab"])
    a, b, space, blank = 0, 1, 2, 4
    rows = [
        [blank, a, a, blank, a, b, b, space, space, b, blank],
        [a, a, -100, -100],
        [blank, blank, -100, -100],
    ]
    assert read_frames(tokenizer, rows) == ["aab b", "a", ""]


def test_frames_needed__is_where_the_loss_turns_finite():
    log_probs = torch.full((6, 1, 4), 0.25).log()
    for labels in itertools.chain.from_iterable(itertools.product(range(1, 4), repeat=size) for size in range(1, 5)):
        finite = [
            frames
            for frames in range(1, 7)
            if torch.nn.functional.ctc_loss(
                log_probs[:frames], torch.tensor([labels]), torch.tensor([frames]), torch.tensor([len(labels)])
            ).isfinite()
        ]
        assert min(finite, default=7) == min(frames_needed(labels), 7), labels


@pytest.mark.fast
def test_confusions__of_characters_left_out_put_in_and_replaced():
    assert confusions(["abc", "a"], ["axc", "ab"]) == {("b", "x"): 1, ("", "b"): 1}
    assert confusions(["abc", "b"], ["bc", "b"]) == {("a", ""): 1}
    assert not confusions(["a b"], ["a b"])


# --- a run


def test_run__learns_what_is_sung(learnt):
    assert results(learnt)["eval_cer"] < 0.05


def test_run__loads_by_its_auto_classes_and_the_pipeline_says_the_same(learnt, data):
    _, info = AutoModelForCTC.from_pretrained(learnt, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert isinstance(AutoProcessor.from_pretrained(learnt), Wav2Vec2Processor)
    listen = pipeline("automatic-speech-recognition", model=str(learnt))
    rows = predictions(learnt)
    assert len(rows) == len({row["id"] for row in rows}) == 12
    for row in rows:
        sound, _ = soundfile.read(data / "wav" / f"{row['id']}.wav", dtype="float32")
        assert listen(sound)["text"] == row["prediction"]


def test_published_recipe__beside_training_from_scratch(data, tmp_path):
    out = finetune(data, tmp_path / "out", "--compare", "--layer_decay", "0.9")
    assert list(json.loads((out / "comparison.json").read_text())) == ["from_scratch", "finetuned"]
    tuned = out / "finetuned"
    wrong = letters = 0
    for row in predictions(tuned):
        edits = edit_distance(row["label"], row["prediction"])
        assert row["cer"] == pytest.approx(edits / len(row["label"]))
        wrong, letters = wrong + edits, letters + len(row["label"])
    assert wrong
    assert results(tuned)["eval_cer"] == pytest.approx(wrong / letters)
    assert results(out)["finetuned_eval_cer"] == results(tuned)["eval_cer"]
    assert {path.name for path in (tuned / "figures").iterdir()} == {"errors.png", "confusions.png"}
    config = AutoModelForCTC.from_pretrained(tuned).config
    assert (config.mask_time_prob, config.mask_time_length, config.mask_feature_prob) == (0.65, 10, 0.5)
    before, after = load_file(data / "encoder" / "model.safetensors"), load_file(tuned / "model.safetensors")
    moved = {name for name, value in before.items() if not torch.equal(value, after[f"data2vec_audio.{name}"])}
    # The encoder has its second step alone, the convolutions none, and masks may not have met the batch.
    assert moved >= {name for name in before if name.startswith("encoder.layers.")}
    assert not [name for name in moved if name.startswith("feature_extractor.")]


def test_resumed__run_ends_where_an_uninterrupted_one_does(data, tmp_path):
    flags = ["--save_strategy", "steps", "--save_steps", "2", "--learning_rate", "1e-2"]
    whole = finetune(data, tmp_path / "whole", *flags, steps=4)
    resumed = finetune(
        data, tmp_path / "resumed", *flags, "--resume_from_checkpoint", str(whole / "checkpoint-2"), steps=4
    )
    expected, after = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in expected.items())


def edit_distance(one: str, other: str) -> int:
    """By the definition, row by row."""
    above = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        row = [i + 1]
        for j, counterpart in enumerate(other):
            row.append(min(above[j] + (letter != counterpart), above[j + 1] + 1, row[j] + 1))
        above = row
    return above[-1]


# --- samples and batches


@dataclass
class Prepared:
    task: SpeechRecognition
    source: Source
    samples: dict[str, Dataset]

    def model(self, **settings: Any) -> Any:
        torch.manual_seed(0)
        return build_model(self.source, self.task.auto_class, None, self.task.settings() | settings)


def prepared(data: Path, *flags: str) -> Prepared:
    """What a run does before it trains."""
    source = [] if "--train_file" in flags or "--dataset_name" in flags else ["--train_file", f"{data}/songs.jsonl"]
    encoder = [] if "--model_name_or_path" in flags else ["--model_name_or_path", f"{data}/encoder"]
    argv = [*run_flags(data / "unused", 1), *OWN, *source, *encoder, *flags]
    model_args, data_args, task_args, _ = cli.parse(argv, finetuning.ARGUMENTS)
    task_type, data_args, splits = read_rows(data_args, task_args)
    _, _, task_args, training_args = with_defaults(
        task_type, splits["train"].features["label"], argv, finetuning.ARGUMENTS
    )
    task = task_type(model_args, data_args, task_args, training_args)
    parted = parted_rows(task.encode(splits), task, data_args)
    task.read(parted["train"])
    rows = chosen_rows(parted, task, task_args, seed=0)
    loaded = load_source(model_args, task.modality.encoder_defaults())
    task.fit(loaded.encoder)
    return Prepared(task, loaded, {split: task.prepare(dataset, split) for split, dataset in rows.items()})


def as_csv(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    relative = [{"audio": f"wav/{Path(row['audio']).name}", "text": row["text"]} for row in rows]
    pandas.DataFrame(relative).to_csv(folder / "table.csv", index=False)
    return ["--train_file", str(folder / "table.csv")]


def as_json(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    return ["--train_file", str(write_jsonl(folder / "table.jsonl", rows))]


def as_parquet(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    columns = {
        "sound": [{"bytes": Path(row["audio"]).read_bytes(), "path": None} for row in rows],
        "words": [row["text"] for row in rows],
    }
    Dataset.from_dict(columns).cast_column("sound", Audio(decode=False)).to_parquet(folder / "table.parquet")
    return ["--train_file", str(folder / "table.parquet"), "--label_column_name", "words"]


def as_audio_folder(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    relative = [{"file_name": Path(row["audio"]).name, "transcription": row["text"]} for row in rows]
    pandas.DataFrame(relative).to_csv(folder / "wav" / "metadata.csv", index=False)
    return ["--dataset_name", str(folder / "wav"), "--label_column_name", "transcription"]


@pytest.mark.parametrize("source", [as_csv, as_json, as_parquet, as_audio_folder])
def test_source__gives_sound_and_transcript(source, data, tmp_path):
    texts = ["ab", "b c", "ca", "a"]
    found = prepared(data, *source(tmp_path, sung_rows(tmp_path / "wav", texts)))
    samples = [sample for split in found.samples.values() for sample in split]
    assert sorted(sample["label"] for sample in samples) == sorted(texts)
    for sample in samples:
        assert texts[sample["clip"]] == sample["label"]
        np.testing.assert_allclose(sample["audio"], sung(sample["label"]), atol=1e-4)


def test_training_rows__alone_make_the_vocabulary(data, tmp_path, caplog):
    train = write_jsonl(tmp_path / "train.jsonl", sung_rows(tmp_path / "train", ["ab", "ba"]))
    validation = write_jsonl(tmp_path / "validation.jsonl", sung_rows(tmp_path / "validation", ["ac", "cab"]))
    found = prepared(data, "--train_file", str(train), "--validation_file", str(validation))
    assert set(found.task.tokenizer.get_vocab()) == {"a", "b", "|", "[UNK]", "[PAD]"}
    assert "1 characters of the validation transcripts are not in the vocabulary: 'c' (2)" in caplog.text
    labels = found.task.collator(training=False)(list(found.samples["validation"]))["labels"].numpy()
    frames = np.full((2, 9), found.task.tokenizer.pad_token_id)
    frames[:, 0] = found.task.tokenizer.get_vocab()["a"]
    assert found.task.metrics(frames, labels)["cer"] == pytest.approx(3 / 5)
    assert [row["label"] for row in found.task.predictions(frames, labels, found.samples["validation"])] == [
        "ac",
        "cab",
    ]


def test_processor_name__gives_the_vocabulary(data, tmp_path):
    other = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(sampling_rate=8000), new_tokenizer(["abcdef"]))
    other.save_pretrained(tmp_path)
    found = prepared(data, "--processor_name", str(tmp_path))
    assert found.task.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    sample = found.samples["train"][0]
    assert len(sample["audio"]) == len(sample["label"]) * 0.08 * 8000
    assert len(found.model().lm_head.bias) == 9


def test_bad_rows__are_left_out_and_named(data, tmp_path, caplog):
    caplog.set_level("INFO", "modeling_data2vec_generic")
    rows = sung_rows(tmp_path / "wav", ["ab", "a", "b", "c", "ca", "ab", "abc abc", "b"])
    rows[1]["text"] = "."  # nothing is left of it
    rows[2]["text"] = None
    rows[3]["text"] = "aabb"  # six frames, and there are three
    rows[4]["text"] = "c [PAD]"
    wav = Path(rows[5]["audio"])
    wav.write_bytes(wav.read_bytes()[:1000])
    flags = ["--max_bad_fraction", "0.9", "--max_duration_in_seconds", "0.5", "--do_lower_case", "false"]
    train = write_jsonl(tmp_path / "train.jsonl", rows)
    flags += ["--validation_file", str(write_jsonl(tmp_path / "validation.jsonl", rows[:1]))]
    found = prepared(data, "--train_file", str(train), *flags)
    assert [sample["label"] for sample in found.samples["train"]] == ["ab", "b"]
    for part in (
        "5 of 8 train sounds are bad",
        "1.wav: no transcript",
        "2.wav: no transcript",
        "3.wav: its transcript needs 6 frames, and there are 3",
        "4.wav: its transcript holds [PAD]",
        "5.wav: truncated",
        "train: 1 of 3 sounds are longer than max_duration_in_seconds=0.5 and left out",
    ):
        assert part in caplog.text
    with pytest.raises(ValueError, match="5 of 8 train sounds are bad .* more than max_bad_fraction=0.5 allows"):
        prepared(data, "--train_file", str(train), *flags[2:], "--max_bad_fraction", "0.5")


def test_padding__changes_neither_loss_nor_answers(data, tmp_path):
    # Those with group norm see their padding, and so do the stacked positional convolutions of data2vec-audio.
    tiny_encoder("wav2vec2", feat_extract_norm="layer").save_pretrained(tmp_path)
    found = prepared(data, "--model_name_or_path", str(tmp_path))
    model = found.model().eval()
    collate = found.task.collator(training=False)
    by_length = {len(sample["audio"]): sample for sample in found.samples["train"]}
    assert len(by_length) == 3
    samples = list(by_length.values())
    loss, outputs = found.task.loss(model, collate(samples))
    together = read_frames(found.task.tokenizer, found.task.answers(outputs["logits"]).tolist())
    losses, alone = [], []
    for sample in samples:
        with torch.no_grad():
            own, outputs = found.task.loss(model, collate([sample]))
        losses.append(own.item())
        alone += read_frames(found.task.tokenizer, found.task.answers(outputs["logits"]).tolist())
    assert together == alone
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_answers__that_are_filled_up_for_other_processes(data):
    task = prepared(data).task
    logits = torch.zeros(1, 2, len(task.tokenizer))
    logits[0, :, task.tokenizer.get_vocab()["b"]] = 1.0
    answers, _ = task.kept(task.answers(logits), torch.zeros(1, 1))
    filled_up = torch.nn.functional.pad(answers, (0, 3), value=-100)  # as accelerator.pad_across_processes
    assert read_frames(task.tokenizer, filled_up.tolist()) == ["b"]


def test_masks__are_of_the_training_alone_and_spare_clips_that_are_shorter(data):
    found = prepared(data)
    model = found.model(mask_time_prob=1.0)
    long, short = found.samples["train"][0], {"audio": sung("a"), "label": "a"}
    assert found.task.num_frames(len(short["audio"])) < found.task.task_args.mask_time_length
    batch = found.task.collator(training=True)([short])
    # The encoder would refuse to mask this one; it gets padding up to the length of a mask.
    model.train()(**batch).loss.backward()
    assert not model.data2vec_audio.masked_spec_embed.grad.any()
    model(**found.task.collator(training=True)([long])).loss.backward()
    assert model.data2vec_audio.masked_spec_embed.grad.any()
    plain = found.task.collator(training=False)([short])
    assert plain["input_values"].shape[1] == len(short["audio"])
    with torch.no_grad():
        assert torch.equal(model.eval()(**plain).logits, model(**plain).logits)


def test_masks__of_an_encoder_that_comes_without(data, tmp_path, caplog):
    caplog.set_level("INFO", "modeling_data2vec_generic")
    tiny_encoder("wav2vec2", mask_time_prob=0.0, mask_feature_prob=0.0).save_pretrained(tmp_path)
    model = prepared(data, "--model_name_or_path", str(tmp_path)).model()
    assert model.wav2vec2.masked_spec_embed.requires_grad
    assert "3 are new (lm_head.bias, lm_head.weight, wav2vec2.masked_spec_embed)" in caplog.text


def test_mask_feature_length__goes_with_the_width(data):
    task = prepared(data).task
    for width, expected in ((768, 64), (1024, 64), (96, 8), (8, 1)):
        task.fit(tiny_encoder("data2vec-audio", hidden_size=width, num_hidden_layers=1))
        assert task.settings()["mask_feature_length"] == expected
    task.task_args.mask_feature_length = 20
    task.fit(tiny_encoder("data2vec-audio", hidden_size=768, num_hidden_layers=1))
    assert task.settings()["mask_feature_length"] == 20


@pytest.mark.parametrize("name", ["data2vec-audio", "hubert", "sew", "unispeech", "wav2vec2", "wavlm"])
def test_frames__are_those_of_the_logits(name):
    tiny = TINY[name]
    encoder = tiny.encoder()
    model = build_model(Source(encoder, frozenset(), frozenset()), AutoModelForCTC, None, {"vocab_size": 5}).eval()
    samples = tiny.shape[1] + 7
    with torch.no_grad():
        assert model(torch.randn(1, samples)).logits.shape[1] == frame_counter(encoder.config)(samples)


@pytest.mark.parametrize("name", ["unispeech-sat", "wavlm"])  # whose configurations differ from those of the others
def test_encoder__trains_with_masks(name, data, tmp_path):
    encoder = TINY[name].encoder()
    encoder.save_pretrained(tmp_path)
    found = prepared(data, "--model_name_or_path", str(tmp_path), "--mask_feature_length", "8")
    model = found.model().train()
    batch = found.task.collator(training=True)(list(found.samples["train"].select(range(2))))
    loss, _ = found.task.loss(model, batch)
    loss.backward()
    assert model.get_submodule(encoder_path(model, encoder)).masked_spec_embed.grad.any()


def test_frames__after_an_adapter():
    encoder = tiny_encoder("wav2vec2", add_adapter=True, num_adapter_layers=2, adapter_stride=2)
    lengths = torch.arange(400, 9000, 111)
    expected = encoder._get_feat_extract_output_lengths(lengths)
    assert torch.equal(frame_counter(encoder.config)(lengths), expected)


def test_error_rates__are_better_when_lower():
    flags = [*run_flags(Path("unused"), 1), "--model_type", "wav2vec2", "--metric_for_best_model", "cer"]
    assert with_defaults(SpeechRecognition, None, flags, finetuning.ARGUMENTS)[-1].greater_is_better is False


# --- errors


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--label_column_name", "words"], ["label_column_name='words'", "audio, text"]),
        (["--label_column_name", "audio"], ["label_column_name='audio' is the column of the data"]),
        (["--chars_to_ignore", "abcABC. "], ["None of the 3", "transcript"]),
        (["--mask_time_prob", "2"], ["mask_time_prob=2.0"]),
        (["--mask_feature_length", "64"], ["mask_feature_length=64", "16 channels"]),
        (["--class_weights", "balanced"], ["class_weights='balanced'", "not ctc"]),
        (["--text_column_name", "text"], ["--label_column_name text"]),
        (["--label_smoothing_factor", "0.1"], ["label_smoothing_factor=0.1"]),
        (["--labels_per_class", "3"], ["--label_fraction"]),
        (["--knn"], ["--knn is not possible with ctc"]),
        (["--pooling", "mean"], ["pooling='mean'"]),
        (["--processor_name", "TOKENIZER"], ["most of the text", "--do_lower_case"]),
    ],
)
def test_input__that_cannot_be_used(flags, parts, data, tmp_path, monkeypatch):
    def trained(*args: object, **kwargs: object) -> None:
        pytest.fail("the run went on to train")

    monkeypatch.setattr(Trainer, "train", trained)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), new_tokenizer(["ABC"])).save_pretrained(tmp_path / "tokenizer")
    rows = [row | {"number": number} for number, row in enumerate(sung_rows(tmp_path / "wav", ["ab", "ba", "c", "a"]))]
    table = write_jsonl(tmp_path / "table.jsonl", rows)
    given = [flag.replace("TOKENIZER", str(tmp_path / "tokenizer")) for flag in flags]
    with pytest.raises(ValueError, match=r"\w") as caught:
        finetune(data, tmp_path / "out", "--train_file", str(table), *given)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
