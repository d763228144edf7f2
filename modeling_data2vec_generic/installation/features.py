"""What optional packages are for, one record for each feature that needs some."""

from dataclasses import dataclass

from packaging.requirements import Requirement

from .packages import DISTRIBUTION, Package, look_up, requirements


@dataclass(frozen=True)
class Feature:
    """Something that a run can do where optional packages are installed.

    Attributes:
        name: what it is, in words.
        packages: the packages, by the names that they are installed by.
        extra: the extra of this package that has them; None if there is none, and they are installed by their names.
        any_of: whether one of the packages is enough.
    """

    name: str
    packages: tuple[str, ...]
    extra: str | None = None
    any_of: bool = False

    def look_up(self) -> list[Package]:
        """Its packages as they are installed."""
        asked = {} if self.extra is None else {one.name: one for one in requirements(self.extra)}
        return [look_up(asked.get(name, Requirement(name))) for name in self.packages]

    def problems(self, found: list[Package]) -> list[Package]:
        """Those of its packages, as `look_up` found them, that keep it from working."""
        bad = [package for package in found if package.problem]
        return [] if self.any_of and len(bad) < len(found) else bad

    def remedy(self, problems: list[Package]) -> str:
        """The command that brings what keeps it from working."""
        if self.extra is not None and all(package.version is None for package in problems):
            return f'pip install "{DISTRIBUTION}[{self.extra}]"'
        return problems[0].remedy if self.any_of else " && ".join(package.remedy for package in problems)


FEATURES = (
    Feature("images and video", ("Pillow",), "vision"),
    Feature("TIFF, JPEG 2000 and EXR files", ("tifffile", "imagecodecs"), "vision"),
    Feature("sound", ("soundfile", "soxr"), "speech"),
    Feature("sound of m4a, aac, webm and video files", ("av",), "speech"),
    Feature("fine-tuning to transcripts", ("jiwer",), "speech"),
    Feature("figures", ("matplotlib",), "reports"),
    Feature("the probe, and digits", ("scikit-learn",), "reports"),
    Feature("comparisons of runs, metrics of numbers", ("scipy",), "reports"),
    Feature("metrics of tagged words", ("seqeval",), "reports"),
    Feature("export to ONNX", ("onnx", "onnxscript", "onnxruntime"), "export"),
    Feature("--report_to tensorboard", ("tensorboard", "tensorboardX"), any_of=True),
    Feature("--report_to wandb", ("wandb",)),
    Feature("--report_to trackio", ("trackio",)),
)
