"""What a tensor of ours is called in the official code of its paper."""
import re
from collections.abc import Iterable

from torch import nn

RELEASED = ("dense", "supervit", "dvt", "spvit", "svit")        # ReViT has no official code
CASCADE = ("less_less_token", "less_token", "normal_token")     # DVT's stages
Rules = tuple[tuple[str, str], ...]                             # (how a name of ours reads, what stands there officially)

T2T: Rules = (                                                  # the stem; all else, and DeiT and LV-ViT, have timm's names
    (r"^patch_embed\.attention\.0\.", "tokens_to_token.attention1."),
    (r"^patch_embed\.attention\.1\.", "tokens_to_token.attention2."),
    (r"^patch_embed\.project\.", "tokens_to_token.project."),
    (r"^(tokens_to_token\.attention\d)\.mlp\.fc1\.", r"\1.mlp.0."),
    (r"^(tokens_to_token\.attention\d)\.mlp\.fc2\.", r"\1.mlp.2."),
)
BACKBONE: Rules = ((r"^vit\.", ""), *T2T, (r"^reg_token$", "dist_token"))
STAGE: Rules = (                                                # of DVT, behind the stage's own name
    *BACKBONE,
    (r"^context\.nets\.(\d+)\.0\.", r"blocks.\1.feature_resuse_mlp.0."),
    (r"^context\.nets\.(\d+)\.1\.", r"blocks.\1.feature_resuse_mlp.1.fc1."),
    (r"^context\.nets\.(\d+)\.3\.", r"blocks.\1.feature_resuse_mlp.1.fc2."),
    (r"^relations\.net\.", "relation_reuse_conv."),
)
SELECTORS: Rules = (                                            # of SPViT
    (r"^selectors\.(\d+)\.branch\.", r"score_predictor.\1.senet."),
    (r"^selectors\.(\d+)\.readers\.(\d+)\.read\.", r"score_predictor.\1.in_conv.\2."),
    (r"^selectors\.(\d+)\.readers\.(\d+)\.say\.", r"score_predictor.\1.out_conv.\2."),
)
GATED: Rules = (                                                # of SViT, whose blocks are torch's nn.TransformerEncoderLayer
    (r"^gates\.(\d+)\.norm\.", r"selective_modules.\1.norm."),
    (r"^gates\.(\d+)\.fc", r"selective_modules.\1.mlp.fc"),
    (r"^blocks\.(\d+)\.", r"blocks.\1.TransformerEncoderLayer."),
    (r"\.attn\.qkv\.", ".self_attn.in_proj_"),
    (r"\.attn\.proj\.", ".self_attn.out_proj."),
    (r"(TransformerEncoderLayer)\.mlp\.fc", r"\1.linear"),
)
RULES = {"dense": BACKBONE, "supervit": BACKBONE, "spvit": BACKBONE + SELECTORS, "svit": BACKBONE + GATED}


def official(method: str, net: nn.Module, name: str) -> str:
    """The official name of a tensor of ours."""
    if method == "dvt":
        if len(net.stages) != len(CASCADE):
            raise ValueError(f"the official cascades have three stages, not {len(net.stages)}; leave grids out")
        _, number, rest = name.split(".", 2)
        return f"{CASCADE[int(number)]}.{rewritten(rest, STAGE)}"
    if method == "supervit" and name in (table := position_tables(net)):
        return table[name]
    return rewritten(name, RULES[method])


def rewritten(name: str, rules: Rules) -> str:
    """A name after all rules, in their order."""
    for ours, theirs in rules:
        name = re.sub(ours, theirs, name)
    return name


def position_tables(net: nn.Module) -> dict[str, str]:
    """SuperViT's: one for each length, ascending, the largest being the backbone's own here."""
    *smaller, _ = net.lengths
    ours = [*(f"pos.{length}" for length in smaller), "vit.pos_embed"]
    return {name: f"pos_embed_list.{number}" for number, name in enumerate(ours)}


def head_of(method: str) -> str:
    """The official name of the classifier's weights, of the last exit where there are several."""
    return f"{CASCADE[-1]}.head.weight" if method == "dvt" else "head.weight"


def repeated(method: str, net: nn.Module, name: str) -> str | None:
    """The official tensor that this one is: SPViT's heads share one selector, and each of them lists it."""
    found = re.match(r"(score_predictor\.(\d+)\.(?:in|out)_conv\.)(\d+)(\..*)", name) if method == "spvit" else None
    if found is None or found[3] == "0" or int(found[2]) >= len(net.selectors) or len(net.selectors[int(found[2])].readers) > 1:
        return None
    return f"{found[1]}0{found[4]}"


def aside(net: nn.Module, name: str) -> bool:
    """Is this of the second head of a distilled DeiT, for which there is no place?"""
    return name.startswith("head_dist.") and net.made["backbone"].endswith("_distilled")


def as_released(method: str, names: Iterable[str]) -> dict:
    """Knobs with which a net computes what the released code does; what the caller says goes before."""
    if method != "spvit":
        return {}
    branch = any(".senet." in name for name in names)
    return {"branch": branch, "package": "sum" if branch else "normalised"}
