"""Speech: data2vec and data2vec 2.0 beside wav2vec 2.0, new weights and log-mel spectra, on dialogues of a game.

All pre-train the same Wav2Vec2Model from the same new weights, whose first convolution is a bank of band-pass filters,
on the dialogues of Fish Fillets in Czech and Dutch, in the same parts of clips. What it has learned is measured on
levels of the game that were not heard (letters, in Czech) and on telephone prompts of other speakers (words).
"""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from filelock import FileLock
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from modeling_data2vec_generic.data.arguments import DataArguments
from modeling_data2vec_generic.data.quality.reading import GoodSamples
from modeling_data2vec_generic.data.sources.raw_datasets import read_splits
from modeling_data2vec_generic.modalities.speech.decoding.sound_files import open_sound
from modeling_data2vec_generic.modalities.speech.waveforms import prepare_speech

from ..parquet import read
from ..peers.speech import train_wav2vec2
from ..rows import ROOT
from ..scores.encoders import finetuned
from ..scores.sound import encoder_frames, frames_of, letters_right, log_mel, words_right
from ..table import Outcome, Run, Table
from ..training import Trained, pretrain_data2vec, steps_for

SOUNDS = Path("data/fillets_cs_nl")
PROMPTS = Path("data/prompts/prompts.parquet")
PARTS = Path("output/compare/speech/parts")
BUDGET, SEARCH_BUDGET = 600, 120
DATA2VEC, DATA2VEC2, WAV2VEC2, NEW, LOG_MEL = "data2vec", "data2vec 2.0", "wav2vec 2.0", "new weights", "log-mel"
LABELLED_SECONDS = 600
VALIDATION_SHARE = 1 / 7  # of the training levels, for the search
LANGUAGES = {"validation": ("it",), "test": ("es", "fr")}
"""The languages of the prompts on which settings are chosen, and of those on which results are measured."""

ENCODER = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "num_conv_pos_embeddings": 9,
}
TINY = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
TRAINING = {
    "per_device_train_batch_size": 16,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-6,
    "max_grad_norm": 1.0,
}
"""What all contenders have, by the names of `TrainingArguments`."""
CLIPS = {"min_duration_in_seconds": 1.0, "max_duration_in_seconds": 2.0}
HEAD = {
    "num_negatives": 25,
    "num_codevectors_per_group": 160,
    "codevector_dim": 64,
    "proj_codevector_dim": 64,
    "diversity_loss_weight": 0.1,
    "feat_quantizer_dropout": 0.0,
}
"""wav2vec 2.0's quantizer and loss, of a size that fits the encoder. As published, with 100 negatives and vectors of
256, a step takes seven times as long."""
CONTENDERS: dict[str, dict[str, Any]] = {
    DATA2VEC: {
        "objective": "data2vec",
        "teacher_embeddings": "ema",
        "average_top_k_layers": 3,
        "mask_ratio": 0.5,
        "mask_length": 3,
        "ema_decay": 0.99,
        "ema_end_decay": 0.999,
        "learning_rate": 1e-3,
    },
    DATA2VEC2: {
        "objective": "data2vec2",
        "teacher_embeddings": "ema",
        "num_masks": 4,
        "average_top_k_layers": 3,
        "decoder_dim": 64,
        "decoder_layers": 3,
        "decoder_groups": 8,
        "mask_ratio": 0.5,
        "mask_length": 3,
        "ema_decay": 0.99,
        "ema_end_decay": 0.999,
        "learning_rate": 2e-3,
    },
    WAV2VEC2: {
        "mask_time_prob": 0.65,
        "mask_time_length": 5,
        "head": HEAD,
        "learning_rate": 2e-3,
    },
    NEW: {},
    LOG_MEL: {},
}
"""The settings that the search begins with. They stay as they are, so that its rows go on belonging to it."""
BLOCK_OUTPUTS = {"target_source": "block", "target_layer_norms": ["batch"]}
FOUND: Mapping[str, Mapping[str, Any]] = {
    DATA2VEC: {"teacher_embeddings": "copy"},
    DATA2VEC2: {**BLOCK_OUTPUTS, "mask_ratio": 0.65},
}
"""What the search has changed in the settings of some contenders: those tries that had the most letters right."""
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *[(contender, {}) for contender in CONTENDERS],
    *[(DATA2VEC, {"learning_rate": rate}) for rate in (5e-4, 2e-3)],
    (DATA2VEC, {"mask_ratio": 0.65}),
    (DATA2VEC, {"mask_length": 5}),
    (DATA2VEC, {"average_top_k_layers": 2}),
    (DATA2VEC, {"ema_decay": 0.999, "ema_end_decay": 0.9999}),
    (DATA2VEC, {"teacher_embeddings": "copy"}),
    *[(contender, BLOCK_OUTPUTS) for contender in (DATA2VEC, DATA2VEC2)],
    *[(contender, BLOCK_OUTPUTS | {"target_layer_norms": ["instance"]}) for contender in (DATA2VEC, DATA2VEC2)],
    (DATA2VEC, BLOCK_OUTPUTS | {"learning_rate": 2e-3}),
    *[(DATA2VEC2, BLOCK_OUTPUTS | {"learning_rate": rate}) for rate in (1e-3, 4e-3)],
    *[(contender, BLOCK_OUTPUTS | {"mask_ratio": 0.65}) for contender in (DATA2VEC, DATA2VEC2)],
    *[(contender, BLOCK_OUTPUTS | {"teacher_embeddings": "copy"}) for contender in (DATA2VEC, DATA2VEC2)],
    (DATA2VEC, BLOCK_OUTPUTS | {"average_top_k_layers": 1}),
    (DATA2VEC2, BLOCK_OUTPUTS | {"num_masks": 8}),
    *[(WAV2VEC2, {"learning_rate": rate}) for rate in (1e-3, 4e-3)],
    *[(WAV2VEC2, {"mask_time_prob": probability}) for probability in (0.5, 0.8)],
    (WAV2VEC2, {"mask_time_length": 3}),
    *[(WAV2VEC2, {"head": HEAD | {"diversity_loss_weight": weight}}) for weight in (0.02, 0.5)],
    (WAV2VEC2, {"head": HEAD | {"num_negatives": 100}}),
]
"""What the search tries: other values of the settings of a contender, one at a time, for data2vec also beside block
outputs as targets. What is not trained stands beside them."""
FINETUNING = {
    "task": "ctc",
    "freeze_convolutions": False,
    "freeze_encoder_steps": 0,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "learning_rate": 1e-3,
    "tri_stage": [0.1, 0.6, 0.3],
    "max_steps": 400,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 16,
    "weight_decay": 0.01,
    "logging_steps": 50,
}


