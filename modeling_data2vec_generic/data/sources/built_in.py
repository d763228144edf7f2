"""Small datasets that come with installed packages, so that a first run needs no download."""

from collections.abc import Callable

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image

_TOPIC_STRIDE = 10  # every tenth topic of python_docs is validation data


def load_digits() -> dict[str, Dataset]:
    """1,797 handwritten digits of 8x8 grey pixels (columns image, label), split 80:20 evenly over the ten classes."""
    import PIL.Image
    from sklearn.datasets import load_digits as sklearn_digits
    from sklearn.model_selection import train_test_split

    digits = sklearn_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # scikit-learn's grey levels run from 0 to 16
    train, validation = train_test_split(np.arange(len(pixels)), test_size=0.2, stratify=digits.target, random_state=0)
    features = Features({"image": Image(), "label": ClassLabel(names=[str(digit) for digit in range(10)])})

    def rows(positions: np.ndarray) -> Dataset:
        images = [PIL.Image.fromarray(pixels[position]) for position in positions]
        return Dataset.from_dict({"image": images, "label": digits.target[positions].tolist()}, features=features)

    return {"train": rows(np.sort(train)), "validation": rows(np.sort(validation))}


def load_python_docs() -> dict[str, Dataset]:
    """Paragraphs of the language reference that Python's help() shows (column text), split by topic."""
    from pydoc_data.topics import topics

    train: list[str] = []
    validation: list[str] = []
    for position, name in enumerate(sorted(topics)):
        rows = validation if position % _TOPIC_STRIDE == 0 else train
        for paragraph in topics[name].split("\n\n"):
            text = " ".join(paragraph.split())
            if any(character.isalpha() for character in text):
                rows.append(text)
    return {"train": Dataset.from_dict({"text": train}), "validation": Dataset.from_dict({"text": validation})}


BUILT_IN: dict[str, tuple[str, Callable[[], dict[str, Dataset]]]] = {
    "digits": ("vision", load_digits),
    "python_docs": ("text", load_python_docs),
}
