"""What the documents say of the code is so: messages of errors, presets, verdicts, decays."""

import ast
import math
import re
from functools import cache

import pytest

from modeling_data2vec_generic.modalities.presets import OBJECTIVES, preset_of
from modeling_data2vec_generic.training.monitoring.verdict import STATES

from .package_imports import PACKAGE, ROOT

pytestmark = pytest.mark.fast

DOCS = ROOT / "docs"
MESSAGES = re.findall(r"^> (.+)$", (DOCS / "faq.md").read_text(encoding="utf-8"), re.M)
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")


@cache
def strings_of_the_code() -> tuple[str, ...]:
    """All strings of the package, with `…` in place of the fields of f-strings."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def test_messages__are_found():
    assert len(MESSAGES) > 20


@pytest.mark.parametrize("message", MESSAGES)
def test_message__is_one_of_the_code(message):
    pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")))
    assert any(pattern.fullmatch(text) for text in strings_of_the_code())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("name", "modality"), [("images", "vision"), ("text", "text"), ("speech", "speech"), ("series", "series")]
)
def test_presets__are_those_of_the_table(name, modality, objective):
    preset = preset_of(objective, modality)
    row = re.search(rf"^\| {name}, `{objective}` \|(.*)\|$", SETTINGS, re.M)[1]
    student, masks, masked, targets, predictor = (cell.strip() for cell in row.split("|"))
    assert student.startswith({"visible": "visible"}.get(preset.config.get("student_input"), "mask token"))
    assert int(masks.split(",")[0]) == preset.config.get("num_masks", 1)
    ratio = preset.mask["mask_ratio"]
    share = 1 - math.exp(-ratio) if preset.mask["mask_strategy"] == "span" else ratio
    assert f"{share:.0%}" in masked
    top = targets.split(",")[0]
    assert preset.top_k_share == pytest.approx(1 if top == "all" else int(top[0]) / int(top[2]))
    assert ("block" in targets) == (preset.config.get("target_source") == "block")
    assert predictor.lower().startswith(preset.config.get("predictor", "linear"))
    assert str(preset.config.get("decoder_layers", "")) in predictor


def test_decays__forget_half_of_the_weights_in_as_many_steps_as_the_table_says():
    rows = re.findall(r"^\| (\.9\d*) \| ([\d,]+) steps \|$", SETTINGS, re.M)
    assert len(rows) > 3
    for decay, steps in rows:
        assert float(decay) ** int(steps.replace(",", "")) == pytest.approx(0.5, rel=0.005)


def test_verdicts__are_explained():
    text = (DOCS / "health.md").read_text(encoding="utf-8")
    assert not [state for state in STATES if f"| {state} |" not in text]
