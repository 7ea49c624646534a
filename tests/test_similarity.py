"""CKA is what Kornblith et al. define, and is measured between each block's patches and the final class token."""
import pytest
import torch

import vitlab
from vitlab.methods.spvit.similarity import by_layer, cka, tokens


def by_hsic(x, y):
    """The definition, written out: HSIC(K, L) = tr(K H L H) / (n - 1)², CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))."""
    n = len(x)
    centre = torch.eye(n, dtype=torch.float64) - torch.ones(n, n, dtype=torch.float64) / n
    k, other = x @ x.T, y @ y.T

    def hsic(a, b):
        return torch.trace(a @ centre @ b @ centre) / (n - 1) ** 2
    return hsic(k, other) / (hsic(k, k) * hsic(other, other)).sqrt()


def features(n, width, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 3


@pytest.mark.parametrize("widths", ((5, 5), (5, 3), (40, 7)))
def test_it_is_the_definition_by_hsic(widths):
    x, y = features(20, widths[0]), features(20, widths[1], 1)
    assert cka(x, y).item() == pytest.approx(by_hsic(x, y).item(), rel=1e-12)
    assert cka(x, y).item() == pytest.approx(cka(y, x).item(), rel=1e-12)
    assert 0 < cka(x, y) < 1


def test_features_are_like_themselves_and_like_what_is_only_turned_scaled_and_moved():
    x, y = features(20, 6), features(20, 4, 1)
    turn = torch.linalg.qr(features(6, 6, 2)).Q
    assert cka(x, x).item() == pytest.approx(1, abs=1e-12)
    assert cka(x, x @ turn * 7 + 5).item() == pytest.approx(1, abs=1e-12)
    assert cka(x @ turn * 0.1 - 2, y).item() == pytest.approx(cka(x, y).item(), rel=1e-10)
    assert cka(x, x @ torch.diag(torch.arange(1.0, 7, dtype=torch.float64))) < 0.99     # no invariance to just any map


def test_features_without_anything_in_common_have_none():
    x = torch.tensor([[1.0], [-1], [1], [-1]])
    assert cka(x, torch.tensor([[1.0], [1], [-1], [-1]])).item() == 0


def test_many_are_compared_at_once():
    x, y = torch.stack([features(9, 4, n) for n in range(3)]), features(9, 5, 7)
    torch.testing.assert_close(cka(x, y), torch.stack([cka(one, y) for one in x]))


@pytest.mark.parametrize("backbone, size", (("micro_patch8", 56), ("pit_tiny", 64)))
def test_the_tokens_are_those_that_the_net_computes(backbone, size):
    torch.manual_seed(0)
    dense = vitlab.create("dense", backbone, num_classes=10, image_size=size).eval()
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        *blocks, last = tokens(dense, images)
        ours = dense.features(images)
    torch.testing.assert_close(blocks[-1], ours[:, 1:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dense.vit.forward_head(last), dense(images), atol=1e-5, rtol=1e-5)
    trace = vitlab.Trace()
    dense(images, None, trace)
    assert [x.shape[1] for x in blocks] == [part.attended.shape[1] for part in trace.layers]


def test_a_row_per_block_of_the_mean_over_its_patches_whatever_the_batch():
    torch.manual_seed(0)
    dense = vitlab.create("dense", "micro_patch8", num_classes=10)
    data = vitlab.data.shapes("test", n=100).take(slice(12))
    table = by_layer(dense, data)
    assert table.columns.tolist() == ["layer", "cka"] and table.layer.tolist() == [1, 2, 3, 4]
    assert dense.training
    with torch.no_grad():
        *blocks, last = tokens(dense.eval(), data.images(slice(None)))
    by_hand = [by_hsic(blocks[2][:, place].double(), last[:, 0].double()).item() for place in range(49)]
    assert table.cka[2] == pytest.approx(sum(by_hand) / 49, rel=1e-6)
    assert by_layer(dense, data, batch=5).cka.tolist() == pytest.approx(table.cka.tolist(), rel=1e-5)


def test_pictures_that_say_nothing_get_one_sentence():
    dense, data = vitlab.create("dense", "micro_patch8", num_classes=10), vitlab.data.shapes("test", n=100)
    with pytest.raises(ValueError, match="holds 2; give some hundreds"):
        by_layer(dense, data.take(slice(2)))
    with pytest.raises(ValueError, match="the same of all"):
        cka(torch.ones(5, 3), features(5, 2))
    with pytest.raises(ValueError, match="the same of all"):
        by_layer(dense, data.take([3] * 7), batch=2)
