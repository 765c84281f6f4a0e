"""Methods: one readable file per paper. The table imports nothing; a method never imports another method."""

INDEX: dict[str, str] = {
    "contrastive": "percept.methods.pretraining.contrastive:Contrastive",
    "distill": "percept.methods.pretraining.distill:Distillation",
    "excl": "percept.methods.video.excl:ExCL",
    "fusioner": "percept.methods.segmentation.fusioner:Fusioner",
    "nano": "percept.methods.pretraining.nano:Pretraining",
    "pe": "percept.methods.pretraining.pe:Pretraining",
    "pe-finetune": "percept.methods.pretraining.pe_finetune:Finetuning",
    "pe-video": "percept.methods.pretraining.pe_video:VideoContrast",
    "plm": "percept.methods.language.plm:PLM",
    "tldr": "percept.methods.curation.tldr:Captioner",
    "visualness": "percept.methods.curation.visualness:Visualness",
    "xbt": "percept.methods.compatibility.xbt:XBT",
}
"""Method name to "module:Class".

A class has a nested `Config` (a frozen dataclass), keeps its own in `config`, computes the training step in `forward`, and
builds itself at a size for tests with `tiny()`, which returns (task, batch). `percept.methods.saved` stores and opens
methods on a frozen base model.
"""
