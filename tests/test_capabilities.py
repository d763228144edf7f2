"""The command that says what can be done with an encoder type, and the table in the documentation."""

from pathlib import Path

import pytest
import torch

from modeling_data2vec_generic import capabilities
from modeling_data2vec_generic.capabilities import BEGIN, END, NAMES, as_table, as_text, capability_of, main, written

DOCUMENTATION = Path(__file__).parents[1] / "docs" / "backbones.md"


@pytest.fixture(scope="module")
def table() -> str:
    return capabilities.whole_table()


def test_table__in_the_documentation_is_what_the_command_prints(table, capsys, monkeypatch):
    monkeypatch.setattr(capabilities, "whole_table", lambda: table)
    main([])
    _, _, rest = DOCUMENTATION.read_text(encoding="utf-8").partition(BEGIN + "\n")
    documented, end, _ = rest.partition(END)
    assert end
    assert documented == capsys.readouterr().out, (
        "stale: run python -m modeling_data2vec_generic.capabilities --write docs/backbones.md"
    )


def test_table__has_each_type_once_and_a_reason_for_every_no(table):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == NAMES
    assert len(set(NAMES)) == len(NAMES) >= 75
    for name, mask_token, visible, prefix, _, _, reason in rows:
        assert bool(reason) == (visible != "yes"), name
        assert (mask_token == "yes") == (prefix != ""), name
        assert mask_token == "yes" or visible != "yes", name


@pytest.mark.parametrize(
    ("model_type", "mask_token", "visible", "prefix", "premix", "content", "block"),
    [
        ("bert", True, True, 0, False, "embeddings.word_embeddings", "encoder.layer.0"),
        ("deit", True, True, 2, False, "embeddings.patch_embeddings", "layers.0"),
        ("wav2vec2", True, True, 0, True, "feature_projection", "encoder.layers.0"),
        ("whisper", True, True, 0, False, "conv2", "layers.0"),
        ("t5", True, True, 0, False, "embed_tokens", "block.0"),
        ("fnet", True, False, 0, False, "embeddings.word_embeddings", "encoder.layer.0"),
    ],
)
def test_type__is_what_its_architecture_is_known_to_be(
    model_type, mask_token, visible, prefix, premix, content, block
):
    found = capability_of(model_type)
    assert (found.mask_token, found.visible) == (mask_token, visible)
    assert (found.measurements.prefix, found.measurements.mixes_neighbours) == (prefix, premix)
    assert (found.layout.content, found.layout.blocks[0]) == (content, block)


def test_type__in_stages_is_masked_by_its_last_stage():
    found = capability_of("swin")
    assert (found.mask_token, found.visible, found.measurements.stride) == (True, False, 4)
    assert found.layout.hierarchical
    assert found.reason == "it works in stages that merge neighbouring positions"


def test_type__that_lacks_a_seam_says_which():
    assert "no torch.nn.ModuleList whose members are of one class" in capability_of("swiftformer").reason
    assert "get_input_embeddings() is not implemented" in capability_of("canine").reason


def test_type__that_wants_more_than_one_input_is_not_judged():
    found = capability_of("bros")
    assert (found.mask_token, found.visible) == (None, None)
    assert "not known" in as_table([found])


def test_type__that_is_not_in_the_table_is_examined_too():
    assert "gpt2" not in NAMES
    assert capability_of("gpt2").layout.blocks[0] == "h.0"


def test_capability__does_not_touch_the_random_numbers_of_others():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    capability_of("vit")
    assert torch.equal(torch.rand(2), expected)


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
    monkeypatch.setattr(capabilities, "whole_table", lambda: "")
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_write__changes_what_is_between_the_markers_only(tmp_path, monkeypatch):
    path = tmp_path / "some.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(capabilities, "whole_table", lambda: "new\n")
    main(["--write", str(path)])
    assert path.read_text(encoding="utf-8") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["no markers", f"{END}\n{BEGIN}\n"])
def test_write__needs_both_markers(text):
    with pytest.raises(ValueError, match=r"some\.md has no place for the table"):
        written(text, "table", Path("some.md"))
