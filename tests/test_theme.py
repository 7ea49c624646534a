"""Colours that everybody tells apart, and never colour alone."""
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from vitlab import plots
from vitlab.plots.theme import COLORS, MARKERS, SPARE, color_of, shape_of

EYES = {                                    # linear RGB as it is seen (Machado, Oliveira and Fernandes, 2009, severity 1)
    "usual": np.eye(3),
    "deuteranope": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "protanope": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
}


def linear(color):
    """A hex colour as linear RGB [3]."""
    part = np.array([int(color[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Linear RGB [3] in CIELAB [3], white at D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    part = to_xyz @ rgb.clip(0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(part > 0.008856, np.cbrt(part), 7.787 * part + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one, other):
    """WCAG's contrast of two colours."""
    light = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(color)) + 0.05 for color in (one, other))
    return light[1] / light[0]


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("palette", [tuple(COLORS.values()), SPARE, (COLORS["dense"], *SPARE)])
def test_any_two_colours_are_told_apart(eye, palette):
    seen = [lab(EYES[eye] @ linear(color)) for color in palette]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 19
    old = [lab(EYES["deuteranope"] @ linear(color)) for color in ("#3b82f6", "#8b5cf6")]      # what SuperViT and SViT once had
    assert np.linalg.norm(old[0] - old[1]) < 5


@pytest.mark.parametrize("color", SPARE)
def test_colours_stand_out_on_a_light_and_on_a_dark_page(color):
    assert contrast(color, "#ffffff") >= 2.8
    assert contrast(color, "#111111") >= 3.5


def test_a_group_without_a_colour_takes_none_that_is_taken():
    everybody = ("revit", "revit, as a cascade", "dvt", "supervit, early exit", "mine")
    assert len({color_of(name, everybody) for name in everybody}) == len(everybody)


def test_methods_on_one_figure_have_a_shape_each_and_papers_are_hollow():
    names = ("dense", "supervit", "dvt", "revit", "spvit", "svit")
    rows = pd.DataFrame([{"method": name, "gmacs": 1.0 + k, "top1": 50.0 + k + shift, "source": source}
                         for k, name in enumerate(names) for shift, source in ((0, "ours"), (1, "Table 1"))])
    figure = plots.tradeoff(rows)
    shapes = {}
    for trace in figure.data:
        if trace.x[0] is not None:
            shapes.setdefault(trace.legendgroup, set()).update(trace.marker.symbol)
    ours = {name: shapes[name] for name in names}
    assert all(len(found) == 1 for found in ours.values())
    assert len(set().union(*ours.values())) == len(names)
    assert all(shapes[f"{name}, paper"] == {f"{next(iter(ours[name]))}-open"} for name in names)
    assert [shape_of(name, names) for name in names] == list(MARKERS[:6])


def test_the_curves_of_a_training_differ_in_colour_or_in_dash():
    terms = [f"term {k}" for k in range(9)]
    scores = {"val_top1": [10.0, 20.0], "val_top1_ema": [9.0, 19.0]}
    log = pd.DataFrame({"step": [1, 2], **{term: [2.0, 1.0] for term in terms}, **scores})
    looks = [(trace.line.color, trace.line.dash) for trace in plots.training(log).data]
    assert len(set(looks)) == len(looks) == 11
