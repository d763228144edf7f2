"""The structure of the package: in which direction files import one another, and how many lie in a folder."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from .package_imports import PACKAGE, ROOMS, TRAVELLING, imports, package_files, room_of

pytestmark = pytest.mark.fast

TESTS = Path(__file__).parent
MOST_FILES = 10  # in one folder, besides `__init__`
# Besides the files that travel with a checkpoint.
AT_THE_TOP = ("__init__.py", "__main__.py", "errors.py", "versions.py")
FOLDERS = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
AUTO_CLASSES = (
    "configuration",
    "modeling",
    "classification",
    "data2vec2_encoders",
)  # model files that auto_map of a checkpoint names


def test_files__import_one_another_in_no_circle():
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        circle = " <- ".join(error.args[1])
        pytest.fail(f"{circle}: move what both sides need to a file that imports neither of them.")


def test_rooms__import_only_from_rooms_before_them():
    backwards = [
        f"{file} ({room_of(file)}) imports {imported} ({room_of(imported)})"
        for file, found in imports().items()
        for imported in found
        if ROOMS.index(room_of(imported)) > ROOMS.index(room_of(file))
    ]
    assert not backwards, (
        f"{'; '.join(backwards)}. A room imports only from rooms before it, in the order {', '.join(ROOMS)}: move "
        "what is imported to an earlier room, or hand it over as an argument."
    )


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(PACKAGE.parent).as_posix())
def test_folder__says_what_lives_in_it(folder):
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), (
        f"{folder}/__init__.py has no docstring: say in two sentences what lives there and what to read first."
    )


@pytest.mark.parametrize("folder", FOLDERS[1:], ids=lambda folder: folder.relative_to(PACKAGE).as_posix())
def test_folder__is_taken_in_at_one_look(folder):
    files = sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")
    assert len(files) <= MOST_FILES, (
        f"{folder} has {len(files)} Python files ({', '.join(files)}), more than {MOST_FILES}: move those that belong "
        "together to a folder of their own, whose __init__ says what lives there."
    )


def test_folder__of_python_files_is_a_package():
    lacking = {path.parent for path in PACKAGE.rglob("*.py")} - set(FOLDERS)
    assert not lacking, f"{lacking}: add an __init__.py with a docstring, or the folder is not installed."


def test_top__holds_the_files_that_travel_and_few_others():
    others = [file for file in package_files() if "/" not in file and not file.endswith(TRAVELLING)]
    assert sorted(others) == sorted(AT_THE_TOP), "Move the file to a folder; see docs/architecture.md for which."


def test_model_files__import_one_another_alone_and_all_travel():
    """transformers saves the files of the auto classes, and those that these import by `from .name import`."""
    reached, waiting = set(), [f"{name}{TRAVELLING}" for name in AUTO_CLASSES]
    while waiting:
        file = waiting.pop()
        if file not in reached:
            reached.add(file)
            waiting += imports()[file]
    assert sorted(reached) == [file for file in package_files() if file.endswith(TRAVELLING)], (
        "A file that travels with a checkpoint imports only files that do, which lie beside it; and what is called "
        f"*{TRAVELLING} travels. Move what else it needs into one of them, and files that do not travel to a folder."
    )


@pytest.mark.parametrize("folder", FOLDERS[1:], ids=lambda folder: folder.relative_to(PACKAGE).as_posix())
def test_folder__has_fast_tests(folder):
    """In the folder of the same name, or in one around it where several folders share their tests."""
    places = [TESTS / folder.relative_to(PACKAGE), *(TESTS / folder.relative_to(PACKAGE)).parents]
    files = next(files for place in places if (files := list(place.glob("test_*.py"))))
    assert any("mark.fast" in file.read_text(encoding="utf-8") for file in files), (
        f"No test of {folder} runs with `-m fast`: mark what takes less than a second with pytest.mark.fast."
    )
