"""A hook of MkDocs: pages keep their paths in the repository, and files that they link to are part of the site.

So a link such as `../examples/vision` or `objective.md` works in the repository and on the site.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "examples/*/README.md", "benchmarks/README.md")
ASSETS = ("docs/images/*", "docs/javascripts/*")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")  # not of addresses, and without the anchor


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replaces the files of `docs` by those of PAGES and ASSETS and all that pages link to."""
    pages = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    linked = {target(page, link) for page in pages for link in LINK.findall(page.read_text(encoding="utf-8"))}
    assets = {path for pattern in ASSETS for path in ROOT.glob(pattern)}
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in sorted(pages | assets | {path for path in linked if path.is_file()}):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links to folders lead to their READMEs, as they do in the repository."""
    source = ROOT / page.file.src_uri

    def to_file(link: re.Match[str]) -> str:
        return f"{link[0].rstrip('/')}/README.md" if (source.parent / link[0]).is_dir() else link[0]

    return LINK.sub(to_file, markdown)


def target(page: Path, link: str) -> Path:
    """The file that a link of a page leads to; MkDocs warns of those that do not exist."""
    path = (page.parent / link).resolve()
    return path / "README.md" if path.is_dir() else path
