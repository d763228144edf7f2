"""Which file of the package imports which, read from the source: imports inside of functions count too."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "modeling_data2vec_generic"
SCRIPTS = ("run_pretraining.py", "run_finetune.py")
TRAVELLING = "_data2vec_generic.py"  # ending of the files that are saved with a checkpoint

# A room imports from itself and from rooms that stand before it. docs/architecture.md shows them.
ROOMS = (
    "versions.py",
    "installation/",
    "model files",
    "errors.py",
    "cli/",
    "hub/",
    "capabilities/",
    "masking/",
    "data/",
    "data/tables/",
    "data/folders/",
    "data/sources/",
    "evaluation/",
    "training/",
    "conversion/",
    "exporting/",
    "figures/",
    "modalities/",
    "choosing/",
    "embedding/",
    "finetuning/",
    "reporting/",
    "runs/",
    "__init__.py",
    "commands/",
    "__main__.py",
    "scripts",
)


def package_files() -> list[str]:
    """Paths of all Python files of the package, from its own folder."""
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def room_of(file: str) -> str:
    """The room that a file of the package, or one of the two scripts, belongs to.

    Raises:
        LookupError: there is none.
    """
    if file in SCRIPTS:
        return "scripts"
    if "/" not in file and file.endswith(TRAVELLING):
        return "model files"
    found = [room for room in ROOMS if file == room or (room.endswith("/") and file.startswith(room))]
    if not found:
        raise LookupError(f"{file} belongs to no room: move it into a folder, or add its own to ROOMS in {__file__}.")
    return max(found, key=len)


@cache
def imports() -> dict[str, list[str]]:
    """By file of the package, and by script, the files of the package that it imports."""
    sources = {file: PACKAGE / file for file in package_files()} | {file: ROOT / file for file in SCRIPTS}
    return {file: sorted(set(_imported_by(file, path)) - {file}) for file, path in sources.items()}


def _imported_by(file: str, path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _file_of(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            if node.level:
                module = [PACKAGE.name, *Path(file).parts[: -node.level], *module]
            for alias in node.names:  # of a folder, a name may be a file or something in its `__init__`
                yield from _file_of([*module, alias.name]) or _file_of(module)


def _file_of(module: list[str]) -> list[str]:
    """The file of a module of the package; none of other modules, and of names that are not modules."""
    if module[0] != PACKAGE.name:
        return []
    candidates = ("/".join([*module[1:], "__init__"]), "/".join(module[1:]))
    return [f"{name}.py" for name in candidates if name and (PACKAGE / f"{name}.py").is_file()][:1]


def room_imports() -> dict[str, set[str]]:
    """By room, the other rooms that its files import."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for file, imported in imports().items():
        found[room_of(file)].update(map(room_of, imported))
    return {room: others - {room} for room, others in found.items()}


def room_arrows() -> set[tuple[str, str]]:
    """The pairs (room, room that it imports) without those that follow from others, for a picture."""
    uses = room_imports()

    def reached(room: str) -> set[str]:
        return uses[room].union(*map(reached, uses[room]))

    return {
        (room, used)
        for room, found in uses.items()
        for used in found
        if not any(used in reached(other) for other in found - {used})
    }
