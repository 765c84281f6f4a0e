"""Official weights from the Hugging Face hub, without hanging where there is no network."""

import os
import socket
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

from percept.core.errors import PerceptError

REACH_SECONDS = 3.0
"""How long to wait for the hub to answer before saying that there is no network."""


def fetch_weights(name: str, repository: str) -> Path:
    """Return the local path of NAME.pt of a hub repository, downloaded once and cached by huggingface_hub.

    Raises:
        PerceptError: not in the cache and the hub is out of reach, or it refused.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository, f"{name}.pt")
    if isinstance(cached, str):
        return Path(cached)
    if not hub_allowed():
        raise _unreachable(name, repository, "HF_HUB_OFFLINE is set")
    if not hub_reachable():
        raise _unreachable(name, repository, "the hub does not answer; there may be no network")
    return _download(name, repository)


def _download(name: str, repository: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(repository, f"{name}.pt"))
    except (HfHubHTTPError, OSError) as error:
        raise _unreachable(name, repository, _first_line(error)) from error


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


def _unreachable(name: str, repository: str, reason: str) -> PerceptError:
    return PerceptError(
        f"the weights of {name} are not on this machine and could not be fetched: {reason}. Fetch {name}.pt from the "
        f"hub repository {repository} on a machine with a network and pass it: percept.load({name!r}, "
        f"weights='{name}.pt'); or use 'nano', which needs no download"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
