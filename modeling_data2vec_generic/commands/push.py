"""`data2vec push`: pushes what a run saved to the Hub."""

from pathlib import Path

from ..cli import CommandParser
from ..hub.access import Repository, open_repository
from ..hub.layout import CONTENTS, repository_files
from ..hub.push import exit_code, push_directory


def main(argv: list[str]) -> None:
    """Pushes a folder as the words after `data2vec push` say.

    Raises:
        ValueError: the folder holds no model, or the repository can't be written to.
        SystemExit: the upload failed.
    """
    parser = CommandParser(prog="data2vec push", description="Push what a run saved, with its card, to the Hub.")
    parser.add_argument("folder", type=Path, help="Output directory of a run, or another folder of a model.")
    parser.add_argument("--hub_model_id", help="NAMESPACE/NAME of the repository. Default: the folder's name.")
    parser.add_argument(
        "--hub_content",
        choices=CONTENTS,
        default="both",
        help="Of a pre-training run, the plain encoder (at the top), the full model (in pretraining/), or both.",
    )
    parser.add_argument("--hub_private_repo", action="store_true", default=None, help="Make a new repository private.")
    parser.add_argument("--hub_revision", help="The branch to push to. Default: main.")
    given = parser.parse_args(argv)
    repository_files(given.folder, given.hub_content)  # before a repository is made for nothing
    repository = Repository(
        given.hub_model_id or given.folder.absolute().name, None, given.hub_private_repo, given.hub_revision
    )
    with exit_code():
        push_directory(given.folder, open_repository(repository), given.hub_content, message="Push of a saved run")
