"""Curation: a streaming, resumable pipeline of steps that remove or repair rows of images with captions."""

STEPS: dict[str, str] = {
    "texts": "percept.data.curate.rules:TextRules",
    "image-sizes": "percept.data.curate.sizes:ImageSizes",
    "exact-images": "percept.data.curate.duplicates:ExactImages",
    "exact-texts": "percept.data.curate.duplicates:ExactTexts",
    "near-images": "percept.data.curate.near:NearImages",
    "near-texts": "percept.data.curate.near:NearTexts",
    "score": "percept.data.curate.score:Score",
    "balance": "percept.data.curate.balance:Balance",
    "tldr": "percept.data.curate.tldr:Reduce",
    "realsyn": "percept.data.curate.realsyn:RealSyn",
    "label-visualness": "percept.data.curate.visualness:LabelVisualness",
    "visualness": "percept.data.curate.visualness:Visualness",
}
"""Step name to "module:Class". Importing this table imports nothing. A class is a frozen dataclass of settings and a `Step`."""
