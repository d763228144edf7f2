"""Voice prompts of telephone exchanges, each of which two speakers say in the same language.

Italian, French and Spanish prompts of the Asterisk telephone exchange are those of Debian's packages
asterisk-core-sounds-{it,fr,es}-wav (CC-BY-SA 3.0); other speakers say them in the packages
asterisk-prompt-it-menardi-wav (CC-BY-SA 3.0), asterisk-prompt-fr-armelle and asterisk-prompt-es-co (their files
`copyright` have the licences). Prompts of the same name are mostly the same words: numbers, letters, names of the
phonetic alphabet, days, months, and short messages.

One table is written, prompts.parquet: `audio` (FLAC files, 16 kHz, mono), `language` (it, fr or es), `speaker` (0 or
1) and `name`. It has those prompts that both speakers of a language say in 0.2 to 3 seconds.
"""

import argparse
import io
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr
from datasets import Audio, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from debian_packages import unpack

logger = logging.getLogger(__name__)

RATE = 16_000
SPEAKERS = {
    "it": {"asterisk-core-sounds-it-wav": "it_IT_m_Carlo", "asterisk-prompt-it-menardi-wav": "it_IT_f_Menardi"},
    "fr": {"asterisk-core-sounds-fr-wav": "fr_CA_f_June", "asterisk-prompt-fr-armelle": "fr"},
    "es": {"asterisk-core-sounds-es-wav": "es_MX_f_Allison", "asterisk-prompt-es-co": "es"},
}
"""By language, the packages of its two speakers and their folders in usr/share/asterisk/sounds."""
SHORTEST, LONGEST = 0.2, 3.0  # seconds
QUIETEST = 0.01  # of full scale: recordings that never get louder are silence


def read(path: Path) -> np.ndarray:
    """A recording at 16 kHz, float32 (samples,). Files of GSM have no header; they are mono at 8 kHz."""
    raw = {"format": "RAW", "subtype": "GSM610", "samplerate": 8_000, "channels": 1} if path.suffix == ".gsm" else {}
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True, **raw)
    return soxr.resample(sound.mean(axis=1), rate, RATE)


def is_spoken(sound: np.ndarray) -> bool:
    """Whether a recording has a length that is wanted, and is not silence."""
    return SHORTEST <= len(sound) / RATE <= LONGEST and np.abs(sound).max() > QUIETEST


def recordings(folder: Path) -> dict[str, np.ndarray]:
    """The recordings of a speaker that are of use, by name, such as digits/1."""
    named = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.*"))}
    sounds = {name: read(path) for name, path in named.items() if path.suffix in (".wav", ".gsm")}
    return {name: sound for name, sound in sounds.items() if is_spoken(sound)}


def flac(sound: np.ndarray) -> bytes:
    """The recording as a FLAC file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format="FLAC")
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("data/prompts"))
    output_dir: Path = parser.parse_args().output_dir
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    packages = [package for folders in SPEAKERS.values() for package in folders]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        logger.info(f"Fetching the packages {', '.join(packages)}")
        unpack(packages, Path(scratch))
        sounds = Path(scratch, "usr/share/asterisk/sounds")
        for language, folders in SPEAKERS.items():
            spoken = [recordings(sounds / folder) for folder in folders.values()]
            names = sorted(set(spoken[0]) & set(spoken[1]))
            logger.info(f"{language}: {len(names)} prompts")
            rows += [
                {
                    "audio": {"bytes": flac(by_name[name]), "path": None},
                    "language": language,
                    "speaker": speaker,
                    "name": name,
                }
                for name in names
                for speaker, by_name in enumerate(spoken)
            ]
    output_dir.mkdir(parents=True, exist_ok=True)
    # The column is cast afterwards, because `from_list` needs torchcodec for columns of type Audio.
    table = Dataset.from_list(rows).cast_column("audio", Audio(decode=False))
    table.to_parquet(output_dir / "prompts.parquet")


if __name__ == "__main__":
    main()
