"""Methods: one readable file per paper. The table imports nothing; a method never imports another method."""

INDEX: dict[str, str] = {
    "biomedcoop": "percept.methods.adaptation.biomedcoop:BiomedCoOp",
    "cocoop": "percept.methods.adaptation.cocoop:CoCoOp",
    "contrastive": "percept.methods.pretraining.contrastive:Contrastive",
    "coop": "percept.methods.adaptation.coop:CoOp",
    "coprompt": "percept.methods.adaptation.coprompt:CoPrompt",
    "distill": "percept.methods.pretraining.distill:Distillation",
    "dpl-like": "percept.methods.adaptation.dpl_like:DPLLike",
    "excl": "percept.methods.video.excl:ExCL",
    "fusioner": "percept.methods.segmentation.fusioner:Fusioner",
    "gram": "percept.methods.adaptation.gram:Gram",
    "kgcoop": "percept.methods.adaptation.kgcoop:KgCoOp",
    "linear-probe": "percept.methods.adaptation.linear_probe:LinearProbe",
    "lora": "percept.methods.adaptation.lora:LoRA",
    "maple": "percept.methods.adaptation.maple:MaPLe",
    "mmrl": "percept.methods.adaptation.mmrl:MMRL",
    "mocoop": "percept.methods.adaptation.mocoop:MoCoOp",
    "nano": "percept.methods.pretraining.nano:Pretraining",
    "pcb": "percept.methods.adaptation.pcb:Described",
    "pe": "percept.methods.pretraining.pe:Pretraining",
    "pe-finetune": "percept.methods.pretraining.pe_finetune:Finetuning",
    "pe-video": "percept.methods.pretraining.pe_video:VideoContrast",
    "plm": "percept.methods.language.plm:PLM",
    "pre": "percept.methods.adaptation.pre:PRE",
    "restore": "percept.methods.adaptation.restore:RESTORE",
    "tip-adapter": "percept.methods.adaptation.tip_adapter:TipAdapter",
    "tldr": "percept.methods.curation.tldr:Captioner",
    "visualness": "percept.methods.curation.visualness:Visualness",
    "wise-ft": "percept.methods.adaptation.wise_ft:WiSEFT",
    "xbt": "percept.methods.compatibility.xbt:XBT",
}
"""Method name to "module:Class".

A class has a nested `Config` (a frozen dataclass), keeps its own in `config`, computes the training step in `forward`, and
builds itself at a size for tests with `tiny()`, which returns (task, batch). `percept.methods.saved` stores and opens
methods on a frozen base model.
"""
