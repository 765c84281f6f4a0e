"""Chat templates: which special tokens surround the turns of a conversation, and which tokens a model learns to say.

PLM's template is that of Llama 3 (Cho et al. 2025, arXiv:2504.13180, `core/data/conversation.py` of its code): every turn has a header; the loss covers
the header, the text and the end of each answer. Its system sentence belongs to the checkpoint and is read from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from percept.core.config import from_source, to_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import read_json, write_json
from percept.data.chat.conversation import Conversation, Turn
from percept.data.chat.vocabulary import LanguageTokenizer


@dataclass(frozen=True, kw_only=True)
class Template:
    """The special tokens and texts around the turns of a conversation."""

    image: str
    """Special token that stands for one visual token of an image or a video."""
    begin: str | None = None
    """Special token at the very beginning."""
    opening: str | None = None
    """Special token before the role; no headers when None."""
    closing: str | None = None
    """Special token after the role."""
    after_header: str = ""
    """Text between header and turn."""
    end_of_turn: str | None = None
    """Special token after a turn."""
    after_turn: str = ""
    """Text after the end of a turn."""
    end: str | None = None
    """Special token after the last answer of a training sample; generation stops at it too."""
    system: str | None = None
    """System sentence of a conversation that begins with none; no system turn when None."""
    user_text: bool = True
    """False to drop what the user and the system say, as in PLM's first stage: media and answer remain."""
    learn_headers: bool = True
    """True to count the header of an answer among the tokens to learn, as PLM does."""
    numbered: bool = False
    """True to write its number before each frame of a video, from 0, and before each of several images, from 1. Published models do not."""

    def stops(self, tokenizer: LanguageTokenizer) -> tuple[int, ...]:
        """Return the ids at which generation ends."""
        return tuple(tokenizer.special(name) for name in (self.end_of_turn, self.end) if name is not None)

    def save(self, path: Path | str) -> None:
        """Write the template as json."""
        write_json(path, to_dict(self))

    @classmethod
    def load(cls, path: Path | str) -> "Template":
        """Read what `save` wrote.

        Raises:
            PerceptError: missing, not json, or an unknown key.
        """
        return from_source(cls, read_json(path), path)


TEMPLATES: dict[str, Template] = {
    "plm": Template(
        image="<|image|>",
        begin="<|begin_of_text|>",
        opening="<|start_header_id|>",
        closing="<|end_header_id|>",
        after_header="\n\n",
        end_of_turn="<|eot_id|>",
        end="<|end_of_text|>",
    ),
    "warmup": Template(image="<|image|>", after_turn="\n", user_text=False),
    "chatml": Template(
        image="<|image_pad|>",
        opening="<|im_start|>",
        after_header="\n",
        end_of_turn="<|im_end|>",
        after_turn="\n",
        end="<|endoftext|>",
    ),
}
"""plm: stages 2 and 3 of PLM and inference; warmup: its stage 1; chatml: Qwen."""


def named_template(name: str, *, system: str | None = None) -> Template:
    """Return a template of TEMPLATES with a system sentence.

    Raises:
        PerceptError: unknown name.
    """
    if name not in TEMPLATES:
        raise unknown_name("chat template", name, TEMPLATES)
    return replace(TEMPLATES[name], system=system)


@dataclass(frozen=True)
class Rendered:
    """A conversation as ids."""

    ids: list[int]
    learned: list[bool]
    """True for the tokens that a model is trained to say."""
    turn_ends: list[int]
    """Number of tokens up to the end of each turn, the system turn included."""

    def cut(self, limit: int) -> "Rendered | None":
        """Keep the turns that fit into `limit` tokens; None if no token to learn remains."""
        if len(self.ids) <= limit:
            return self if any(self.learned) else None
        keep = max((end for end in self.turn_ends if end <= limit), default=0)
        if not any(self.learned[:keep]):
            return None
        return Rendered(self.ids[:keep], self.learned[:keep], [end for end in self.turn_ends if end <= keep])


