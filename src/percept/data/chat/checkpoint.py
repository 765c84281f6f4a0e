"""The chat template of a checkpoint: its family, and the system sentence that the checkpoint was trained with."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import read_json
from percept.data.chat.template import TEMPLATES, Template

CHAT_FILE = "chat.json"
"""Our own file; see `Template.save`."""
_FAMILIES = {
    "plm": (
        "<|start_header_id|>",
        re.compile(r"<\|start_header_id\|>system<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>", re.DOTALL),
    ),
    "chatml": ("<|im_start|>", re.compile(r"<\|im_start\|>system\n(.*?)<\|im_end\|>", re.DOTALL)),
}
_QUESTION: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]


def template_of_folder(folder: Path | str) -> Template | None:
    """Return the template of a model's folder: chat.json, or the family and system sentence of its jinja template.

    None if the folder, and the folder above `original/`, hold neither.

    Raises:
        PerceptError: the jinja template belongs to no known family, or cannot be rendered.
    """
    places = [Path(folder), *([Path(folder).parent] if Path(folder).name == "original" else [])]
    for place in places:
        if (place / CHAT_FILE).is_file():
            return Template.load(place / CHAT_FILE)
        source = _jinja(place)
        if source is not None:
            return _recognised(source, place)
    return None


def _jinja(folder: Path) -> str | None:
    """Return the text of a folder's jinja template, which is kept in one of three files."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            data = read_json(folder / name)
            source = data.get("chat_template") if isinstance(data, dict) else None
            if isinstance(source, str):
                return source
    return None


def _recognised(source: str, folder: Path) -> Template:
    for name, (mark, system_turn) in _FAMILIES.items():
        if mark in source:
            match = system_turn.search(_rendered(source, folder))
            return replace(TEMPLATES[name], system=match[1] if match else None)
    raise PerceptError(
        f"the chat template of {folder} is of no known family. Known are Llama 3 and ChatML; save a {CHAT_FILE} with the template."
    )


def _rendered(source: str, folder: Path) -> str:
    """Render one question; content is given as parts, and as plain text where the template expects that."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: ""
    plain = [{"role": "user", "content": "x"}]
    cause: Exception | None = None
    for messages in (_QUESTION, plain):
        try:
            return environment.from_string(source).render(
                messages=messages, bos_token="", eos_token="", add_generation_prompt=True
            )
        except Exception as error:  # templates fail in many ways
            cause = error
    raise PerceptError(
        f"the chat template of {folder} cannot be rendered ({cause}). Save a {CHAT_FILE} with the template."
    )
