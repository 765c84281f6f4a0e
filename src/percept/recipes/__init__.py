"""Recipes: training runs and ablations as functions. The tables import nothing."""

RECIPES: dict[str, str] = {
    "pe/nano": "percept.recipes.pe_nano:recipe",
    "pe/nano2": "percept.recipes.pe_nano2:recipe",
    "plm/stage1": "percept.recipes.plm:stage1",
    "plm/stage2": "percept.recipes.plm:stage2",
    "plm/stage3": "percept.recipes.plm:stage3",
    "plm/nano": "percept.recipes.plm_nano:recipe",
    "plm/finetune": "percept.recipes.plm:finetune",
}
"""Recipe name → "module:function"."""

ABLATIONS: dict[str, str] = {}
"""Ablation name → "module:function"; the function takes nothing and returns a `percept.train.ablation.Ablation`."""
