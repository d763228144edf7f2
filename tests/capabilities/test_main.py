"""The command that says what can be done with a type of encoder."""

import pytest

from modeling_data2vec_generic.capabilities import BEGIN, END, as_text, capability_of
from modeling_data2vec_generic.capabilities import __main__ as command
from modeling_data2vec_generic.capabilities.__main__ import main


def test_command__prints_one_type(capsys):
    main(["vit"])
    printed = capsys.readouterr().out
    assert printed == as_text(capability_of("vit"))
    for line in (
        "student_input='mask_token': yes",
        "student_input='visible': yes",
        "reads: pixel_values",
        "content module: embeddings.patch_embeddings, 32 channels",
        "prefix tokens: 1",
    ):
        assert line in printed.splitlines()
    assert "why not" not in printed


def test_command__gives_the_reason_in_full(capsys):
    main(["yolos"])
    assert "why not: its blocks do not run on a part of the positions (RuntimeError" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wave2vec2"], "'wave2vec2' is not a model type that AutoModel knows. Did you mean wav2vec2"),
        (["vit", "--write", "x.md"], "does not go with a model type"),
        (["--write", "no_such_file.md"], "no_such_file.md"),
    ],
)
def test_command__wrong_use_is_named(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(command, "whole_table", lambda: "")
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_write__changes_what_is_between_the_markers_only(tmp_path, monkeypatch):
    path = tmp_path / "some.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(command, "whole_table", lambda: "new\n")
    main(["--write", str(path)])
    assert path.read_text(encoding="utf-8") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