class _Writer:
    """Collects ids. Texts that follow each other are encoded together, as one text."""

    def __init__(self, tokenizer: LanguageTokenizer) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.learned: list[bool] = []
        self._text = ""
        self._learn = False

    def text(self, text: str, learn: bool) -> None:
        if learn != self._learn:
            self.flush()
        self._text, self._learn = self._text + text, learn

    def special(self, name: str | None, learn: bool, count: int = 1) -> None:
        if name is not None:
            self.flush()
            self.ids += [self.tokenizer.special(name)] * count
            self.learned += [learn] * count

    def flush(self) -> int:
        ids = self.tokenizer.encode(self._text) if self._text else []
        self.ids += ids
        self.learned += [self._learn] * len(ids)
        self._text = ""
        return len(self.ids)


def render(
    conversation: Conversation,
    template: Template,
    tokenizer: LanguageTokenizer,
    counts: Sequence[int],
    *,
    ask: bool = False,
    per_tile: int = 0,
) -> Rendered:
    """Return a conversation as ids.

    Args:
        counts: visual tokens of each medium; that many image tokens stand at its place.
        per_tile: visual tokens of a tile or frame, for templates that number them.
        ask: end with the header of an answer, for generation; otherwise with the end token of a training sample.

    Raises:
        PerceptError: no user turn, two turns of one role in a row, or a question without an answer (or the reverse with `ask`).
    """
    turns = check_turns(conversation, template, ask)
    writer = _Writer(tokenizer)
    writer.special(template.begin, False)
    ends = []
    for turn in turns:
        _write_turn(writer, turn, template, counts, per_tile)
        ends.append(writer.flush())
    if ask:
        _write_header(writer, "assistant", template, False)
    else:
        writer.special(template.end, True)
        ends[-1] = writer.flush()
    writer.flush()
    return Rendered(writer.ids, writer.learned, ends)


def check_turns(conversation: Conversation, template: Template, ask: bool) -> list[Turn]:
    """Return the turns, with a system turn in front if the template has one.

    Raises:
        PerceptError: user and assistant do not alternate, or the wrong one speaks last.
    """
    turns = list(conversation.turns)
    if turns and turns[0].role != "system" and template.system is not None:
        turns.insert(0, Turn(role="system", parts=(template.system,)))
    spoken = [turn.role for turn in turns if turn.role != "system"]
    wanted = [("user", "assistant")[place % 2] for place in range(len(spoken))]
    if spoken != wanted or any(turn.role == "system" for turn in turns[1:]):
        raise PerceptError(
            f"the turns of the conversation are {', '.join(turn.role for turn in turns)}. Begin with the user, let user and assistant "
            "alternate, and put a system turn first if there is one."
        )
    if len(spoken) % 2 != int(ask) or not spoken:
        raise PerceptError(
            "the conversation ends with an answer, so nothing is asked. Add a user turn."
            if ask and spoken
            else "the conversation has a question without an answer. Add the assistant's turn."
            if spoken
            else "the conversation has no turns. Give at least a user turn."
        )
    return turns


def _write_header(writer: _Writer, role: str, template: Template, learn: bool) -> None:
    if template.opening is not None:
        writer.special(template.opening, learn)
        writer.text(role, learn)
        writer.special(template.closing, learn)
        writer.text(template.after_header, learn)
        writer.flush()  # so that a prompt and a training sample begin with the same ids


def _write_turn(writer: _Writer, turn: Turn, template: Template, counts: Sequence[int], per_tile: int) -> None:
    learn = turn.role == "assistant"
    _write_header(writer, turn.role, template, learn and template.learn_headers)
    for part in turn.parts:
        if isinstance(part, int):
            _write_medium(writer, part, template, counts, per_tile)
        elif learn or template.user_text:
            writer.text(part, learn)
    writer.special(template.end_of_turn, learn)
    if learn or template.end_of_turn is not None:
        writer.text(template.after_turn, learn and template.end_of_turn is None)


def _write_medium(writer: _Writer, number: int, template: Template, counts: Sequence[int], per_tile: int) -> None:
    tiles = counts[number] // per_tile if template.numbered else 1
    if tiles == 1:
        writer.text(str(number + 1) if template.numbered and len(counts) > 1 else "", False)
        writer.special(template.image, False, counts[number])
        return
    for tile in range(tiles):
        writer.text(str(tile), False)
        writer.special(template.image, False, per_tile)
