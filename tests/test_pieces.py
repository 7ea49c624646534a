"""A batch in pieces that stay in the cache is the batch."""
import pytest
import torch

import vitlab
from vitlab import block, pieces
from vitlab.pieces import in_pieces


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
@pytest.mark.parametrize(("size", "few"), [(1000, 1), (300, 3), (0, 8), (1, 8)])
def test_as_few_at_a_time_as_fit(count, size, few):
    seen = []

    def double(x):
        seen.append(len(x))
        return (2 * x)[..., :2]

    x = torch.randn(count, 3)
    with torch.no_grad():
        assert torch.equal(in_pieces(double, x, size, 999), (2 * x)[:, :2])
    assert max(seen) <= few and sum(seen) == count and len(seen) == -(-count // few)
    seen.clear()
    assert torch.equal(in_pieces(double, x, size, 999), (2 * x)[:, :2]) and seen == [count]         # what is trained is kept


@pytest.mark.parametrize("grid", [4, 5])
@torch.no_grad()
def test_a_t2t_stem_makes_the_same_of_a_few_pictures_at_a_time(monkeypatch, grid):
    net, images = vitlab.create("dense", "t2t_vit_7", 10, image_size=64, grid=grid).eval(), torch.randn(7, 3, 64, 64)
    stem = net.vit.patch_embed
    seen, cut = [], stem.cut
    monkeypatch.setattr(stem, "cut", lambda some: seen.append(len(some)) or cut(some))
    truth = cut(images)
    for room, longest in ((1, 1), (2 ** 17, 3), (2 ** 30, 7)):
        seen.clear()
        monkeypatch.setattr(pieces, "CACHE", room)
        torch.testing.assert_close(stem(images), truth, atol=1e-6, rtol=1e-5)
        assert 0 < max(seen) <= longest and sum(seen) == 7
    monkeypatch.setattr(pieces, "CACHE", 1)
    seen.clear()
    handle = stem.attention[1].mlp.register_forward_hook(lambda module, given, out: None)
    assert torch.equal(stem(images), truth) and seen == [7]                # whoever watches sees all of it
    handle.remove()
    monkeypatch.undo()
    exported = torch.export.export(stem, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    torch.testing.assert_close(exported(images[:3]), truth[:3], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 9), (1, 45), (0, 9), (1, 0)])
@torch.no_grad()
def test_an_mlp_in_pieces_is_the_mlp_and_a_hook_sees_all_of_it(monkeypatch, shape):
    part = vitlab.create("dense", "micro_patch8").eval().vit.blocks[0]
    x, hidden = torch.randn(*shape, 64), part.mlp.fc1.out_features
    truth, seen, gelu = part.mlp(part.norm2(x)), [], part.mlp.act.forward
    monkeypatch.setattr(part.mlp.act, "forward", lambda y: seen.append(y[..., 0].numel()) or gelu(y))
    for tokens, longest in ((1, 9 if shape[0] > 1 else 1), (20, 20), (1000, 45)):
        seen.clear()
        monkeypatch.setattr(block, "ROOM", 4 * hidden * tokens)
        torch.testing.assert_close(block.mlp(part, x), truth, atol=1e-6, rtol=1e-5)
        assert sum(seen) == shape[0] * shape[1] and max(seen) <= longest
    monkeypatch.setattr(block, "ROOM", 1)
    for step in (part.norm2, part.mlp.fc2, part.drop_path2):
        told = []
        handle = step.register_forward_hook(lambda module, args, out: told.append(out.shape))
        block.mlp(part, x)
        handle.remove()
        assert told == [x.shape]
    seen.clear()
    block.mlp(part.train(), x)
    assert len(seen) == 1


@pytest.mark.parametrize("method", ["dense", "supervit", "dvt", "revit", "spvit", "svit", "tome", "adaptive_depth"])
@torch.no_grad()
def test_no_method_answers_otherwise_in_pieces(monkeypatch, method):
    torch.manual_seed(0)
    net, images = vitlab.create(method, "micro_patch8").eval(), torch.randn(6, 3, 56, 56)
    for point in net.points[::max(len(net.points) // 2, 1)]:
        monkeypatch.setattr(block, "ROOM", 2 ** 40)
        whole = net(images, point)
        monkeypatch.setattr(block, "ROOM", 4 * 128 * 60)
        torch.testing.assert_close(net(images, point), whole, atol=1e-5, rtol=1e-4)
