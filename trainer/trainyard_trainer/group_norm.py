"""Group normalisation in the place of batch normalisation, which mixes samples and not ranks."""

from torch import nn

GROUPS = 32
"""As in Wu & He 2018, arxiv.org/abs/1803.08494; fewer where channels cannot be divided so."""


def replace_batch_norm(module: nn.Module) -> nn.Module:
    """Every BatchNorm below `module`, or itself, as a GroupNorm over the same channels.

    Scale and shift are kept; running statistics are dropped.
    """
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        channels = module.num_features
        groups = next(n for n in range(min(GROUPS, channels), 0, -1) if channels % n == 0)
        norm = nn.GroupNorm(groups, channels, eps=module.eps, affine=module.affine)
        if module.affine:
            norm.load_state_dict({"weight": module.weight, "bias": module.bias})
        return norm
    for name, child in module.named_children():
        setattr(module, name, replace_batch_norm(child))
    return module
