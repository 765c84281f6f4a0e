"""Methods: one readable file per paper. The table imports nothing; a method never imports another method."""

INDEX: dict[str, str] = {
    "biomedcoop": "percept.methods.adaptation.biomedcoop:BiomedCoOp",
    "cocoop": "percept.methods.adaptation.cocoop:CoCoOp",
    "codyra": "percept.methods.continual.codyra:CoDyRA",
    "continual-fine-tuning": "percept.methods.continual.finetune:FineTuning",
    "contrastive": "percept.methods.pretraining.contrastive:Contrastive",
    "coop": "percept.methods.adaptation.coop:CoOp",
    "coprompt": "percept.methods.adaptation.coprompt:CoPrompt",
    "das": "percept.methods.adaptation.das:DAS",
    "detpro": "percept.methods.detection.detpro:DetPro",
    "distill": "percept.methods.pretraining.distill:Distillation",
    "dpl-like": "percept.methods.adaptation.dpl_like:DPLLike",
    "ewc": "percept.methods.continual.ewc:EWC",
    "excl": "percept.methods.video.excl:ExCL",
    "fusioner": "percept.methods.segmentation.fusioner:Fusioner",
    "gram": "percept.methods.adaptation.gram:Gram",
    "ip-clip": "percept.methods.adaptation.ip_clip:IPCLIP",
    "kgcoop": "percept.methods.adaptation.kgcoop:KgCoOp",
    "linear-probe": "percept.methods.adaptation.linear_probe:LinearProbe",
    "lora": "percept.methods.adaptation.lora:LoRA",
    "lwf": "percept.methods.continual.lwf:LwF",
    "maple": "percept.methods.adaptation.maple:MaPLe",
    "mmrl": "percept.methods.adaptation.mmrl:MMRL",
    "mocoop": "percept.methods.adaptation.mocoop:MoCoOp",
    "modx": "percept.methods.continual.modx:ModX",
    "mulki-like": "percept.methods.continual.mulki:MulKILike",
    "nano": "percept.methods.pretraining.nano:Pretraining",
    "pcb": "percept.methods.adaptation.pcb:Described",
    "pe": "percept.methods.pretraining.pe:Pretraining",
    "pe-finetune": "percept.methods.pretraining.pe_finetune:Finetuning",
    "pe-video": "percept.methods.pretraining.pe_video:VideoContrast",
    "plm": "percept.methods.language.plm:PLM",
    "pre": "percept.methods.adaptation.pre:PRE",
    "replay": "percept.methods.continual.replay:Replay",
    "restore": "percept.methods.adaptation.restore:RESTORE",
    "rlcf": "percept.methods.adaptation.rlcf:RLCF",
    "tip-adapter": "percept.methods.adaptation.tip_adapter:TipAdapter",
    "tldr": "percept.methods.curation.tldr:Captioner",
    "vild": "percept.methods.detection.vild:ViLD",
    "visualness": "percept.methods.curation.visualness:Visualness",
    "wise-ft": "percept.methods.adaptation.wise_ft:WiSEFT",
    "xbt": "percept.methods.compatibility.xbt:XBT",
    "zscl": "percept.methods.continual.zscl:ZSCL",
}
"""Method name to "module:Class".

A class has a nested `Config` (a frozen dataclass), keeps its own in `config`, computes the training step in `forward`, and
builds itself at a size for tests with `tiny()`, which returns (task, batch). `percept.methods.saved` stores and opens
methods on a frozen base model.
"""
