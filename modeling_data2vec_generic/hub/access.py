"""A repository of the Hub, whether it can be written to, and errors of the Hub in our words."""

from dataclasses import dataclass, field, replace

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

# Of httpx or httpx2, by the version of huggingface_hub: what is raised if a server does not answer.
_ConnectionFailed: type[Exception] = HfHubHTTPError.__bases__[0]

_LOG_IN = "`hf auth login`, or set HF_TOKEN, with a token that may write"


@dataclass(frozen=True)
class Repository:
    """A model repository, and by whose right it is written to.

    Args:
        model_id: "NAMESPACE/NAME". NAME alone belongs to the user of the token.
        token: None takes that of HF_TOKEN, or the one that `hf auth login` saved. It is not part of the text of this.
        private: whether only its members see a new repository; None is the namespace's own default, which is public
            for most. An existing repository stays as it is.
        revision: the branch to write to; None is "main".
    """

    model_id: str
    token: str | None = field(default=None, repr=False)
    private: bool | None = None
    revision: str | None = None

    @property
    def api(self) -> HfApi:
        """The client, with the token."""
        return HfApi(token=self.token)


def open_repository(repository: Repository) -> Repository:
    """Create a repository if it is not there, and find out whether it can be written to, without writing anything.

    Returns:
        The same with its full id.

    Raises:
        ValueError: the Hub can't be reached, does not accept the token or the name, or does not let it write.
    """
    api, revision = repository.api, repository.revision
    try:
        model_id = api.create_repo(repository.model_id, private=repository.private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(model_id, branch=revision, exist_ok=True)
        # Asks how a file would be uploaded, which takes the right to write. `create_repo` is content with an existing
        # repository of somebody else.
        api.preupload_lfs_files(model_id, [CommitOperationAdd("README.md", b"")], revision=revision)
    except Exception as error:  # of huggingface_hub, of its HTTP library, of the operating system
        raise ValueError(
            f"The repository {repository.model_id!r} can't be written to: {explanation(error, repository.token)}."
        ) from None
    return replace(repository, model_id=model_id)


def explanation(error: Exception, token: str | None) -> str:
    """What went wrong with a request to the Hub and what helps, without the token, and without a full stop."""
    used = token or get_token()
    text = _explanation(error, has_token=used is not None)
    if used:  # the HTTP library quotes headers that it can't send
        for quoted in (used, repr(used)[1:-1]):
            text = text.replace(quoted, "***")
    return text


def _explanation(error: Exception, has_token: bool) -> str:
    hub = constants.ENDPOINT
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing is sent to the Hub. Unset it"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        said = f"{status}: {error.server_message or str(error).strip().splitlines()[0]}"
        if status == 401 and not has_token:
            return f"{hub} asks for a token, and there is none. Log in with {_LOG_IN}"
        if status == 401:
            return f"{hub} does not accept the token ({said}). Log in with {_LOG_IN}"
        if status == 403:
            return (
                f"the token may not write there ({said}). Name a repository of yours with --hub_model_id "
                f"NAMESPACE/NAME, or log in with {_LOG_IN}"
            )
        return f"{hub} answered with an error ({said}). Try again later, or check the name"
    if isinstance(error, _ConnectionFailed):
        return f"{hub} can't be reached ({type(error).__name__}: {error}). Check the connection and HF_ENDPOINT"
    return f"{type(error).__name__}: {str(error).rstrip('.')}"


def is_temporary(error: Exception) -> bool:
    """Whether the same request may succeed later: the connection broke off, or the server was busy or in trouble."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 412, 429) or error.response.status_code >= 500
    return isinstance(error, _ConnectionFailed)
