"""PRE: the context of CoOp comes out of a small sequence encoder with a skip connection, which is thrown away after training.

Pham et al. 2023, arXiv:2309.07760, section 3. Reference: minhanh151/PRE, trainers/pre.py. With learned tokens V = [v₁ … v_M] and an encoder
E over the M positions,

    V' = V + E(V),  t_c = [start, V', name of c, ".", end],  loss = CE

E is a bidirectional LSTM with half the width per direction, or a perceptron of 64 units with a LayerNorm. `fold` stores V' as the context,
so that inference is that of CoOp. Differs from it: its transformer, which its code declares and cannot run, is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.core.errors import unknown_name
from percept.methods.adaptation.contract import Training
from percept.methods.adaptation.prompts import PHRASE, PromptConfig, Prompted
from percept.methods.adaptation.texts import TEMPLATE, Base

Kind = Literal["lstm", "lstm2", "mlp", "mlp2", "none"]


class Recurrent(nn.Module):
    """A bidirectional LSTM over the positions of a context, whose output is as wide as its input."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width // 2, layers, batch_first=True, bidirectional=True)

    def forward(self, context: Float[Tensor, "*c m w"]) -> Float[Tensor, "*c m w"]:
        """Mix the tokens."""
        return self.lstm(context)[0]


class Perceptron(nn.Module):
    """Linear, ReLU, linear, LayerNorm, on each token; applied `times` times with the same weights."""

    def __init__(self, width: int, hidden: int, times: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.LayerNorm(width))
        self.times = times

    def forward(self, context: Float[Tensor, "*c m w"]) -> Float[Tensor, "*c m w"]:
        """Transform each token."""
        for _ in range(self.times):
            context = self.layers(context)
        return context


class PRE(Prompted):
    """A context that is re-parameterised by an encoder."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Defaults of the scripts of the reference: four tokens that start from "a photo of a", and one LSTM."""

        prompt: PromptConfig = field(default_factory=lambda: PromptConfig(context=4, phrase=PHRASE))
        """The learned tokens [V]."""
        encoder: Kind = "lstm"
        """lstm: one bidirectional layer; lstm2: two; mlp: a perceptron; mlp2: the same perceptron twice; none: CoOp."""
        skip: bool = True
        """Add the tokens to the output of the encoder."""
        hidden: int = 64
        """Units of the perceptron."""

        def __post_init__(self) -> None:
            if self.encoder not in get_args(Kind):
                raise unknown_name("encoder of the context", str(self.encoder), get_args(Kind))

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        width, twice = base.text.config.width, 1 + config.encoder.endswith("2")
        self.encoder = None
        if config.encoder.startswith("lstm"):
            self.encoder = Recurrent(width, twice)
        elif config.encoder.startswith("mlp"):
            self.encoder = Perceptron(width, config.hidden, twice)

    def context(self) -> Float[Tensor, "*c m w"]:
        """Return the tokens that the text tower reads [V']."""
        if self.encoder is None:
            return self.prompt.context
        encoded = self.encoder(self.prompt.context)
        return self.prompt.context + encoded if self.config.skip else encoded

    def declared(self) -> dict[str, int]:
        """Return the context and the encoder."""
        width, hidden, kind = self.base.text.config.width, self.config.hidden, self.config.encoder
        sizes = super().declared()
        if kind.startswith("mlp"):
            sizes |= {"encoder.layers.0.weight": width * hidden, "encoder.layers.0.bias": hidden}
            sizes |= {"encoder.layers.2.weight": width * hidden, "encoder.layers.2.bias": width}
            sizes |= {"encoder.layers.3.weight": width, "encoder.layers.3.bias": width}
        for layer in range({"lstm": 1, "lstm2": 2}.get(kind, 0)):
            for way in (f"l{layer}", f"l{layer}_reverse"):
                gates = 4 * (width // 2)
                sizes |= {f"encoder.lstm.weight_ih_{way}": gates * width, f"encoder.lstm.bias_ih_{way}": gates}
                sizes |= {f"encoder.lstm.weight_hh_{way}": gates * (width // 2), f"encoder.lstm.bias_hh_{way}": gates}
        return sizes

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the unit vectors of the prompts with the encoded context."""
        return self.prompt.vectors(self.base.text, self.context())

    @torch.no_grad()
    def fold(self) -> None:
        """Store the encoded context and remove the encoder."""
        self.prompt.context.copy_(self.context())
        self.encoder, self.config = None, replace(self.config, encoder="none")

    def neutral_twin(self) -> "Prompted | None":
        """Return the words of the template as the context, without an encoder."""
        twin = super().neutral_twin()
        assert isinstance(twin, PRE)
        twin.encoder = None
        return twin

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return 50 epochs of SGD with rate 0.002 and batches of 32."""
        return Training(epochs=50)
