"""Versions of packages beside those that this package asks for, and whether they can be imported."""

import sys
from dataclasses import dataclass
from importlib import import_module, metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

DISTRIBUTION = "modeling_data2vec_generic"
# Where a package is imported by another name than it is installed by.
_MODULES = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "sentence-transformers": "sentence_transformers",
}


@dataclass(frozen=True)
class Package:
    """A package as it is found.

    Attributes:
        name: by which it is installed.
        wanted: the versions that are asked for; any, if empty.
        version: the one that is there; None if there is none.
        fault: why it can't be imported; "" if it can, or is not there.
    """

    name: str
    wanted: SpecifierSet
    version: str | None
    fault: str = ""

    @property
    def problem(self) -> str:
        """What is wrong with it, in words; "" if nothing is."""
        if self.version is None:
            return "missing"
        if not self.wanted.contains(self.version, prereleases=True):
            return "too old" if _is_below(self.version, self.wanted) else "newer than was tested"
        return f"cannot be imported ({self.fault})" if self.fault else ""

    @property
    def remedy(self) -> str:
        """The command that installs a version that fits."""
        again = "--force-reinstall --no-deps " if self.fault and self.problem.startswith("cannot") else ""
        return f"pip install {again}" + (f'"{self.name}{self.wanted}"' if str(self.wanted) else self.name)


def requirements(extra: str | None = None) -> list[Requirement]:
    """What this package asks for: always, or with one of its extras alone.

    Raises:
        ValueError: this package is not installed, so that nothing says what it needs.
    """
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError as error:
        raise ValueError(
            f"{DISTRIBUTION} is not installed in this environment ({sys.prefix}), only its files are found. Run `pip "
            "install -e .` in the folder of the repository."
        ) from error
    found = [Requirement(line) for line in lines]
    if extra is None:
        return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]
    return [one for one in found if one.marker is not None and one.marker.evaluate({"extra": extra})]


def look_up(requirement: Requirement) -> Package:
    """The package that a requirement names, as it is installed. It is imported, which finds missing libraries."""
    name = requirement.name
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Package(name, requirement.specifier, None)
    module = _MODULES.get(canonicalize_name(name), name.replace("-", "_"))
    try:
        import_module(module)
    except Exception as error:  # a broken package may raise anything, such as OSError where a library is missing
        return Package(name, requirement.specifier, version, f"{type(error).__name__}: {error}".splitlines()[0])
    return Package(name, requirement.specifier, version)


def python_versions() -> SpecifierSet:
    """The versions of Python that this package asks for."""
    return SpecifierSet(metadata.metadata(DISTRIBUTION)["Requires-Python"])


def _is_below(version: str, wanted: SpecifierSet) -> bool:
    floors = [Version(one.version) for one in wanted if one.operator in (">=", ">", "==", "~=")]
    return any(Version(version) < floor for floor in floors)