def new_encoder(seed: int, fields: Mapping[str, Any]) -> Wav2Vec2Model:
    """The encoder that all contenders start from, by the example's script.

    Its first convolution is the script's bank of filters, four for each band; its second one adds these up, so that
    a frame of 40 ms has the energies of the bands in four stretches of 10 ms. The rest is random.
    """
    script = runpy.run_path(str(ROOT / "examples/speech/make_filterbank_encoder.py"))
    encoder: Wav2Vec2Model = script["new_encoder"](seed, **fields)
    second = encoder.feature_extractor.conv_layers[1].conv.weight  # (bands * 4 stretches, bands * 4 phases, 4)
    phases = script["PHASES"]
    with torch.no_grad():
        second.zero_()
        for band in range(script["BANDS"]):
            channels = slice(band * phases, (band + 1) * phases)
            for stretch in range(second.shape[2]):
                second[band * second.shape[2] + stretch, channels, stretch] = 1.0
    return encoder


def some_levels(levels: set[str]) -> set[str]:
    """The levels of the validation part."""
    chosen = np.random.default_rng(0).permutation(sorted(levels))
    return set(chosen[: round(len(chosen) * VALIDATION_SHARE)].tolist())


def minutes_of(rows: Dataset, seconds: float, seed: int) -> Dataset:
    """Rows in random order until their sound is as long as asked for."""
    shuffled = rows.shuffle(seed=seed)
    lengths = []
    for value in shuffled["audio"]:
        with open_sound(value, 16_000) as sound:
            lengths.append(sound.frames / sound.rate)
    return shuffled.select(range(min(len(rows), 1 + int(np.searchsorted(np.cumsum(lengths), seconds)))))


def reader_of(encoder_dir: Path) -> Any:
    """Reads the frames of sounds, by a frozen encoder and its feature extractor."""
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(encoder_dir)
    return encoder_frames(Wav2Vec2Model.from_pretrained(encoder_dir), extractor)


