"""The table of all types, and its place in the documentation."""

from pathlib import Path

import pytest

from modeling_data2vec_generic.capabilities import BEGIN, ENCODER_TYPES, END, SETTINGS, whole_table, written
from modeling_data2vec_generic.capabilities import __main__ as command

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "backbones.md"


@pytest.fixture(scope="module")
def table() -> str:
    return whole_table()


def test_table__in_the_documentation_is_what_the_command_prints(table, capsys, monkeypatch):
    monkeypatch.setattr(command, "whole_table", lambda: table)
    command.main([])
    _, _, rest = DOCUMENTATION.read_text(encoding="utf-8").partition(BEGIN + "\n")
    documented, end, _ = rest.partition(END)
    assert end
    assert documented == capsys.readouterr().out, (
        "stale: run python -m modeling_data2vec_generic.capabilities --write docs/backbones.md"
    )


def test_table__has_each_type_once_and_a_reason_for_every_no(table):
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == [name for types in ENCODER_TYPES.values() for name in types]
    assert len(SETTINGS) == len(rows) >= 75
    for name, mask_token, visible, packing, prefix, _, _, reason in rows:
        assert bool(reason) == (visible != "yes"), name
        assert (mask_token == "yes") == (prefix != ""), name
        assert mask_token == "yes" or visible != "yes", name
        assert packing in ("", "yes") or packing.startswith("no: "), name
    packed = {row[0].strip("`") for row in rows if row[3] == "yes"}
    assert packed > {"bert", "roberta", "modernbert", "electra", "deberta-v2", "distilbert", "esm", "t5", "roformer"}
    assert not packed & {"bart", "convbert", "fnet", "longformer", "nystromformer", "mobilebert"}


@pytest.mark.parametrize("text", ["no markers", f"{END}\n{BEGIN}\n"])
def test_write__needs_both_markers(text):
    with pytest.raises(ValueError, match=r"some\.md has no place for the table"):
        written(text, "table", Path("some.md"))
