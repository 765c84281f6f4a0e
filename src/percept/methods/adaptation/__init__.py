"""Adaptation of a dual encoder from a few labelled images: one method per file, and the harness that all of them share.

`contract` is what a method is; `prompts` and `texts` are blocks; `trainer`, `few`, `measure` and `bench` are the harness.
"""

ADAPTATIONS: dict[str, str] = {
    "zero-shot": "percept.methods.adaptation.zero_shot:ZeroShot",
    "templates": "percept.methods.adaptation.zero_shot:Templates",
    "linear-probe": "percept.methods.adaptation.linear_probe:LinearProbe",
    "tip-adapter": "percept.methods.adaptation.tip_adapter:TipAdapter",
    "lora": "percept.methods.adaptation.lora:LoRA",
    "das": "percept.methods.adaptation.das:DAS",
    "wise-ft": "percept.methods.adaptation.wise_ft:WiSEFT",
    "coop": "percept.methods.adaptation.coop:CoOp",
    "cocoop": "percept.methods.adaptation.cocoop:CoCoOp",
    "kgcoop": "percept.methods.adaptation.kgcoop:KgCoOp",
    "maple": "percept.methods.adaptation.maple:MaPLe",
    "pre": "percept.methods.adaptation.pre:PRE",
    "restore": "percept.methods.adaptation.restore:RESTORE",
    "mmrl": "percept.methods.adaptation.mmrl:MMRL",
    "dpl-like": "percept.methods.adaptation.dpl_like:DPLLike",
    "coprompt": "percept.methods.adaptation.coprompt:CoPrompt",
    "mocoop": "percept.methods.adaptation.mocoop:MoCoOp",
    "biomedcoop": "percept.methods.adaptation.biomedcoop:BiomedCoOp",
    "gram": "percept.methods.adaptation.gram:Gram",
    "pcb": "percept.methods.adaptation.pcb:Described",
}
"""Name to "module:Class", in the order of tables. Those that train something are in `percept.methods.INDEX` too."""
