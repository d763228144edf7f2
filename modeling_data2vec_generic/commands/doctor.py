"""`data2vec doctor`: what is installed, what a run can use, and what is missing for which kind of data."""

import platform
import sys
from collections.abc import Iterator

from huggingface_hub import constants, get_token

from ..cli import CommandParser
from ..installation.devices import describe_accelerators, describe_cpu, missing_gpu
from ..installation.features import FEATURES
from ..installation.packages import look_up, python_versions, requirements

_WIDTH = 42


def main(argv: list[str]) -> None:
    """Prints the report.

    Raises:
        ValueError: this package is not installed.
        SystemExit: with code 1, if something that every run needs is missing, too old, too new or broken.
    """
    CommandParser(
        prog="data2vec doctor",
        description="Print versions, devices, and what is missing for which kind of data, with the command that "
        "brings it. The exit code is 1 if something that every run needs is missing or broken.",
    ).parse_args(argv)
    broken, needed = _needed()
    sys.stdout.writelines(f"{line}\n" for line in (*needed, "", *_devices(), "", *_features(), "", *_hub()))
    if broken:
        sys.stdout.write(f"\nRuns may fail: {', '.join(broken)}. The commands above mend it.\n")
        raise SystemExit(1)
    sys.stdout.write("\nAll that every run needs is there.\n")


def _needed() -> tuple[list[str], list[str]]:
    """What is wrong with what every run needs, and the lines about it."""
    broken, lines = [], ["What every run needs"]
    found, wanted = platform.python_version(), python_versions()
    problem = "" if wanted.contains(found, prereleases=True) else "not tested"
    lines.append(_line(f"Python {found} ({_plain(wanted)})", problem, "use another interpreter"))
    broken += [f"Python {found} is {problem}"] if problem else []
    for package in map(look_up, requirements()):
        lines.append(
            _line(
                f"{package.name} {package.version or '-'} ({_plain(package.wanted)})", package.problem, package.remedy
            )
        )
        broken += [f"{package.name} is {package.problem}"] if package.problem else []
    return broken, lines


def _devices() -> Iterator[str]:
    yield "Devices"
    yield f"  {'CPU':<{_WIDTH}}  {describe_cpu()}"
    accelerators = describe_accelerators()
    for number, text in enumerate(accelerators):
        yield f"  {f'GPU {number}':<{_WIDTH}}  {text}"
    if not accelerators:
        yield f"  {'GPU':<{_WIDTH}}  none: {missing_gpu()}"


def _features() -> Iterator[str]:
    yield "What is needed for some runs alone"
    for feature in FEATURES:
        problems = feature.problems(feature.look_up())
        yield _line(
            feature.name,
            "; ".join(f"{package.name}: {package.problem}" for package in problems),
            feature.remedy(problems) if problems else "",
        )


def _hub() -> Iterator[str]:
    """Whether there is a token, which is not shown, and is not sent anywhere."""
    yield "Hugging Face Hub"
    offline = constants.HF_HUB_OFFLINE
    yield _line("access", "HF_HUB_OFFLINE is set" if offline else "", "unset HF_HUB_OFFLINE")
    yield _line("token, for pushing and private data", "" if get_token() else "none", "hf auth login")


def _plain(wanted: object) -> str:
    return str(wanted).replace(",", ", ") or "any version"


def _line(name: str, problem: str, remedy: str) -> str:
    return f"  {name:<{_WIDTH}}  " + (f"{problem}. {remedy}" if problem else "ok")