class SpeechTable(Table):
    """Fish Fillets in Czech and Dutch."""

    name = "speech"
    all_data = ("fish_fillets",)
    columns = {
        "letters": "letters right, linear CTC",
        "finetuned": "letters right, fine-tuned",
        "words": "words found",
    }
    drawn = "letters"
    leads = ((NEW, (DATA2VEC, DATA2VEC2, WAV2VEC2)), (WAV2VEC2, (DATA2VEC, DATA2VEC2)))
    shows = "Letters right by a linear classifier"

    def runs(self) -> list[Run]:
        return [
            self.run(contender, seed, "test", **FOUND.get(contender, {}))
            for contender in CONTENDERS
            for seed in self.seeds
        ]

    def variants(self) -> list[Run]:
        return [self.run(contender, 0, "validation", **changes) for contender, changes in VARIANTS]

    def run(self, contender: str, seed: int, scored_on: str, **changes: Any) -> Run:
        """A run of the table ("test") or of the search ("validation"); `changes` are other values of settings."""
        encoder = {**ENCODER, **(TINY if self.quick else {})}
        settings: dict[str, Any] = {"scored_on": scored_on}
        if contender == LOG_MEL:
            return Run(self.name, self.data[0], contender, seed, None, settings)
        settings["encoder"] = {**encoder, **changes.pop("encoder", {})}
        if contender == NEW:
            return Run(self.name, self.data[0], contender, seed, None, settings)
        budget = 1 if self.quick else BUDGET if scored_on == "test" else SEARCH_BUDGET
        settings |= {**TRAINING, **CLIPS, **CONTENDERS[contender], **changes}
        return Run(self.name, self.data[0], contender, seed, budget, settings)

    def perform(self, run: Run, seconds_per_step: float | None, folder: Path) -> Outcome:
        if run.contender == LOG_MEL:
            return Outcome(0, 0.0, self.frozen_scores(run, log_mel()))
        if run.contender == NEW:
            encoder_dir = self.starting_point(run, folder)
            return Outcome(0, 0.0, self.scores(run, encoder_dir, folder))
        assert seconds_per_step is not None
        trained = self.train(run, folder, max_steps=steps_for(run.budget_s or 0, seconds_per_step))
        return trained.outcome(self.scores(run, trained.encoder_dir, folder))

    def starting_point(self, run: Run, folder: Path) -> Path:
        """Writes the new encoder of a run, and its feature extractor."""
        path = folder / "new_encoder"
        new_encoder(run.seed, run.settings["encoder"]).save_pretrained(path)
        Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(path)
        return path

    def train(self, run: Run, folder: Path, **arguments: Any) -> Trained:
        settings = {name: value for name, value in run.settings.items() if name not in ("scored_on", "encoder")}
        arguments = {**arguments, "seed": run.seed, "use_cpu": self.device == "cpu"}
        start = self.starting_point(run, folder)
        source = {"train_file": str(self.unlabelled())}
        if run.contender != WAV2VEC2:
            recipe = {"modality": "speech", **source, "model_name_or_path": str(start)}
            return pretrain_data2vec({**recipe, **settings}, folder / "trained", **arguments)
        data = DataArguments(**source, **{name: settings.pop(name) for name in CLIPS})
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(start)
        raw = read_splits(data, "speech", {})["train"]
        # Row 2,084 is a broken file, which data2vec's Trainer replaces likewise.
        sounds = GoodSamples(prepare_speech(raw, extractor, data, "train", min_samples=1), "train")
        encoder = Wav2Vec2Model.from_pretrained(start)
        return train_wav2vec2(encoder, sounds, extractor, folder / "trained", **settings, **arguments)

    def scores(self, run: Run, encoder_dir: Path, folder: Path) -> dict[str, float]:
        """By the frozen encoder and, of runs that are scored on the held-out levels, fine-tuned."""
        found = self.frozen_scores(run, reader_of(encoder_dir))
        if run.settings["scored_on"] == "test":
            labelled, test = self.labelled(run)
            recipe = {**FINETUNING, "train_file": str(labelled), "validation_file": str(test)}
            recipe |= {"use_cpu": self.device == "cpu", **({"max_steps": 2} if self.quick else {})}
            found["finetuned"] = 1 - finetuned(encoder_dir, recipe, folder / "finetuned", run.seed)["cer"]
        return found

    def frozen_scores(self, run: Run, reader: Any) -> dict[str, float]:
        """Letters by a linear classifier, and words by their nearest neighbours, from frames that are read."""
        languages = LANGUAGES[run.settings["scored_on"]]
        prompts = read(PROMPTS).filter(lambda row: row["language"] in languages)
        return {"letters": self.letters(run, reader), "words": words_right(frames_of(prompts, reader), prompts)}

    def letters(self, run: Run, reader: Any) -> float:
        """Letters right by a linear classifier, from frames that are read."""
        train, test = (read(path) for path in self.labelled(run))
        frames = [frames_of(rows, reader) for rows in (train, test)]
        return letters_right(frames[0], train["text"][:], frames[1], test["text"][:], run.seed)

    def unlabelled(self) -> Path:
        """The sounds to pre-train on."""
        path = SOUNDS / "pretraining.parquet"
        if not self.quick:
            return path
        some = PARTS / "quick" / path.name
        some.parent.mkdir(parents=True, exist_ok=True)
        read(path).select(range(64)).to_parquet(some)
        return some

    def labelled(self, run: Run) -> tuple[Path, Path]:
        """Ten minutes of Czech with transcripts to train on, and clips of other levels to score on: parquet files."""
        part = run.settings["scored_on"]
        folder = PARTS / ("quick" if self.quick else f"{part}-{run.seed}")
        paths = folder / "train.parquet", folder / "test.parquet"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # several runs may begin at the same time
            if not paths[1].is_file():
                train = read(SOUNDS / "train.parquet").filter(lambda row: row["language"] == "cs")
                test = read(SOUNDS / "validation.parquet").filter(lambda row: row["language"] == "cs")
                if part == "validation":
                    held_out = some_levels(set(train["level"][:]))
                    test = train.filter(lambda row: row["level"] in held_out)
                    train = train.filter(lambda row: row["level"] not in held_out)
                seconds = 20 if self.quick else LABELLED_SECONDS
                minutes_of(train, seconds, run.seed).to_parquet(paths[0])
                minutes_of(test, seconds, 0).to_parquet(paths[1])
        return paths


COMPARISON = SpeechTable
