"""`percept serve`: the page and the search API of an index, or the chat API of OpenAI for a model, over HTTP."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import tyro

from percept.cli.options import ASSISTANT_LOAD, AssistantLoadOptions, AssistingNamed, ModelOptions
from percept.cli.show import count, say
from percept.core.errors import PerceptError
from percept.serve.limits import Limits

if TYPE_CHECKING:
    from percept.infer.assistant import Assistant
    from percept.search.contracts import Stamp
    from percept.search.store import Store
    from percept.serve.start import Access

Limited: TypeAlias = Annotated[Limits, tyro.conf.arg(name="")]
LIMITS = Limits()


def serve(
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="INDEX|MODEL")],
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allow_urls: bool = False,
    model: AssistingNamed = ASSISTANT_LOAD,
    limits: Limited = LIMITS,
) -> int:
    """Serve an index as a search page, or a perception language model with the chat API of OpenAI.

    A folder with an index, as percept index makes it, is served as a page at / and a json API: /v1/search, /v1/encode,
    /v1/classify, described by /openapi.json. A model is served at /v1/chat/completions and /v1/models. Both have /health.

    Args:
        name: Folder of an index; or a model: a name such as plm-nano or Perception-LM-1B, a folder, or hf://OWNER/NAME.
        host: Address to listen at; one that other machines can reach needs a token.
        port: Port to listen at; 0 takes a free one.
        token: What requests have to carry as "Authorization: Bearer TOKEN". Default: the environment variable PERCEPT_TOKEN.
        allow_urls: Fetch images of questions by http and https URL, from public addresses only; not with an index.
    """
    from percept.search.store import has_store
    from percept.serve.start import TOKEN_VARIABLE, Access, serve_chat

    access = Access(host=host, port=port, token=token or os.environ.get(TOKEN_VARIABLE) or None)
    if has_store(Path(name)):
        if allow_urls:
            raise PerceptError("--allow-urls has no effect with an index. Leave it out.")
        return _serve_index(Path(name), access, model, limits)
    serve_chat(
        lambda: model.load(name), access, limits=limits, allow_urls=allow_urls, names=(name, Path(name).name),
        ready=_announce,
    )  # fmt: skip
    say("stopped")
    return 0


def _serve_index(folder: Path, access: "Access", model: AssistantLoadOptions, limits: Limits) -> int:
    from percept.cli.index import load_for
    from percept.search.store import Store
    from percept.serve.start import serve_search

    later = replace(ModelOptions(), device=model.device, batch=model.batch)
    options = replace(later, weights=model.weights, dtype=model.dtype)

    def opened() -> "tuple[Store, Any]":
        store = Store(folder)
        try:
            return store, load_for(store.stamp, options)[0]
        except BaseException:
            store.close()
            raise

    def load(stamp: "Stamp") -> Any:
        say(f"the index belongs to {stamp.name} now, which is loaded")
        return load_for(stamp, later)[0]

    serve_search(opened, access, limits=limits, load=load, ready=_announce_index)
    say("stopped")
    return 0


def _announce_index(url: str, store: "Store") -> None:
    files = count(len(store), "file")
    say(f"serving at {url} ({store.folder}, {files}, {store.stamp.name}); stop it with Ctrl+C")


def _announce(url: str, assistant: "Assistant") -> None:
    say(f"serving {assistant.name} ({assistant.setting}) at {url}; stop it with Ctrl+C")


COMMAND = serve
