"""What token pruning is compared with at equal cost (Table 11): structured pruning, which impairs every token.

The other rival, tokens chosen at random, is `vitlab.create("spvit", ..., score="random")`.
"""
from vitlab import checkpoint
from vitlab.backbones import image_size
from vitlab.backbones.narrow import check, shrunk
from vitlab.measure import gmacs
from vitlab.method import Dense
from vitlab.numbers import real


def structured(dense: Dense, budget: float) -> Dense:
    """A dense net of `budget` GFLOPs, as near as one channel allows, cut out of a trained one and to be trained further by `fit`.

    All tokens lose the channels that count least (`backbones.narrow`): a smaller net, faster in fact. The paper says no more than
    that the feature map is pruned "by dimension". Here heads and MLPs shrink with the tokens, as from one DeiT to a smaller one:
    if the tokens' dimension alone were cut, hardly any would be left of a small net at the same cost. Whole heads would be too
    coarse for a budget. It is saved and loaded as any other net, as `vitlab.create("dense", ..., width=...)`.
    ValueError for another net than a dense one that vitlab.create made, for a PiT, and for a budget that is out of reach.
    """
    if not isinstance(dense, Dense) or not hasattr(dense, "made"):
        raise ValueError('channels are cut out of a trained dense net; give one made with vitlab.create("dense", ...)')
    width = width_for(dense, real(budget, "budget"))
    net = Dense(dense.vit, width).train(dense.training)
    net.layout = checkpoint.layout(net)
    net.made = {**dense.made, "knobs": {**dense.made["knobs"], "width": width}}
    return net


def width_for(dense: Dense, budget: float) -> int:
    """The width whose cost is nearest to a budget in GFLOPs: blocks by the closed form, stem and head on a straight line."""
    vit, full, size = dense.vit, dense.vit.embed_dim, image_size(dense.vit)
    check(vit)
    picture = vit.pos_embed.new_zeros(1, 3, size, size)
    least, most = (gmacs(net, picture)[0] for net in (Dense(vit, 1), dense))
    if not least <= budget <= most * (1 + 1e-9):
        raise ValueError(f"a budget of {budget:.4g} GFLOPs is out of reach: this net takes {most:.4g} GFLOPs with all its "
                         f"channels and {least:.4g} with one; choose between")
    low, high = least - blocks(dense, 1), most - blocks(dense, full)

    def cost(width: int) -> float:
        return low + (high - low) * (width - 1) / max(full - 1, 1) + blocks(dense, width)

    return min(range(1, full + 1), key=lambda width: abs(cost(width) - budget))


def blocks(dense: Dense, width: int) -> float:
    """GFLOPs of the blocks of a net that is cut to a width."""
    vit, tokens, total = dense.vit, dense.vit.pos_embed.shape[1], 0
    for block in vit.blocks:
        inside = block.attn.num_heads * shrunk(block.attn.head_dim, width, vit.embed_dim)
        hidden = shrunk(block.mlp.fc1.out_features, width, vit.embed_dim)
        total += tokens * width * (4 * inside + 2 * hidden) + 2 * tokens ** 2 * inside
    return total / 1e9
