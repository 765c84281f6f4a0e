"""Models from the Hugging Face hub: fetched once, cached, pinned to a revision; without a network it does not hang."""

import os
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.models import zoo
from percept.weights.files import INDEX, listed_files, shard_files
from percept.weights.layouts import layouts, pick_files

REACH_SECONDS = 3.0
"""How long the hub may take to answer before it counts as unreachable."""
VOCABULARY = ("openai/clip-vit-large-patch14", ("tokenizer.json", "merges.txt"))
"""Repository and files of CLIP's vocabulary, for repositories that hold nothing but weights."""

HTTP = ("httpx", "httpx2", "httpcore", "requests", "urllib3")
"""Libraries whose errors mean a failure of the network."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A model by its name: NAME or hf://OWNER/NAME, optionally with @REVISION."""

    owner: str | None
    name: str
    revision: str | None


def parse_address(text: str) -> Address:
    """Split a model's name or hub address into its parts.

    >>> parse_address("hf://facebook/PE-Core-B16-224@main")
    Address(owner='facebook', name='PE-Core-B16-224', revision='main')

    Raises:
        PerceptError: it begins with hf:// but is not an address.
    """
    if not text.startswith("hf://"):
        name, _, revision = text.partition("@")
        return Address(owner=None, name=name, revision=revision or None)
    parts = re.fullmatch(r"hf://([\w.-]+)/([\w.-]+)(?:@([\w./-]+))?", text)
    if parts is None:
        raise PerceptError(f"{text} is not an address on the hub; write hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    return Address(owner=parts[1], name=parts[2], revision=parts[3])


def fetch_weights(name: str, repository: str, revision: str | None = None) -> Path:
    """Return a local folder with the files of an encoder of a hub repository; see `fetch_folder`."""
    return fetch_folder(
        name, repository, revision, signs=_signs(name), pick=lambda files, place: pick_files(files, name, place=place)
    )


def fetch_folder(
    name: str,
    repository: str,
    revision: str | None = None,
    *,
    signs: Collection[str],
    pick: Callable[[Collection[str], str], list[str]],
    before: Callable[[Collection[str]], None] = lambda _: None,
) -> Path:
    """Return a local folder with the files of a model of a hub repository, downloaded once and cached by huggingface_hub.

    Cached files are used as they are; a different revision, or deleting them there, fetches again.

    Args:
        revision: branch, tag or commit; the main branch if None.
        signs: files by which a cached model is recognised.
        pick: returns the files to fetch, weights or their index first, among those of a folder or repository.
        before: called with the names of all files in the repository before anything is downloaded.

    Raises:
        PerceptError: it is not in the cache, and the hub cannot be reached or refused.
    """
    if (folder := _cached_folder(repository, revision, signs, pick)) is not None:
        return folder
    if not hub_allowed():
        raise _unreachable(name, repository, revision, "HF_HUB_OFFLINE is set")
    if not hub_reachable():
        raise _unreachable(name, repository, revision, "the hub does not answer; there may be no network")
    try:
        names = repository_files(repository, revision)
        wanted = pick(names, repository)
        before(names)
        notice(f"fetching {wanted[0]} from {repository}{f' at {revision}' if revision else ''}; it stays in the cache")
        local = [fetch_file(repository, file, revision) for file in wanted]
        if wanted[0].endswith(INDEX):
            for file in listed_files(local[0]):
                fetch_file(repository, file, revision)
        return local[0].parent
    except PerceptError:
        raise
    except Exception as error:
        if (reason := _refusal(error, repository, revision)) is None:
            raise
        raise _unreachable(name, repository, revision, reason) from error


def fetch_vocabulary(*, online: bool) -> Path | None:
    """Return the file of CLIP's vocabulary from the hub's cache or the hub; None, with a notice, if neither has it."""
    repository, files = VOCABULARY
    for file in files:
        if (cached := cached_file(repository, file)) is not None:
            return cached
    if not (online and hub_allowed() and hub_reachable()):
        return None
    try:
        return fetch_file(repository, files[0], None)
    except Exception as error:
        if (reason := _refusal(error, repository, None)) is None:
            raise
        notice(f"CLIP's vocabulary could not be fetched from {repository}: {reason}; texts cannot be encoded")
        return None


def cached_file(repository: str, file: str, revision: str | None = None) -> Path | None:
    """Return a file of a repository from the cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    pin = {} if revision is None else {"revision": revision}
    path = try_to_load_from_cache(repository, file, **pin)
    return Path(path) if isinstance(path, str) else None


def repository_files(repository: str, revision: str | None) -> list[str]:
    """Return the names of the files in a repository, from the hub."""
    from huggingface_hub import list_repo_files

    return list_repo_files(repository, revision=revision)


def fetch_file(repository: str, file: str, revision: str | None) -> Path:
    """Download a file into the cache, with a progress bar."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repository, file, revision=revision))


def _cached_folder(
    repository: str,
    revision: str | None,
    signs: Collection[str],
    pick: Callable[[Collection[str], str], list[str]],
) -> Path | None:
    """Return the cached folder of a revision if all files of the model are in it."""
    for sign in signs:
        if (file := cached_file(repository, sign, revision)) is None:
            continue
        try:
            weights = file.parent / pick(_names(file.parent), repository)[0]
            if weights.name.endswith(INDEX):
                shard_files(weights)
        except PerceptError:
            continue
        return file.parent
    return None


def _signs(name: str) -> list[str]:
    """Return the files by which a cached model is recognised, whatever its layout."""
    signs = [layout.config_files[:1] or layout.weight_files for layout in layouts().values()]
    return [sign.format(name=name) for group in signs for sign in group]


def _names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.exists()}  # the link of an interrupted download is broken


