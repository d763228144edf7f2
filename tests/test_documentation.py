"""What the documents name exists: paths, functions, flags, and the rooms in the picture of the architecture."""

import ast
import dataclasses
import re
from functools import cache
from pathlib import Path

import pytest

from modeling_data2vec_generic.runs import finetuning, pretraining

from .package_imports import PACKAGE, ROOMS, ROOT, SCRIPTS, room_arrows

pytestmark = pytest.mark.fast

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
OBJECTIVE = (ROOT / "docs" / "objective.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
for folder in ("docs", "examples", "benchmarks"):
    DOCUMENTS += sorted((ROOT / folder).rglob("*.md"))
FOLDERS = "tests|examples|benchmarks|docs|modeling_data2vec_generic"
FLAGS = {
    field.name for group in (*pretraining.ARGUMENTS, *finetuning.ARGUMENTS) for field in dataclasses.fields(group)
}


def test_picture__has_every_room():
    shown = re.findall(r'^    \w+\["(.+?)<br>', ARCHITECTURE, re.MULTILINE)
    assert sorted(shown) == sorted(ROOMS)


def test_picture__has_the_arrows_that_the_imports_have():
    names = dict(re.findall(r'^    (\w+)\["(.+?)<br>', ARCHITECTURE, re.MULTILINE))
    drawn = {
        (names[user], names[used]) for user, used in re.findall(r"^    (\w+) --> (\w+)$", ARCHITECTURE, re.MULTILINE)
    }
    lacking, stale = room_arrows() - drawn, drawn - room_arrows()
    assert not lacking | stale, f"docs/architecture.md: draw {sorted(lacking)}, remove {sorted(stale)}."


@cache
def defined_in(path: Path) -> frozenset[str]:
    """Functions, classes and constants of a file, and methods as Class.method."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{member.name}" for member in node.body if isinstance(member, ast.FunctionDef)}
    return frozenset(found)


def file_called(name: str) -> Path:
    """A file by its path from the package or from the root."""
    return next(path for path in (PACKAGE / name, ROOT / name) if path.is_file())


FUNCTIONS = [
    (function, file)
    for functions, file in re.findall(
        r"^\|[^|]*\|([^|]*)\| `([\w/]+\.py)` \|$", ARCHITECTURE + OBJECTIVE, re.MULTILINE
    )
    for function in re.findall(r"`([^`]+)`", functions)
] + re.findall(r"`([\w.]+)`\s+\(`([\w/]+\.py)`\)", ARCHITECTURE + CONTRIBUTING)


@pytest.mark.parametrize(("function", "file"), FUNCTIONS)
def test_function__is_where_the_document_says(function, file):
    assert function in defined_in(file_called(file))


def test_names__occur_in_the_code():
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / script for script in SCRIPTS)]
    words = set(re.findall(r"\w+", "".join(path.read_text(encoding="utf-8") for path in sources)))
    named = re.findall(r"`([A-Za-z_]\w*(?:\.(?!json)[a-z_]\w+)?)`", ARCHITECTURE + CONTRIBUTING)
    lacking = {name for name in named if not set(name.split(".")) <= words and not (ROOT / name).exists()}
    assert not lacking


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_paths__exist(path):
    """Those that start from the root; in the two documents on the code also those that start from the package. <kind>,
    <column> and RECIPE stand for any name; examples/data2vec is fairseq's."""
    text = path.read_text(encoding="utf-8")
    named = re.findall(rf"(?<![\w/.-])(?!examples/data2vec/)(?:{FOLDERS})/[\w/.<>*-]*", text)
    named += re.findall(r"python (\w+\.py)", text)
    if text in (ARCHITECTURE, CONTRIBUTING):
        named += re.findall(r"`([\w/<>*]+(?:/|\.py))`", text)
    patterns = [re.sub(r"<\w+>|RECIPE", "*", name.rstrip(".")) for name in named]
    lacking = [name for name in patterns if not any(any(folder.glob(name)) for folder in (ROOT, PACKAGE))]
    assert not lacking


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links__lead_somewhere(path):
    for link in re.findall(r"\]\((?!http)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


def test_flags__exist():
    named = set(re.findall(r"`--(\w+)", ARCHITECTURE + CONTRIBUTING))
    assert named <= FLAGS
