"""`data2vec doctor`: versions, what is missing, and the commands that bring it."""

import configparser
import sys
import types
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from modeling_data2vec_generic.commands import doctor
from modeling_data2vec_generic.installation import devices, features, packages
from modeling_data2vec_generic.installation.features import FEATURES, Feature
from modeling_data2vec_generic.installation.packages import look_up

pytestmark = pytest.mark.fast

SETUP = configparser.ConfigParser()
SETUP.read(Path(__file__).parents[2] / "setup.cfg")
TOOLS = {"dev", "tests", "docs"}  # extras for those who change the package


def listed(extra: str | None) -> list[Requirement]:
    lists = SETUP["options"]["install_requires"] if extra is None else SETUP["options.extras_require"][extra]
    return [Requirement(line) for line in lists.split("\n") if line and not line.startswith("#")]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Versions by name, as if these packages alone were installed; requirements are those of setup.cfg."""
    installed = {one.name: one.specifier for extra in (None, "vision", "speech", "reports") for one in listed(extra)}
    versions = {name: next(iter(wanted)).version for name, wanted in installed.items()}
    versions["transformers"] = "5.10.1"

    def version(name: str) -> str:
        if name not in versions:
            raise packages.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(packages, "import_module", lambda name: types.ModuleType(name))
    monkeypatch.setattr(packages.metadata, "version", version)
    monkeypatch.setattr(packages.metadata, "metadata", lambda name: {"Requires-Python": ">=3.11"})
    monkeypatch.setattr(doctor, "requirements", lambda: listed(None))
    monkeypatch.setattr(features, "requirements", listed)
    monkeypatch.setattr(doctor, "get_token", lambda: "hf_secret")
    return versions


def report(capsys) -> str:
    doctor.main([])
    return capsys.readouterr().out


def line(text: str, beginning: str) -> str:
    (found,) = [line for line in text.splitlines() if line.strip().startswith(beginning)]
    return " ".join(found.split())


def test_doctor__where_nothing_is_missing(environment, capsys):
    environment |= {name: "1.0" for one in FEATURES for name in one.packages if name not in environment}
    environment["onnxruntime"] = environment["onnx"] = environment["onnxscript"] = "99.0"
    text = report(capsys)
    assert text.endswith("All that every run needs is there.\n")
    assert line(text, "numpy") == "numpy 2.0 (>=2.0) ok"
    features = text.split("What is needed for some runs alone\n")[1].split("\n\n")[0]
    assert [entry.split()[-1] for entry in features.splitlines()] == ["ok"] * len(FEATURES)


def test_doctor__never_shows_the_token(capsys, monkeypatch):
    text = report(capsys)
    assert "hf_secret" not in text
    assert line(text, "token").endswith(" ok")
    monkeypatch.setattr(doctor, "get_token", lambda: None)
    assert line(report(capsys), "token").endswith("none. hf auth login")


def test_doctor__packages_that_some_runs_need_are_no_failure(environment, capsys):
    del environment["Pillow"], environment["scipy"]
    text = report(capsys)
    assert line(text, "images and video") == (
        'images and video Pillow: missing. pip install "modeling_data2vec_generic[vision]"'
    )
    assert "scipy: missing" in line(text, "comparisons of runs")
    assert line(text, "--report_to wandb").endswith("wandb: missing. pip install wandb")


@pytest.mark.parametrize(
    ("name", "version", "problem"),
    [
        ("transformers", "5.9.0", 'too old. pip install "transformers<5.'),
        ("transformers", "6.0.0", 'newer than was tested. pip install "transformers<5.'),
        ("numpy", "1.26.4", 'too old. pip install "numpy>=2.0"'),
        ("datasets", None, 'missing. pip install "datasets>=4.0"'),
    ],
)
def test_doctor__exits_with_1_if_a_needed_package_does_not_fit(name, version, problem, environment, capsys):
    environment[name] = version
    if version is None:
        del environment[name]
    with pytest.raises(SystemExit) as stopped:
        doctor.main([])
    text = capsys.readouterr().out
    assert stopped.value.code == 1
    assert problem in line(text, f"{name} ")
    assert f"Runs may fail: {name} is {problem.split('.')[0]}." in text


def test_doctor__exits_with_1_on_another_python(monkeypatch, capsys):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.4")
    with pytest.raises(SystemExit) as stopped:
        doctor.main([])
    assert stopped.value.code == 1
    assert line(capsys.readouterr().out, "Python") == "Python 3.10.4 (>=3.11) not tested. use another interpreter"


def test_look_up__says_why_a_package_cannot_be_imported(monkeypatch):
    def fail(name: str) -> None:
        raise OSError(f"{name}: libsndfile.so not found\nand more")

    monkeypatch.setattr(packages, "import_module", fail)
    found = look_up(Requirement("soundfile>=0.13"))
    assert found.problem == "cannot be imported (OSError: soundfile: libsndfile.so not found)"
    assert found.remedy == 'pip install --force-reinstall --no-deps "soundfile>=0.13"'


@pytest.mark.parametrize("name", ["Pillow", "PyYAML", "scikit-learn", "torch"])
def test_look_up__imports_a_package_by_the_name_of_its_module(name, monkeypatch):
    imported = []
    monkeypatch.setattr(packages, "import_module", imported.append)
    look_up(Requirement(name))
    assert imported[0] in sys.modules or imported[0] in ("PIL", "yaml", "sklearn", "torch")


def test_features__have_all_optional_packages_of_setup_cfg():
    for extra in SETUP["options.extras_require"].keys() - TOOLS:
        named = {name for feature in FEATURES if feature.extra == extra for name in feature.packages}
        assert named == {one.name for one in listed(extra)}


def test_feature__that_one_of_several_packages_is_enough_for(environment):
    feature = Feature("logs", ("tensorboard", "tensorboardX"), any_of=True)
    found = feature.look_up()
    assert feature.remedy(feature.problems(found)) == "pip install tensorboard"
    environment["tensorboardX"] = "2.6"
    assert feature.problems(feature.look_up()) == []


def test_requirements__where_only_the_files_are_there(monkeypatch):
    def nothing(name: str) -> None:
        raise packages.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "requires", nothing)
    with pytest.raises(ValueError, match=r"is not installed in this environment .* `pip install -e \.`"):
        packages.requirements()


def test_requirements__of_the_package_and_of_an_extra(monkeypatch):
    lines = ["torch>=2.6", 'Pillow>=11.3; extra == "vision"', 'av>=14.0; extra == "speech"']
    monkeypatch.setattr(packages.metadata, "requires", lambda name: lines)
    assert [one.name for one in packages.requirements()] == ["torch"]
    assert [one.name for one in packages.requirements("vision")] == ["Pillow"]


# --- devices


def test_accelerators__say_which_precision_to_train_in(monkeypatch):
    gpu = types.SimpleNamespace(name="H200", total_memory=140 * 2**30)
    for name, value in (("is_available", True), ("device_count", 1), ("get_device_properties", gpu)):
        monkeypatch.setattr(torch.cuda, name, lambda *args, value=value: value)
    monkeypatch.setattr(torch.cuda, "device", lambda number: torch.no_grad())
    for supported, flag in ((True, "bf16: train with --bf16"), (False, "no bf16: train with --fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, found=supported: found)
        assert devices.describe_accelerators() == [f"H200, 140 GiB, {flag}"]


def test_missing_gpu__tells_a_build_for_cpus_from_a_driver(monkeypatch):
    monkeypatch.setattr(devices, "_there_is_one", lambda text: text)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert "build for CPUs, and this machine has an NVIDIA GPU: install" in devices.missing_gpu()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "13.0 and finds no GPU, though this machine has one: its driver" in devices.missing_gpu()


def test_cpu__cores_and_memory():
    assert "cores, " in devices.describe_cpu()
    assert devices.describe_cpu().endswith(" GiB of memory")
