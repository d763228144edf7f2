"""Uploads an output directory in one commit, and says what to do if that fails."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete
from transformers.utils import logging

from .access import Repository, explanation, is_temporary
from .card import hub_card, short_card
from .layout import CARD, Files, is_pretraining, is_replaced, repository_files

WAITS = (5, 20)  # seconds before the last push of a run is tried again

logger = logging.get_logger(__name__)


class PushError(RuntimeError):
    """The Hub did not take what was to be pushed. The message says where it's saved and how to push it again."""


def push_directory(
    output_dir: Path,
    repository: Repository,
    content: str = "both",
    message: str = "End of training",
    state: str = "A model trained with data2vec.",
) -> CommitInfo:
    """Push what a run saved, with its card. The repository must exist: see `open_repository`.

    Args:
        output_dir: of a pre-training or fine-tuning run, or another folder of a model.
        content: what of a pre-training run; see `repository_files`.
        message: of the commit.
        state: a sentence on the model for the card, if the directory has none.

    Raises:
        PushError: the upload failed, also after the client has tried again several times.
        ValueError: there is nothing to push; see `repository_files`.
    """
    files = files_with_card(output_dir, repository, content, state)
    try:
        info = upload(files, repository, message, WAITS)
    except PushError as error:
        raise PushError(
            f"{error} Everything is saved in {output_dir}: push it with `{command(output_dir, repository, content)}`."
        ) from None
    logger.info(f"Pushed {output_dir} to {info.repo_url}.")
    return info


def files_with_card(directory: Path, repository: Repository, content: str, state: str) -> Files:
    """`repository_files` of a directory, and its card, or a short one with the sentence `state` if it has none."""
    files = repository_files(directory, content)
    written, loaded = directory / CARD, content if is_pretraining(directory) else None
    if written.is_file():
        card = written.read_text(encoding="utf-8")
    else:
        card = short_card(repository.model_id.rpartition("/")[2], state, loaded)
    return files | {CARD: hub_card(card, repository.model_id, loaded).encode()}


def upload(files: Files, repository: Repository, message: str, waits: Sequence[float] = ()) -> CommitInfo:
    """Commit files to a repository, and remove what an earlier push has left of what they replace.

    An upload that breaks off, or that meets an error of the server, is tried again after each of `waits`, in seconds.
    Files that are there already are not sent again. The client itself tries each file again, for half a minute.

    Raises:
        PushError: it has failed each time, or for a reason that time does not heal.
    """
    left = list(waits)
    while True:
        try:
            return _commit(files, repository, message)
        except Exception as error:  # of huggingface_hub, of its HTTP library, of its storage client
            reason = explanation(error, repository.token)
            if not left or not is_temporary(error):
                raise PushError(f"{repository.model_id} was not pushed: {reason}.") from None
            logger.warning(f"{reason}. The push to {repository.model_id} is tried again in {left[0]} seconds.")
            sleep(left.pop(0))


def _commit(files: Files, repository: Repository, message: str) -> CommitInfo:
    api, model_id, revision = repository.api, repository.model_id, repository.revision
    there = api.list_repo_files(model_id, revision=revision)
    gone = [path for path in there if path not in files and is_replaced(path, files)]
    operations: list[Any] = [CommitOperationAdd(path, file) for path, file in files.items()]
    operations += [CommitOperationDelete(path, is_folder=False) for path in gone]
    return api.create_commit(model_id, operations, commit_message=message, revision=revision)


def command(output_dir: Path, repository: Repository, content: str) -> str:
    """The command line that pushes an output directory to a repository."""
    words = ["data2vec", "push", str(output_dir), "--hub_model_id", repository.model_id]
    words += [] if content == "both" else ["--hub_content", content]
    words += [] if repository.revision is None else ["--hub_revision", repository.revision]
    return shlex.join(words)


@contextmanager
def exit_code() -> Iterator[None]:
    """If a push fails, ends the process with exit code 1 and the message alone, without a traceback."""
    try:
        yield
    except PushError as error:
        raise SystemExit(str(error)) from None
