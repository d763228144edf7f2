"""What is pushed to the Hub, and when: whole, in the layout of `hub/layout.py`, and never at the expense of the run.

What it adds to methods of transformers' Trainer:

| Method | What it adds | Why |
| --- | --- | --- |
| `init_hf_repo` | finds out whether the repository can be written to | else a run would learn it at its end |
| `save_model` | pushes nothing | the encoder, the figures and the card are written after it |
| `push_to_hub` | pushes what the output directory holds, with our card | Trainer's has no encoder and no figures |
| `_push_from_checkpoint` | pushes all that loading needs, in one commit; reports errors | Trainer's push lacks code |
| `_save` | leaves out the token | `training_args.bin` goes along with a model |
"""

import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, run_as_future
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress, logging

from ..hub.access import Repository, open_repository
from ..hub.layout import LAST_CHECKPOINT, Files, checkpoint_files, model_paths
from ..hub.push import PushError, files_with_card, push_directory, upload
from .arguments import RunArguments
from .loaders import replaced

PUSHING_DIR = "_hub"  # in the output directory: copies of what is being pushed

logger = logging.get_logger(__name__)


def repository_of(arguments: RunArguments) -> Repository:
    """Where a run pushes to, as its flags say; the name of the output directory is the default."""
    return Repository(
        model_id=arguments.hub_model_id or Path(str(arguments.output_dir)).absolute().name,
        token=arguments.hub_token,
        private=arguments.hub_private_repo,
        revision=arguments.hub_revision,
    )


def check_access(arguments: RunArguments) -> None:
    """Make sure, before the data are read, that a run which is to be pushed can be.

    Raises:
        ValueError: see `open_repository`.
    """
    if arguments.push_to_hub and arguments.process_index == 0:
        open_repository(repository_of(arguments))


class HubTrainer(Trainer):
    """transformers' Trainer, but for how it pushes.

    Training begins only if the repository can be written to. With `hub_strategy` "every_save" (the default), each save
    is pushed in the background, in the layout of the finished model and with a card that says how far training is.
    "checkpoint" adds the whole checkpoint as `last-checkpoint/`, to resume from, and "all_checkpoints" each one under
    its own name. If that fails, a warning says so, and training goes on. With "end", nothing is pushed before the end.

    `push_saved`, the last thing that a run does, pushes what is in the output directory by then.
    """

    args: RunArguments
    hub_model_id: Any
    push_in_progress: Any

    # --- what subclasses extend

    @property
    def hub_content(self) -> str:
        """What of a model that has an encoder in a folder of its own is pushed; see `repository_files`."""
        return "both"

    def save_for_hub(self) -> None:
        """Write to the output directory what `push_to_hub` pushes. Called on all processes."""
        self.save_model()

    def complete_checkpoint(self, folder: Path) -> None:
        """Add to the copy of a checkpoint's model what an output directory has besides. Called on the main process."""

    # --- pushing what is saved

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository if it is not there.

        Raises:
            ValueError: it can't be written to; see `open_repository`.
        """
        if self.is_world_process_zero():
            self.hub_model_id = open_repository(self._repository(token, private)).model_id
            self.push_in_progress = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as Trainer does, without pushing it."""
        super().save_model(output_dir, _internal_call=True)

    def push_to_hub(  # type: ignore[override]  # without what Trainer writes into its card
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
    ) -> CommitInfo | Future[CommitInfo] | None:
        """Save the model as it is now, and push it with what else is in the output directory. All processes call this.

        Args:
            commit_message: of the commit.
            blocking: wait until all is there; otherwise a Future is returned at once.
            token, revision, private: in place of `hub_token`, `hub_revision` and `hub_private_repo`.

        Returns:
            The commit; None on other processes than the main one.

        Raises:
            PushError: the upload failed.
            ValueError: the repository can't be written to.
        """
        self.save_for_hub()
        return self.push_saved(commit_message, blocking, token, revision, private)

    def push_saved(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
    ) -> CommitInfo | Future[CommitInfo] | None:
        """Push what is in the output directory; see `push_to_hub`."""
        if not self.is_world_process_zero():
            return None
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        self._finish_current_push()
        pushed = (
            Path(str(self.args.output_dir)),
            self._repository(token, private, revision),
            self.hub_content,
            commit_message or "End of training",
            f"Trained for {self.state.global_step} steps.",
        )
        return push_directory(*pushed) if blocking else run_as_future(push_directory, *pushed)

    def _repository(
        self, token: str | None = None, private: bool | None = None, revision: str | None = None
    ) -> Repository:
        given = repository_of(self.args)
        return Repository(
            self.hub_model_id or given.model_id,
            token or given.token,
            given.private if private is None else private,
            revision or given.revision,
        )

    # --- pushing a checkpoint while training goes on

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.args.hub_strategy == HubStrategy.END or not self.is_world_process_zero():
            return
        running = self.push_in_progress
        pending = [] if running is None or running.is_done() else running.jobs
        if pending and not self.args.hub_always_push:
            logger.info(f"{checkpoint_folder} is not pushed, since an earlier one still is.")
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        checkpoint, copies = Path(checkpoint_folder), Path(str(self.args.output_dir), PUSHING_DIR)
        if not pending and copies.is_dir():  # of a run that was killed, or of a push that did not come to pass
            shutil.rmtree(copies)
        copy = copies / checkpoint.name
        repository, step = self._repository(), f"step {self.state.global_step}"
        try:
            files = self._copied(checkpoint, copy)
            state = f"Training in progress: {step} of {self.state.max_steps}."
            files |= files_with_card(copy, repository, self.hub_content, state)
        except (OSError, ValueError) as error:  # such as a full disk, or weights in shards of FSDP's own
            logger.warning(f"{checkpoint} is not pushed: {error} Training goes on.")
            return
        job = run_as_future(_push_copy, files, repository, f"Training in progress, {step}", copy)
        jobs: Any = [*pending, job]
        self.push_in_progress = PushInProgress(jobs)

    def _copied(self, checkpoint: Path, copy: Path) -> Files:
        """Make `copy` of a checkpoint a folder like that of a finished run: the checkpoint may go before all of
        it is uploaded.

        Returns:
            The files of the copy that are pushed as a checkpoint, besides those of the model.
        """
        files: Files = {}
        if self.args.hub_strategy == HubStrategy.EVERY_SAVE:
            copy.mkdir(parents=True)
            for path in model_paths(checkpoint):
                shutil.copy(path, copy)
        else:
            shutil.copytree(checkpoint, copy)
            is_last = self.args.hub_strategy == HubStrategy.CHECKPOINT
            files = checkpoint_files(copy, LAST_CHECKPOINT if is_last else checkpoint.name)
        self.complete_checkpoint(copy)
        return files

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with replaced(self.args, hub_token=None):
            super()._save(output_dir, state_dict)


def _push_copy(files: Files, repository: Repository, message: str, copy: Path) -> None:
    """Push the copy of a checkpoint, then delete it."""
    try:
        upload(files, repository, message)
    except PushError as error:
        logger.warning(f"{message}: {error} Training goes on, and the next save is pushed again.")
    finally:
        shutil.rmtree(copy)
        if not any(copy.parent.iterdir()):
            copy.parent.rmdir()
