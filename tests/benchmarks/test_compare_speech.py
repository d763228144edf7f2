import io
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from benchmarks.compare.peers.speech import GumbelTemperature, train_wav2vec2
from benchmarks.compare.scores.sound import encoder_frames, letters_right, log_mel, words_right
from benchmarks.compare.tables.speech import LOG_MEL, NEW, TINY, SpeechTable, minutes_of, new_encoder

RNG = np.random.default_rng(0)
EXTRACTOR = Wav2Vec2FeatureExtractor(return_attention_mask=True)


@pytest.fixture(scope="module")
def encoder():
    return new_encoder(0, TINY)


def test_new_encoder__has_the_energy_of_a_tone_in_its_band_and_stretch(encoder):
    silent, tone = np.zeros(640), np.sin(2 * np.pi * 1_000 * np.arange(640) / 16_000)
    sound = torch.tensor(np.concatenate([tone, silent, silent]), dtype=torch.float32)[None, None]
    first, second = encoder.feature_extractor.conv_layers
    with torch.no_grad():
        energies = second.conv(torch.nn.functional.gelu(first.conv(sound)))[0].reshape(
            40, 4, -1
        )  # band, stretch, frame
    per_stretch = energies.permute(0, 2, 1).flatten(1)
    assert per_stretch[:, 0].argmax() == 13  # 1 kHz among bands from 100 to 7,600 Hz, evenly on the mel scale
    assert per_stretch[13, 0] > 10 * per_stretch[13, 5:].abs().max()


def test_wav2vec2__leaves_a_plain_encoder_that_has_been_trained(encoder, tmp_path):
    sounds = Dataset.from_dict({"audio": [RNG.standard_normal(16_000 + 400 * n) for n in range(8)]})
    trained = train_wav2vec2(
        encoder,
        sounds.with_format("numpy"),
        EXTRACTOR,
        tmp_path,
        mask_time_prob=0.65,
        mask_time_length=3,
        head={"num_negatives": 4, "codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 4},
        max_steps=2,
        learning_rate=0.01,
        use_cpu=True,
        per_device_train_batch_size=4,
        logging_steps=1,
        seed=0,
    )
    assert 0 < trained.final_loss < 5  # of a masked frame, with 4 negatives: the logarithm of 5 is 1.6
    after, loading = Wav2Vec2Model.from_pretrained(trained.encoder_dir, output_loading_info=True)
    assert not loading["missing_keys"]
    before = encoder.state_dict()
    assert not any(
        torch.equal(weight, before[name]) for name, weight in after.state_dict().items() if "layers" in name
    )


@pytest.mark.fast
def test_temperature__falls_as_far_in_a_short_run_as_in_the_published_one():
    found = []
    model = SimpleNamespace(set_gumbel_temperature=found.append)
    for step in (0, 50, 99):
        state = SimpleNamespace(global_step=step, max_steps=100)
        GumbelTemperature().on_step_begin(None, state, None, model=model)
    assert found == pytest.approx([2.0, 1.2131, 0.7432], abs=1e-4)  # 2 * 0.999995 ** (0, 100,000 and 198,000)


@pytest.mark.fast
def test_words__are_found_if_the_other_speaker_says_them_alike():
    names = [f"digits/{number}" for number in range(6)]
    words = [RNG.standard_normal((4, 8)) for _ in names]
    prompts = Dataset.from_dict(
        {"language": ["it"] * 12, "speaker": [0] * 6 + [1] * 6, "name": [*names, *reversed(names)]}
    )
    # The second speaker is slower, and has another voice and channel, which standardising takes away.
    slow = [3 + 2 * np.repeat(word, 3, axis=0) for word in reversed(words)]
    assert words_right([*words, *slow], prompts) == 1.0
    assert words_right([*words, *slow[::-1]], prompts) < 0.5
    assert words_right([word[:1] for word in words] + [word[:1] for word in reversed(words)], prompts) == 1.0


def test_letters__are_learned_from_frames_that_tell_them(encoder):
    spoken = ["".join(RNG.choice(list("ab "), 6)).strip() or "a" for _ in range(96)]
    frames = [
        np.concatenate([np.repeat(np.eye(4)[[("ab ").index(letter), 3]], 3, axis=0) for letter in text])
        for text in spoken
    ]
    frames = [(each + 0.05 * RNG.standard_normal(each.shape)).astype(np.float32) for each in frames]
    assert letters_right(frames[:80], spoken[:80], frames[80:], spoken[80:], seed=0) > 0.9
    noise = [RNG.standard_normal(each.shape).astype(np.float32) for each in frames]
    assert letters_right(noise[:80], spoken[:80], noise[80:], spoken[80:], seed=0) < 0.5


@pytest.mark.fast
def test_frames__of_an_encoder_and_of_spectra_are_40_ms_each(encoder):
    sound = RNG.standard_normal(16_000).astype(np.float32)
    assert encoder_frames(encoder, EXTRACTOR)(sound).shape == (24, 16)
    assert log_mel()(sound).shape == (25, 40)
    assert log_mel()(sound[:800]).shape == (1, 40)


@pytest.mark.fast
def test_minutes_of__are_rows_until_they_are_long_enough():
    def recording(seconds):
        buffer = io.BytesIO()
        soundfile.write(buffer, np.zeros(round(16_000 * seconds)), 16_000, format="FLAC")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = Dataset.from_dict({"audio": [recording(0.5) for _ in range(8)], "number": list(range(8))})
    assert len(minutes_of(rows, 1.9, seed=0)) == 4
    assert minutes_of(rows, 1.9, seed=0)["number"][:] != minutes_of(rows, 1.9, seed=1)["number"][:]
    assert len(minutes_of(rows, 60, seed=0)) == 8


@pytest.mark.fast
def test_table__has_baselines_without_a_budget_and_searches_on_the_validation_part():
    table = SpeechTable()
    assert {run.contender for run in table.runs() if run.budget_s is None} == {NEW, LOG_MEL}
    assert len({run.key for run in table.runs()}) == 15
    assert {run.settings["scored_on"] for run in table.runs()} == {"test"}
    assert {run.settings["scored_on"] for run in table.variants()} == {"validation"}