def hub_allowed() -> bool:
    """True if the environment permits going online: HF_HUB_OFFLINE is not set."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() not in {"1", "ON", "YES", "TRUE"}


def hub_reachable(seconds: float = REACH_SECONDS) -> bool:
    """True if the hub, or the proxy on the way to it, accepts a connection within `seconds`."""
    answers: list[bool] = []
    # In a thread, because resolving a host name has no timeout and may take half a minute without a network.
    knock = Thread(target=lambda: answers.append(_connects(seconds)), daemon=True)
    knock.start()
    knock.join(seconds)
    return bool(answers) and answers[0]


def _connects(seconds: float) -> bool:
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    target = urlsplit(getproxies().get(endpoint.scheme) or endpoint.geturl())
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        with socket.create_connection((target.hostname or "", port), timeout=seconds):
            return True
    except OSError:
        return False


def _refusal(error: Exception, repository: str, revision: str | None) -> str | None:
    """Return why the hub gave nothing; None for an error of neither the hub nor the network."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):  # what the library raises when the network fails
        return _first_line(error)
    reasons = (
        (
            errors.GatedRepoError,
            f"{repository} requires permission: accept its terms on the hub, then run: hf auth login",
        ),
        (errors.RevisionNotFoundError, f"{repository} has no revision {revision!r}"),
        (errors.RepositoryNotFoundError, f"the hub has no repository {repository}, or it is private"),
        (errors.EntryNotFoundError, f"{repository} lost a file that it lists: {_first_line(error)}"),
    )
    for kind, reason in reasons:
        if isinstance(error, kind):
            return reason
    network = isinstance(error, errors.HfHubHTTPError | OSError) or type(error).__module__.split(".")[0] in HTTP
    return _first_line(error) if network else None


def _unreachable(name: str, repository: str, revision: str | None, reason: str) -> PerceptError:
    pin = "" if revision is None else f" --revision {revision}"
    at = "" if revision is None else f" at {revision}"
    if name not in zoo.ZOO:
        return PerceptError(
            f"{repository}{at} is not on this machine and could not be fetched: {reason}. Where there is a network, run "
            f"'hf download {repository}{pin} --local-dir FOLDER' and give FOLDER as the model"
        )
    return PerceptError(
        f"the weights of {name}{at} are not on this machine and could not be fetched: {reason}. Fetch {name}.pt from the "
        f"hub repository {repository}{at} on a machine with a network and pass it with weights='{name}.pt' (--weights "
        f"{name}.pt; in training as --init {name}.pt); or use 'nano', which needs no download"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
