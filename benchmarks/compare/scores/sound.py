"""What the frames of a frozen encoder of sound tell: which letters are spoken, and which words are the same."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jiwer
import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from modeling_data2vec_generic.modalities.speech.collator import pad_waveforms
from modeling_data2vec_generic.modalities.speech.waveforms import decode_audio

Frames = NDArray[np.float32]
"""The frames of a sound, float32 (T, C)."""

RATE = 16_000
WINDOW, STEP, BANDS = 400, 160, 40  # of log-mel spectra: 25 ms every 10 ms, at 16 kHz
AVERAGED = 4  # spectra in a frame of 40 ms
SEGMENTS = 4  # of a prompt, whose means are compared
CONTEXT, EPOCHS, CTC_BATCH, CTC_RATE = 5, 40, 16, 3e-2  # of the linear classifier of letters


def encoder_frames(encoder: PreTrainedModel, extractor: Any) -> Callable[[NDArray[np.float32]], Frames]:
    """Reads sounds, float32 (samples,), one at a time: the last hidden state of a frozen encoder."""
    encoder.eval()

    def read(sound: NDArray[np.float32]) -> Frames:
        with torch.no_grad():
            hidden: Frames = encoder(**pad_waveforms(extractor, [sound])).last_hidden_state[0].numpy()
        return hidden

    return read


def log_mel() -> Callable[[NDArray[np.float32]], Frames]:
    """Reads sounds, float32 (samples,): spectra of 40 bands of the mel scale in decibels, averaged over 40 ms."""
    filters = mel_filter_bank(WINDOW // 2 + 1, BANDS, 60.0, 7_600.0, RATE)
    window = window_function(WINDOW, "hann")

    def read(sound: NDArray[np.float32]) -> Frames:
        normal = (sound - sound.mean()) / sound.std()
        spectra = spectrogram(normal, window, WINDOW, STEP, mel_filters=filters, log_mel="dB").T
        whole = spectra[: max(1, len(spectra) // AVERAGED) * AVERAGED]
        return whole.reshape(-1, AVERAGED, BANDS).mean(axis=1).astype(np.float32)

    return read


def frames_of(sounds: Dataset, read: Callable[[NDArray[np.float32]], Frames]) -> list[Frames]:
    """The frames of each row's `audio`."""
    return [read(decode_audio(value, RATE)) for value in sounds["audio"]]


def words_right(frames: Sequence[Frames], prompts: Dataset) -> float:
    """How many prompts are found in the other speaker's recordings.

    A prompt is described by the means of its four quarters, standardised over the recordings of its speaker. It is
    found if, among all recordings of the other speaker in the same language, the one that is nearest by cosine
    similarity is the prompt of the same name.

    Args:
        frames: of each prompt.
        prompts: with columns `language`, `speaker` (0 or 1) and `name`; each name is there once for either speaker.

    Returns:
        The share of prompts that are found, the mean over languages.
    """
    places: dict[str, tuple[dict[str, int], dict[str, int]]] = {}
    rows = zip(prompts["language"][:], prompts["speaker"][:], prompts["name"][:], strict=True)
    for place, (language, speaker, name) in enumerate(rows):
        places.setdefault(language, ({}, {}))[speaker][name] = place
    found = []
    for first, second in places.values():
        names = sorted(first)
        one, other = (
            _directions(np.stack([_quarters(frames[of_speaker[name]]) for name in names]))
            for of_speaker in (first, second)
        )
        similarity = one @ other.T
        found += [float((similarity.argmax(axis) == np.arange(len(names))).mean()) for axis in (0, 1)]
    return float(np.mean(found))


def _quarters(frames: Frames) -> Frames:
    """The means of a sound's segments, one after another, (SEGMENTS * C,). Segments of short sounds overlap."""
    borders = np.linspace(0, len(frames), SEGMENTS + 1)
    segments = [frames[int(a) : max(int(a) + 1, int(np.ceil(b)))] for a, b in zip(borders, borders[1:], strict=False)]
    return np.concatenate([segment.mean(axis=0) for segment in segments])


def _directions(features: Frames) -> Frames:
    """Standardised features (N, C), each row of norm 1."""
    standard = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    return standard / np.linalg.norm(standard, axis=1, keepdims=True)


def letters_right(
    train: Sequence[Frames],
    train_texts: Sequence[str],
    test: Sequence[Frames],
    test_texts: Sequence[str],
    seed: int,
) -> float:
    """The character accuracy (1 - character error rate) of a linear classifier that is trained by CTC.

    It reads five frames at a time, each standardised, and knows no words: the likeliest letter of each frame is taken.

    Args:
        train, test: frames of each sound.
        train_texts, test_texts: what is spoken in it.
        seed: of the classifier's new weights and of the order of the batches.
    """
    numbers = {letter: number for number, letter in enumerate(sorted({*"".join(train_texts)}), start=1)}
    classifier, standard = _fit_ctc(train, [[numbers[letter] for letter in text] for text in train_texts], seed)
    letters = {number: letter for letter, number in numbers.items()}
    with torch.no_grad():
        best = [classifier(standard(frames).T[None])[0].argmax(dim=0).tolist() for frames in test]
    return 1 - float(jiwer.cer(list(test_texts), [_spelled(numbers_of, letters) for numbers_of in best]))


def _spelled(numbers: Sequence[int], letters: Mapping[int, str]) -> str:
    """What is read in the frames: a letter for each stretch of the same number, nothing for the blank, 0."""
    changes = [number for before, number in zip([0, *numbers], numbers, strict=False) if number != before]
    return "".join(letters[number] for number in changes if number)


def _fit_ctc(
    train: Sequence[Frames], targets: Sequence[Sequence[int]], seed: int
) -> tuple[nn.Module, Callable[[Frames], torch.Tensor]]:
    """The classifier, which takes (B, C, T) and gives (B, letters, T), and what standardises frames for it."""
    every = np.concatenate(train)
    mean, deviation = every.mean(axis=0), every.std(axis=0) + 1e-5

    def standard(frames: Frames) -> torch.Tensor:
        return torch.from_numpy((frames - mean) / deviation)

    torch.manual_seed(seed)
    classifier = nn.Conv1d(every.shape[1], 1 + max(map(max, targets)), CONTEXT, padding=CONTEXT // 2)
    by_length = sorted(range(len(train)), key=lambda row: len(train[row]))
    batches = [by_length[start : start + CTC_BATCH] for start in range(0, len(train), CTC_BATCH)]
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=CTC_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, CTC_RATE, EPOCHS * len(batches), pct_start=0.2)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(batches)).tolist():
            frames = [standard(train[row]) for row in batches[batch]]
            spoken = [torch.tensor(targets[row]) for row in batches[batch]]
            scores = classifier(pad_sequence(frames, batch_first=True).transpose(1, 2)).permute(2, 0, 1)
            lengths = [torch.tensor([len(part) for part in parts]) for parts in (frames, spoken)]
            loss = nn.functional.ctc_loss(scores.log_softmax(-1), torch.cat(spoken), *lengths, zero_infinity=True)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier, standard
