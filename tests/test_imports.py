"""What is imported without packages that it does not need.

One fresh process tries all of it, since importing PyTorch and transformers takes seconds.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORTS = """
import json, sys, traceback

errors = {}

def without(*names):
    "From now on, importing these packages fails as if they were not installed; the others may be imported."
    for name in ("PIL", "soundfile", "soxr", "matplotlib"):
        if sys.modules.get(name, ...) is None:
            del sys.modules[name]
    for name in names:
        assert name not in sys.modules, name
        sys.modules[name] = None

def attempt(what, code):
    try:
        exec(code, {})
    except Exception:
        errors[what] = traceback.format_exc()

modality = "from modeling_data2vec_generic.modalities import modality_class; modality_class({!r})"
without("PIL", "soundfile", "soxr", "matplotlib")
for name in ("text", "series"):
    attempt(name, modality.format(name))
without("soundfile", "soxr", "matplotlib")
for name in ("vision", "video"):
    attempt(name, modality.format(name))
without()
attempt("model card", '''
import sys, modeling_data2vec_generic.reporting.model_card
assert "matplotlib" not in sys.modules
''')
without("soundfile", "soxr")
attempt("quick start", "import modeling_data2vec_generic.runs.pretraining")
attempt("fine-tuning", "import modeling_data2vec_generic.runs.finetuning, modeling_data2vec_generic.finetuning.tasks")
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def errors() -> dict[str, str]:
    """The errors by what was to be imported."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_modalities__need_no_packages_of_one_another(errors):
    assert [errors[name] for name in ("text", "series", "vision", "video") if name in errors] == []


def test_model_card__needs_no_matplotlib(errors):
    assert errors.get("model card") is None


def test_quick_start__needs_no_extra_but_its_own(errors):
    assert errors.get("quick start") is None


def test_fine_tuning__needs_no_packages_for_sound(errors):
    assert errors.get("fine-tuning") is None
