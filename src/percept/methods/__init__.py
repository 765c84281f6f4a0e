"""Methods: one readable file per paper. The table imports nothing; a method never imports another method."""

INDEX: dict[str, str] = {
    "cocoop": "percept.methods.adaptation.cocoop:CoCoOp",
    "codyra": "percept.methods.continual.codyra:CoDyRA",
    "continual-fine-tuning": "percept.methods.continual.finetune:FineTuning",
    "contrastive": "percept.methods.pretraining.contrastive:Contrastive",
    "coop": "percept.methods.adaptation.coop:CoOp",
    "das": "percept.methods.adaptation.das:DAS",
    "distill": "percept.methods.pretraining.distill:Distillation",
    "excl": "percept.methods.video.excl:ExCL",
    "fusioner": "percept.methods.segmentation.fusioner:Fusioner",
    "kgcoop": "percept.methods.adaptation.kgcoop:KgCoOp",
    "linear-probe": "percept.methods.adaptation.linear_probe:LinearProbe",
    "lora": "percept.methods.adaptation.lora:LoRA",
    "lwf": "percept.methods.continual.lwf:LwF",
    "modx": "percept.methods.continual.modx:ModX",
    "mulki-like": "percept.methods.continual.mulki:MulKILike",
    "nano": "percept.methods.pretraining.nano:Pretraining",
    "pe": "percept.methods.pretraining.pe:Pretraining",
    "pe-finetune": "percept.methods.pretraining.pe_finetune:Finetuning",
    "pe-video": "percept.methods.pretraining.pe_video:VideoContrast",
    "plm": "percept.methods.language.plm:PLM",
    "replay": "percept.methods.continual.replay:Replay",
    "rlcf": "percept.methods.adaptation.rlcf:RLCF",
    "tip-adapter": "percept.methods.adaptation.tip_adapter:TipAdapter",
    "tldr": "percept.methods.curation.tldr:Captioner",
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
