"""The dialogues of the game Fish Fillets in Czech, and with `--languages cs nl` in Dutch too, with transcripts.

Several actors speak 101 minutes of Czech in 78 levels, and others 91 minutes of Dutch. The data are those of Debian's
packages fillets-ng-data-cs, fillets-ng-data-nl and fillets-ng-data (GPL-2). Three tables, whose column `audio` holds
FLAC files, 16 kHz and mono, and whose columns `level` and `language` say which level and language each is of:

    pretraining.parquet   all clips of the training levels, without transcripts
    train.parquet         those of them that have a transcript, with the column `text`
    validation.parquet    the clips of the held-out levels that have a transcript

A seventh of the levels is held out, always the same ones, chosen among those with transcripts in the first language.
Transcripts are lower-case words of the language's letters with single spaces between them, without punctuation. If the
text of a clip holds anything else (digits, Cyrillic, a placeholder for a number), it does not say what is spoken, and
the clip is in pretraining.parquet only.
"""

import argparse
import io
import logging
import re
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
from datasets import Audio, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from debian_packages import unpack

logger = logging.getLogger(__name__)

RATE = 16_000
LETTERS = {
    "cs": frozenset("aábcčdďeéěfghiíjklmnňoópqrřsštťuúůvwxyýzž"),
    "nl": frozenset("abcdeéëfghiïjklmnopqrstuvwxyz"),
}
"""The letters of transcripts by language."""
DIALOGUE = re.compile(r'dialogId\("([^"]+)".*\)\s*dialogStr\(\s*"([^"]*)"\s*\)')
VALIDATION_SHARE = 1 / 7
SPLIT_SEED = 0


class Clip(NamedTuple):
    """A recording: its level and language, FLAC bytes, length in seconds, and transcript, "" if there is none."""

    level: str
    language: str
    flac: bytes
    seconds: float
    text: str


def transcripts(script: str) -> dict[str, str]:
    """The text of each dialogue in a level's script (Lua). A `dialogStr` belongs to the `dialogId` before it."""
    return dict(DIALOGUE.findall(script))


def normalized(text: str, language: str) -> str:
    """Lower-case words with single spaces between them; "" if the text holds anything but letters of the language."""
    words = " ".join(re.findall(r"\w+", text.lower()))
    return words if LETTERS[language].issuperset(words.replace(" ", "")) else ""


def held_out(levels: Collection[str]) -> set[str]:
    """The levels of the validation set: a fixed share."""
    chosen = np.random.default_rng(SPLIT_SEED).permutation(sorted(levels))
    return set(chosen[: round(len(chosen) * VALIDATION_SHARE)].tolist())


def read_clip(path: Path, text: str) -> Clip:
    """Read the recording sound/LEVEL/LANGUAGE/NAME.ogg."""
    sound, found = soundfile.read(path, dtype="float32", always_2d=True)
    sound = soxr.resample(sound.mean(axis=1), found, RATE)
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format="FLAC")
    return Clip(path.parents[1].name, path.parent.name, buffer.getvalue(), len(sound) / RATE, text)


def write(clips: list[Clip], path: Path, with_text: bool) -> None:
    """Write a table of the clips."""
    columns: dict[str, list[Any]] = {
        "audio": [{"bytes": clip.flac, "path": None} for clip in clips],
        "level": [clip.level for clip in clips],
        "language": [clip.language for clip in clips],
    }
    if with_text:
        columns["text"] = [clip.text for clip in clips]
    # The column is cast afterwards, because `from_dict` needs torchcodec for columns of type Audio.
    Dataset.from_dict(columns).cast_column("audio", Audio(decode=False)).to_parquet(path)
    logger.info(f"{len(clips)} clips, {sum(clip.seconds for clip in clips) / 60:.1f} minutes in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/fillets"))
    parser.add_argument("--languages", nargs="+", choices=sorted(LETTERS), default=["cs"], help="default: cs")
    args = parser.parse_args()
    output_dir: Path = args.output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    clips = []
    packages = ["fillets-ng-data", *(f"fillets-ng-data-{language}" for language in args.languages)]
    with tempfile.TemporaryDirectory() as scratch:
        logger.info(f"Fetching the packages {', '.join(packages)}")
        unpack(packages, Path(scratch))
        game = Path(scratch, "usr/share/games/fillets-ng")
        logger.info(f"Converting the sound to {RATE} Hz, mono")
        for language in args.languages:
            for sounds in sorted(game.glob(f"sound/*/{language}")):
                script = game / "script" / sounds.parent.name / f"dialogs_{language}.lua"
                texts = transcripts(script.read_text(encoding="utf-8")) if script.exists() else {}
                clips += [
                    read_clip(path, normalized(texts.get(path.stem, ""), language))
                    for path in sorted(sounds.glob("*.ogg"))
                ]

    validation = held_out({clip.level for clip in clips if clip.text and clip.language == args.languages[0]})
    training = [clip for clip in clips if clip.level not in validation]
    output_dir.mkdir(parents=True, exist_ok=True)
    write(training, output_dir / "pretraining.parquet", with_text=False)
    write([clip for clip in training if clip.text], output_dir / "train.parquet", with_text=True)
    labelled = [clip for clip in clips if clip.level in validation and clip.text]
    write(labelled, output_dir / "validation.parquet", with_text=True)


if __name__ == "__main__":
    main()
