"""Continual learning of a dual encoder: one data set after the other, without forgetting the earlier ones or what was known before.

`contract` is what a method is, `harness` runs it over a sequence of tasks and measures it, `disorder` measures how its space changed.
"""

CONTINUAL: dict[str, str] = {
    "continual-fine-tuning": "percept.methods.continual.finetune:FineTuning",
    "lwf": "percept.methods.continual.lwf:LwF",
    "replay": "percept.methods.continual.replay:Replay",
    "zscl": "percept.methods.continual.zscl:ZSCL",
    "mulki-like": "percept.methods.continual.mulki:MulKILike",
    "codyra": "percept.methods.continual.codyra:CoDyRA",
}
"""Name to "module:Class", in the order of tables; all of them are in `percept.methods.INDEX` too."""
