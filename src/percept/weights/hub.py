"""Models from the Hugging Face hub: fetched once, cached, pinned to a revision, without hanging where there is no network."""

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.models import zoo
from percept.weights.open import OPEN_CLIP, OWN, TIMM, pick_files

REACH_SECONDS = 3.0
"""How long to wait for the hub to answer before saying that there is no network."""
VOCABULARY = ("openai/clip-vit-large-patch14", ("tokenizer.json", "merges.txt"))
"""Where CLIP's vocabulary is, for repositories that hold weights alone."""

HTTP = ("httpx", "httpx2", "httpcore", "requests", "urllib3")
"""Libraries whose errors mean that the network failed."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A model by its name: NAME, or hf://OWNER/NAME, perhaps with @REVISION."""

    owner: str | None
    name: str
    revision: str | None


def parse_address(text: str) -> Address:
    """Split a model's name or hub address into its parts.

    >>> parse_address("hf://facebook/PE-Core-B16-224@main")
    Address(owner='facebook', name='PE-Core-B16-224', revision='main')

    Raises:
        PerceptError: it begins with hf:// and is no address.
    """
    if not text.startswith("hf://"):
        name, _, revision = text.partition("@")
        return Address(owner=None, name=name, revision=revision or None)
    found = re.fullmatch(r"hf://([\w.-]+)/([\w.-]+)(?:@([\w./-]+))?", text)
    if found is None:
        raise PerceptError(f"{text} is no address on the hub; write hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    return Address(owner=found[1], name=found[2], revision=found[3])


def fetch_weights(name: str, repository: str, revision: str | None = None) -> Path:
    """Return a local folder with the files of a model of a hub repository, downloaded once and cached by huggingface_hub.

    What is in the cache is taken as it is; another revision, or deleting it there, fetches anew.

    Args:
        revision: branch, tag or commit; the main branch when None.

    Raises:
        PerceptError: not in the cache and the hub is out of reach, or it refused.
    """
    if (folder := _cached_folder(name, repository, revision)) is not None:
        return folder
    if not hub_allowed():
        raise _unreachable(name, repository, revision, "HF_HUB_OFFLINE is set")
    if not hub_reachable():
        raise _unreachable(name, repository, revision, "the hub does not answer; there may be no network")
    try:
        wanted = pick_files(repository_files(repository, revision), name, place=repository)
        notice(
            f"fetching {wanted[0]} from {repository}{f' at {revision}' if revision else ''}; it is kept in the cache"
        )
        local = [fetch_file(repository, file, revision) for file in wanted]
        return local[0].parent
    except PerceptError:
        raise
    except Exception as error:
        if (reason := _refusal(error, repository, revision)) is None:
            raise
        raise _unreachable(name, repository, revision, reason) from error


def fetch_vocabulary(*, online: bool) -> Path | None:
    """Return the file of CLIP's vocabulary from the hub's cache, or from the hub; None, with a notice, where it cannot be had."""
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
    found = try_to_load_from_cache(repository, file, **pin)
    return Path(found) if isinstance(found, str) else None


def repository_files(repository: str, revision: str | None) -> list[str]:
    """Ask the hub which files a repository has."""
    from huggingface_hub import list_repo_files

    return list_repo_files(repository, revision=revision)


def fetch_file(repository: str, file: str, revision: str | None) -> Path:
    """Download a file into the cache, with a progress bar."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repository, file, revision=revision))


def _cached_folder(name: str, repository: str, revision: str | None) -> Path | None:
    """Return the cached folder of a revision if all files of the model are in it."""
    for sign in (f"{name}.pt", f"{name}.safetensors", OPEN_CLIP, OWN, TIMM):
        if (file := cached_file(repository, sign, revision)) is None:
            continue
        try:
            pick_files(_names(file.parent), name)
        except PerceptError:
            continue
        return file.parent
    return None


def _names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.exists()}  # a link whose download was cut off leads nowhere


def hub_allowed() -> bool:
    """Tell whether the environment permits going online (HF_HUB_OFFLINE is not switched on)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() not in {"1", "ON", "YES", "TRUE"}


def hub_reachable(seconds: float = REACH_SECONDS) -> bool:
    """Tell whether the hub, or the proxy on the way to it, accepts a connection within `seconds`."""
    answers: list[bool] = []
    # A thread, because looking a host name up obeys no timeout and may take half a minute without a network.
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
    """Say why the hub gave nothing; None for an error that is not the hub's or the network's."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):  # what the library raises when the network fails
        return _first_line(error)
    reasons = (
        (
            errors.GatedRepoError,
            f"{repository} asks for permission: accept its terms on the hub, then run: hf auth login",
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
            f"'hf download {repository}{pin} --local-dir FOLDER' and pass the folder: percept.load('FOLDER')"
        )
    return PerceptError(
        f"the weights of {name}{at} are not on this machine and could not be fetched: {reason}. Fetch {name}.pt from the "
        f"hub repository {repository}{at} on a machine with a network and pass it: percept.load({name!r}, "
        f"weights='{name}.pt'); or use 'nano', which needs no download"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
