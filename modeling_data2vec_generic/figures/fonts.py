"""Letters that matplotlib's own font lacks: an installed font that has them draws them; where there is none, classes
go by their numbers."""

from collections.abc import Sequence
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

# Of the fonts that matplotlib brings: these have a box for every letter, or signs of formulas in place of letters.
_NO_LETTERS = ("Last Resort", "STIX", "cm", "DejaVu Math")
_UNREADABLE = "·"


def drawable_names(names: Sequence[str]) -> list[str]:
    """The names, with its number in `names` in place of each that no installed font can draw."""
    return [name if all(map(_has_font, name)) else str(number) for number, name in enumerate(names)]


def choose_fonts(figure: Figure) -> None:
    """Give every text of a figure the fonts that have its letters; what no installed font has becomes a dot."""
    for text in figure.findobj(Text):
        missing = _missing(text.get_text(), findfont(text.get_fontproperties()))
        if missing:
            families = {letter: _family_with(letter) for letter in sorted(missing)}
            unreadable = {ord(letter): _UNREADABLE for letter, family in families.items() if family is None}
            text.set_text(text.get_text().translate(unreadable))
            found = dict.fromkeys(family for family in families.values() if family is not None)
            text.set_fontfamily([*text.get_fontfamily(), *found])


def _has_font(letter: str) -> bool:
    return not _missing(letter, findfont(FontProperties())) or _family_with(letter) is not None


def _missing(text: str, font: str) -> set[str]:
    return {letter for letter in text if not letter.isspace() and ord(letter) not in _letters(font)}


@cache
def _family_with(letter: str) -> str | None:
    """The first installed family that has a letter."""
    for entry in sorted(fontManager.ttflist, key=lambda entry: entry.name):
        if not entry.name.startswith(_NO_LETTERS) and ord(letter) in _letters(entry.fname):
            return entry.name
    return None


@cache
def _letters(font: str) -> frozenset[int]:
    return frozenset(get_font(font).get_charmap())
