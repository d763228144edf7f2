"""Commands and Python code in README.md and docs/: what they name exists, and what is small enough runs.

Each block of Python runs, unless a comment above it says why not (`<!-- not run: needs the Hub -->`) or by what name a
test finds it (`<!-- own encoder: begin -->`). Flags of bash blocks are read by the parsers of the commands.
"""

import importlib.util
import re
import shlex
from configparser import ConfigParser
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser as torchrun_parser

import modeling_data2vec_generic
from modeling_data2vec_generic import cli
from modeling_data2vec_generic.cli.recipes import Purpose
from modeling_data2vec_generic.commands import console
from modeling_data2vec_generic.embedding.arguments import ARGUMENTS as EMBEDDING
from modeling_data2vec_generic.runs import finetuning, pretraining

from .package_imports import PACKAGE, ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?P<mark> *<!-- [^\n]* -->\n)?(?P<indent> *)```(?P<language>bash|python)\n(?P<code>.*?)\n *```", re.S
)
RUNS: dict[str, tuple[Purpose, Any]] = {
    "run_pretraining.py": ("pretrain", pretraining.ARGUMENTS),
    "run_finetune.py": ("finetune", finetuning.ARGUMENTS),
    "pretrain": ("pretrain", pretraining.ARGUMENTS),
    "finetune": ("finetune", finetuning.ARGUMENTS),
}
# Programs of others, whose flags are their own business.
OTHERS = {".", "cd", "git", "hf", "mkdir", "mkdocs", "mypy", "pre-commit", "python3", "ruff"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document; `mark` is the comment in the line above it."""

    document: Path
    line: int
    language: str
    code: str
    mark: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks_of(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        mark = (match["mark"] or "").strip().removeprefix("<!--").removesuffix("-->").strip()
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.M)
        found.append(Block(document, line, match["language"], code, mark))
    return found


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]
BASH = [block for block in BLOCKS if block.language == "bash"]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def commands_of(block: Block) -> list[list[str]]:
    """The commands of a bash block, each as its words, without comments and settings of the environment."""
    words = shlex.split(block.code.replace("\\\n", " ").replace("\n", " && "), comments=False)
    commands: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            commands.append([])
        else:
            commands[-1].append(word)
    without_comments = [command[: command.index("#")] if "#" in command else command for command in commands]
    return [
        [word for i, word in enumerate(command) if any("=" not in before for before in command[: i + 1])]
        for command in without_comments
        if command
    ]


def test_blocks__are_found():
    assert len(BASH) > 10
    assert len(PYTHON) > 5


@pytest.mark.fast
@pytest.mark.parametrize("block", BASH, ids=str)
def test_command__has_a_program_files_and_flags_that_exist(block, monkeypatch):
    monkeypatch.chdir(ROOT)
    for command in commands_of(block):
        check(command)


def check(command: list[str]) -> None:
    """Raises an error if a command asks for what does not exist."""
    program, *words = command
    if program == "accelerate":
        launched = launch_command_parser().parse_args(words[1:])
        assert launched.config_file is None or Path(launched.config_file).is_file(), launched.config_file
        check(launched_command(launched))
    elif program == "torchrun":
        check(launched_command(torchrun_parser().parse_args(words)))
    elif program == "sbatch":
        script = next(i for i, word in enumerate(words) if word.endswith(".sh"))
        assert Path(words[script]).is_file(), words[script]
        check(["python", "run_pretraining.py", *words[script + 1 :]])
    elif program == "data2vec":
        check_own(words)
    elif program == "python" and words[0] in RUNS:
        parse(words[1:], *RUNS[words[0]])
    elif program == "python" and words[:2] == ["-m", "pytest"]:
        lacking = [word for word in words[2:] if "/" in word and not Path(word.split("::")[0]).exists()]
        assert not lacking
    elif program == "python" and words[:2] == ["-m", "modeling_data2vec_generic"]:
        check_own(words[2:])
    elif program == "python" and words[0] == "-m":
        assert importlib.util.find_spec(words[1]), words[1]
    elif program == "python":
        assert Path(words[0]).is_file(), words[0]
    elif program == "pip":
        check_extras(words)
    else:
        assert program in OTHERS, f"{program} is not known here: add it to `check`, or correct the document."


def launched_command(launched: Any) -> list[str]:
    """The command that each of the processes runs."""
    option = ["-m"] if launched.module else []
    return ["python", *option, launched.training_script, *launched.training_script_args]


def parse(words: list[str], purpose: Purpose, groups: Any) -> None:
    flags = cli.flags_of_words(words, groups, purpose)
    cli.parse([*flags.all, "--use_cpu"], groups)  # without it, --bf16 needs a GPU


def check_own(words: list[str]) -> None:
    """Checks a command of the console script: runs by their parsers, others by the flags that their files add."""
    name, *flags = words
    assert name in console.COMMANDS, name
    if name in RUNS:
        parse(flags, *RUNS[name])
        return
    if name == "embed":
        cli.parse(list(dropwhile(lambda word: not word.startswith("-"), flags)), EMBEDDING)
        return
    source = (PACKAGE / "commands" / f"{console.COMMANDS[name][0]}.py").read_text(encoding="utf-8")
    lacking = {flag.split("=")[0] for flag in flags if flag.startswith("--")} - set(re.findall(r'"(--\w+)"', source))
    assert not lacking, f"data2vec {name} has no {', '.join(sorted(lacking))}."


def check_extras(words: list[str]) -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = {extra for word in words for found in re.findall(r"\[([\w,]+)\]", word) for extra in found.split(",")}
    assert extras <= set(setup["options.extras_require"])


def test_python__runs_or_says_why_not():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for block in PYTHON:
        if block.mark and not block.mark.startswith("not run: "):
            assert block.mark.endswith(": begin"), f"{block}: {block.mark!r} is no mark."
            assert f'"{block.mark.removesuffix(": begin")}"' in tests, f"{block}: no test asks for {block.mark!r}."


SMALL = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "probe_train_samples": 50,
    "probe_test_samples": 50,
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
}


def small(run: Any, *recipe: str, **settings: Any) -> Any:
    """A whole run of two steps."""
    probes = run is pretraining.pretrain
    return run(*recipe, **settings | {name: value for name, value in SMALL.items() if probes or "probe" not in name})


@pytest.fixture(scope="module")
def after_quick_start(tmp_path_factory):
    """A folder where the quick start has been followed, with fewer steps."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "pictures_of", lambda *_: None)
        small(pretraining.pretrain, "digits", output_dir=str(folder / "output" / "digits"))
    return folder


@pytest.mark.parametrize(
    "document", sorted({block.document for block in PYTHON if not block.mark}), ids=lambda d: d.name
)
def test_python__runs(document, after_quick_start, monkeypatch):
    """The blocks of one document run one after the other, as a reader would run them after the quick start."""
    monkeypatch.chdir(after_quick_start)
    monkeypatch.setattr(pretraining, "pictures_of", lambda *_: None)
    for run in (pretraining.pretrain, finetuning.finetune):
        monkeypatch.setattr(modeling_data2vec_generic, run.__name__, partial(small, run))
    names: dict[str, Any] = {}
    for block in blocks_of(document):
        if block.language == "python" and not block.mark:
            exec(compile(block.code, str(block), "exec"), names)
