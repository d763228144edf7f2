"""Names and texts as data have them, in pictures of predictions."""

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.image import imread
from matplotlib.text import Text

from modeling_data2vec_generic.figures import fonts as fonts_module
from modeling_data2vec_generic.figures.predictions import plot_confusion, plot_errors, plot_masks

pytestmark = pytest.mark.fast

NAMES = ["$5_$ and $\\x$", "in\ntwo lines", "of many words " * 10, "x"]
LABELS, PREDICTED = np.array([0, 1, 2, 3]), np.array([1, 0, 2, 2])
IMAGE, MASK = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)


@pytest.mark.parametrize(
    "plot",
    [
        lambda path: plot_confusion(LABELS, PREDICTED, NAMES, path),
        lambda path: plot_errors([f"{name}, taken for x" for name in NAMES], NAMES, path),
        lambda path: plot_masks(NAMES[:1], [IMAGE], [MASK], [MASK], NAMES, path),
    ],
    ids=["confusion", "errors", "masks"],
)
def test_names__of_any_kind_are_drawn_as_they_are(plot, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # names that leave no room for the rest
        path = plot(tmp_path / "figure.png")
    assert imread(path)[..., :3].std() > 0


CHINESE = ["这个产品的质量", "服务态度", "x", "正面"]


def texts(figures: list[Figure]) -> list[Text]:
    return [text for text in figures[-1].findobj(Text) if text.get_text()]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved; a letter that a font lacks is an error."""
    saved = []
    savefig = Figure.savefig

    def note(figure, *args, **kwargs):
        saved.append(figure)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            savefig(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", note)
    return saved


@pytest.fixture
def fonts(monkeypatch):
    """Sets the letters that further fonts have, as if these were installed."""

    def install(families: dict[str, str]):
        monkeypatch.setattr(fonts_module, "_family_with", lambda letter: families.get(letter))

    return install


def test_names__that_no_font_can_draw_are_numbers_with_a_key(figures, fonts, tmp_path):
    fonts({})
    plot_confusion(LABELS, PREDICTED, CHINESE, tmp_path / "confusion.png")
    shown = [text.get_text() for text in texts(figures)]
    assert {"0", "1", "x", "3"} <= set(shown)
    assert any("id2label of config.json" in text for text in shown)
    assert not any(letter in text for text in shown for letter in "".join(CHINESE).replace("x", ""))
    plot_masks(["a"], [IMAGE], [MASK], [MASK], CHINESE, tmp_path / "masks.png")
    plot_errors(["服务 taken for x"], ["这 text"], tmp_path / "errors.png")
    assert {"·· taken for x", "· text"} <= {text.get_text() for text in texts(figures)}


def test_names__are_drawn_with_an_installed_font_that_has_their_letters(figures, monkeypatch, tmp_path):
    # DejaVu Serif has what matplotlib's own font is made to lack here.
    sans, serif = (findfont(FontProperties(family=family)) for family in ("DejaVu Sans", "DejaVu Serif"))
    letters = fonts_module._letters
    monkeypatch.setattr(fonts_module, "_letters", lambda font: letters(font) - ({ord("ж")} if font == sans else set()))
    monkeypatch.setattr(fonts_module, "_family_with", fonts_module._family_with.__wrapped__)
    installed = [entry for entry in fontManager.ttflist if entry.fname in (sans, serif)]
    monkeypatch.setattr(fontManager, "ttflist", installed)
    plot_confusion(LABELS, PREDICTED, ["жук", "b", "c", "d"], tmp_path / "confusion.png")
    drawn = [text for text in texts(figures) if text.get_text() == "жук"]
    assert drawn
    assert all(text.get_fontfamily()[-1] == "DejaVu Serif" for text in drawn)
    assert not any("id2label" in text.get_text() for text in texts(figures))
