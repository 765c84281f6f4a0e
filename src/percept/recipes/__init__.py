"""Recipes: training runs and ablations as functions. The tables import nothing."""

RECIPES: dict[str, str] = {
    "pe/nano": "percept.recipes.pe_nano:recipe",
    "pe/nano2": "percept.recipes.pe_nano2:recipe",
    "pe/pretrain": "percept.recipes.pe:recipe",
    "pe/cooldown": "percept.recipes.pe_stages:cooldown",
    "pe/video": "percept.recipes.pe_stages:video",
    "pe/distill": "percept.recipes.pe_distill:distill",
    "pe/core": "percept.recipes.pe_core:recipe",
    "pe/finetune": "percept.recipes.pe_finetune:recipe",
    "plm/stage1": "percept.recipes.plm:stage1",
    "plm/stage2": "percept.recipes.plm:stage2",
    "plm/stage3": "percept.recipes.plm:stage3",
    "plm/nano": "percept.recipes.plm_nano:recipe",
    "plm/finetune": "percept.recipes.plm:finetune",
    "excl/nano": "percept.recipes.excl:recipe",
}
"""Recipe name → "module:function"."""

ABLATIONS: dict[str, str] = {
    "pe/figure2": "percept.recipes.pe_figure2:ablation",
    "pe/video_captions": "percept.recipes.pe_video_captions:ablation",
}
"""Ablation name → "module:function"; the function takes nothing and returns a `percept.train.ablation.Ablation`."""
