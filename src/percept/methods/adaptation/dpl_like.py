"""DPL-like: deep prompts whose attention is divided into four flows, some of them weakened, and a context that depends on the class name.

After Xu et al. 2023, arXiv:2308.10061 (DPL), of which the abstract is known and no code: the paper strengthens some of the four flows "by some
approximation techniques". With prompt tokens P and instance tokens X (patches, words) of a sequence, a query q divides its attention as

    Attn(q, [P; X]) = λ Attn(q, X) + (1 - λ) Attn(q, P),  λ = Z_X / (Z_X + Z_P),  Z_A = Σ_{j ∈ A} exp(q k_j / √d)

which holds exactly, for queries in X (instance to instance, instance to prompt) and in P (prompt to instance, prompt to prompt). All that follows is
our guess and a field of the configuration: λ = Z_X / (Z_X + m Z_P) for instances with m < 1, which strengthens instance to instance;
prompts that do not attend to instances, which strengthens prompt to prompt; and first tokens

    P_1(c) = P_1 + A w⁰_c,  A = 0 at first

with the vector w⁰_c of the template (language-conditioned prompts). There is no further loss and no further data. Results must not be called DPL.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import Training
from percept.methods.adaptation.deep import DeepConfig, DeepPrompted, words_only
from percept.methods.adaptation.texts import TEMPLATE, Base
from percept.models.clip import CLIP
from percept.models.text import PREFIX
from percept.nn.attention import Attention
from percept.nn.context import EMPTY, Context


@dataclass(frozen=True, kw_only=True, eq=False)
class Flows:
    """What queries take from instances and from prompts; their mixture is the attention."""

    from_instances: Float[Tensor, "b h m e"]
    """Attention to instance tokens only."""
    from_prompts: Float[Tensor, "b h m e"]
    """Attention to prompt tokens only; without meaning where `odds` is infinite."""
    odds: Float[Tensor, "b h m 1"]
    """log(Z_X / Z_P)."""

    def mixed(self, log_weight: Float[Tensor, "m 1"] | float = 0.0) -> Float[Tensor, "b h m e"]:
        """Return the mixture with λ = Z_X / (Z_X + exp(log_weight) Z_P); exactly the plain attention for 0."""
        share = torch.sigmoid(self.odds - log_weight)
        return share * self.from_instances + (1 - share) * self.from_prompts


def flows(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    prompts: slice,
    *,
    causal: bool = False,
) -> Flows:
    """Divide an attention into that to the prompts and that to all other tokens, in float32 or better.

    Args:
        prompts: positions of the prompt tokens.
        causal: a token attends to itself and the tokens before it only.
    """
    exact = torch.promote_types(q.dtype, torch.float32)
    logits = q.to(exact) @ k.to(exact).transpose(-1, -2) * q.shape[-1] ** -0.5
    never = torch.finfo(exact).min / 4
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1), never)
    is_prompt = torch.zeros(k.shape[2], dtype=torch.bool, device=q.device)
    is_prompt[prompts] = True
    masked = [logits.masked_fill(hidden, never) for hidden in (is_prompt, ~is_prompt)]
    instances, prompted = (each.softmax(dim=-1) @ v.to(exact) for each in masked)
    first, second = (each.logsumexp(dim=-1, keepdim=True) for each in masked)
    return Flows(from_instances=instances, from_prompts=prompted, odds=first - second)


class DecoupledAttention(nn.Module):
    """An attention layer whose flows between prompts and instances are weighted.

    Args:
        inner: the layer; its weights are used as they are.
        prompts: positions of the prompt tokens.
        instance_to_prompt: weight of what instances take from prompts; 1 is plain attention.
        prompt_to_instance: weight of what prompts take from instances.
        share: constant λ of instances that see prompts, in place of the weight; None for none.
    """

    def __init__(
        self,
        inner: Attention,
        prompts: slice,
        *,
        instance_to_prompt: float,
        prompt_to_instance: float,
        share: float | None = None,
    ) -> None:
        super().__init__()
        self.inner, self.prompts, self.share = inner, prompts, share
        self.weights = instance_to_prompt, prompt_to_instance

    def forward(self, x: Float[Tensor, "b n w"], context: Context = EMPTY) -> Float[Tensor, "b n w"]:
        """Mix the tokens."""
        found = flows(*self.inner.project(x, context), self.prompts, causal=context.causal)
        mixed = self._mixed(found).to(x.dtype)
        return self.inner.out(mixed.transpose(1, 2).flatten(-2))

    def _mixed(self, found: Flows) -> Float[Tensor, "b h n e"]:
        """Return the weighted mixture; a prompt weighs what it takes from instances, so its log weight has the other sign."""
        toward, back = (math.log(weight) if weight else -math.inf for weight in self.weights)
        log_weight = found.odds.new_full((found.odds.shape[2], 1), toward)
        log_weight[self.prompts] = -back
        if self.share is None:
            return found.mixed(log_weight)
        constant = math.log(self.share / (1 - self.share))
        sees = found.odds < -torch.finfo(found.odds.dtype).min / 16
        fixed = torch.where(sees, torch.full_like(found.odds, constant), found.odds)
        is_prompt = torch.zeros_like(log_weight, dtype=torch.bool)
        is_prompt[self.prompts] = True
        odds = torch.where(is_prompt, found.odds - log_weight, fixed)
        return replace(found, odds=odds).mixed()


class DPLLike(DeepPrompted):
    """Free tokens in both towers with weighted flows, and a context for each class."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Choices of ours, except for the tokens, which are those of MaPLe without coupling."""

        prompts: DeepConfig = field(default_factory=lambda: DeepConfig(towers="free"))
        """The learned tokens: free, text or image."""
        instance_to_prompt: float = 0.5
        """Weight of what patches and words take from prompts [m]; 1 for plain attention."""
        prompt_to_instance: float = 0.0
        """Weight of what prompts take from patches and words; 1 for plain attention, 0 for prompts that see prompts only."""
        share: float | None = None
        """Constant part that patches and words take from each other [λ], in place of `instance_to_prompt`."""
        condition: Literal["class", "mean", "none"] = "class"
        """What is added to the first tokens of the text: a linear function of the class's vector, of the mean over the classes, or nothing."""

        def __post_init__(self) -> None:
            if not (self.instance_to_prompt > 0 and self.prompt_to_instance >= 0):
                raise PerceptError(
                    f"instance_to_prompt must be above 0 and prompt_to_instance at least 0, got {self.instance_to_prompt} and "
                    f"{self.prompt_to_instance}. With 0, prompts would have no effect."
                )
            if self.share is not None and not 0 < self.share < 1:
                raise PerceptError(f"share must be between 0 and 1, got {self.share}. Use None for plain attention.")
            if self.condition not in ("class", "mean", "none"):
                raise PerceptError(f"condition must be class, mean or none, got {self.condition!r}.")

        @property
        def plain(self) -> bool:
            """Whether the attention is the plain one."""
            return self.instance_to_prompt == 1 and self.prompt_to_instance == 1 and self.share is None

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.condition = None
        if config.condition != "none" and config.prompts.towers != "image":
            self.condition = nn.Linear(base.text.config.output_dim, base.text.config.width, bias=False)
            nn.init.zeros_(self.condition.weight)
        self._decoupled = () if config.plain else (self._with_flows(),)  # a tuple, so that no parameter is listed twice

    @property
    def towers(self) -> CLIP:
        """The towers with weighted flows; they share all weights with the base."""
        return self._decoupled[0] if self._decoupled else self.clip

    def _with_flows(self) -> CLIP:
        """Return towers with weighted flows in place of the attention where there are prompts."""
        config, clip = self.config, self.clip
        twin = deepcopy(clip, {id(each): each for each in (*clip.parameters(), *clip.buffers())})
        without = {"text": ("vision",), "image": ("text",)}.get(config.prompts.towers, ())
        prefixes = {"text": PREFIX, "vision": clip.vision.config.prefix}
        for name, prefix in prefixes.items():
            for block in cast(nn.ModuleList, twin.get_submodule(f"{name}.blocks")) if name not in without else ():
                block.attention = DecoupledAttention(
                    cast(Attention, block.attention), slice(prefix, prefix + config.prompts.prompt.context), share=config.share,
                    instance_to_prompt=config.instance_to_prompt, prompt_to_instance=config.prompt_to_instance,
                )  # fmt: skip
        return twin

    def declared(self) -> dict[str, int]:
        """Return the tokens and the linear layer of the condition."""
        sizes, text = super().declared(), self.base.text.config
        return sizes | ({} if self.condition is None else {"condition.weight": text.output_dim * text.width})

    def text_features(self) -> Float[Tensor, "c d"]:
        """Return the projected vectors of the prompts, each class with first tokens of its own."""
        if self.condition is None:
            return super().text_features()
        hand = self.hand_vectors()
        known = hand if self.config.condition == "class" else hand.mean(dim=0, keepdim=True).expand_as(hand)
        first, *others = self.prompts.text_tokens()
        assert self.towers.text is not None
        return self.prompts.run_text(self.towers.text, [first + self.condition(known)[:, None], *others]).pooled

    def neutral_twin(self) -> "DPLLike":
        """Return the words of the template with plain attention; the condition is zero at first."""
        plain = replace(self.config, prompts=words_only(), instance_to_prompt=1.0, prompt_to_instance=1.0, share=None)
        return DPLLike(plain, self.base, self.names)

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return the recipe of MaPLe, as the paper's is not known."""
        return Training(epochs=5, batch=4, rate=3.5e-3)

    @classmethod
    def tiny_config(cls) -> Config:
        """Return two random tokens in both towers."""
        return cls.Config(prompts=replace(super().tiny_config().prompts, towers="free"))
