"""The recipes that methods bring along are the papers' (DeiT's for SuperViT and ReViT, T2T-ViT-12's for DVT)."""
from dataclasses import fields

import pytest

from vitlab.methods import revit, supervit
from vitlab.methods.dvt import dvt
from vitlab.recipe import Recipe

DEIT = {"epochs": 300, "batch": 1024, "lr": 1e-3, "weight_decay": 0.05, "betas": (0.9, 0.999), "min_lr": 1e-5, "mixup": 0.8,
        "cutmix": 1.0, "label_smoothing": 0.1, "ema": 0.99996}
T2T = DEIT | {"epochs": 310, "lr": 2e-3, "weight_decay": 0.03}


@pytest.mark.parametrize(("recipe", "told", "epochs_of_warmup"), [
    (supervit.RECIPE, DEIT, 5), (revit.RECIPE, DEIT, 5), (dvt.RECIPE, T2T, 20)], ids=["supervit", "revit", "dvt"])
def test_a_methods_recipe_is_its_papers(recipe, told, epochs_of_warmup):
    plain = Recipe(epochs=1)
    for field in fields(Recipe):
        if field.name != "warmup":
            assert getattr(recipe, field.name) == told.get(field.name, getattr(plain, field.name)), field.name
    assert recipe.warmup * recipe.epochs == pytest.approx(epochs_of_warmup)
