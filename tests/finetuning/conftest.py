"""A fixture that runs the script as most tests in this folder do."""

from collections.abc import Callable
from pathlib import Path

import pytest

import run_finetune

from ..tiny import run_flags


@pytest.fixture
def finetune(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., Path]:
    """Run the script, with the flags ALWAYS of the test's module before those of the test; returns the output
    directory. DATA in a flag stands for the module's `data`. Figures are left out unless a test reads them: drawing
    them takes longer than all the rest."""
    always: list[str] = getattr(request.module, "ALWAYS", [])

    def run(*flags: str, steps: int = 2, figures: bool = False) -> Path:
        output_dir = tmp_path / "out"
        in_place = [flag.replace("DATA", str(data)) for flag in flags]
        with monkeypatch.context() as patch:
            if not figures:
                patch.setattr("modeling_data2vec_generic.reporting.finetuning.find_spec", lambda name: None)
            shared = [*run_flags(output_dir, steps), "--validation_split_percentage", "34"]
            run_finetune.main([*shared, *always, *in_place])
        return output_dir

    return run
