import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def marked_command(name):
    """The command between two HTML comments of the README, as .ci/run extracts it."""
    pattern = rf"<!-- {name}: begin -->\n```bash\n(.*)\n```\n<!-- {name}: end -->"
    return re.search(pattern, README)[1]


@pytest.mark.parametrize("name", ["quick start command", "test command"])
def test_readme_command__asks_for_extras_that_exist(name):
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = re.search(r"\.\[([\w,]+)\]", marked_command(name))[1].split(",")
    assert set(extras) <= set(setup["options.extras_require"])


def test_readme__paths_exist():
    paths = re.findall(r"\]\(([\w/.]+)\)|python (\S+\.py)|(examples/\S+\.json)", README)
    assert paths
    for path in filter(None, (group for match in paths for group in match)):
        assert (ROOT / path).exists(), path
