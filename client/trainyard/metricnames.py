"""What the name of a metric says of it."""

import re

_SMALLER_IS_BETTER = frozenset({"loss", "error", "err", "mae", "mse", "rmse", "nll", "perplexity"})
_LARGER_IS_BETTER = frozenset(
    {
        "accuracy", "acc", "f1", "auc", "auroc", "psnr", "ssim", "dice", "iou", "miou", "froc",
        "precision", "recall", "sensitivity", "specificity", "kappa", "mcc", "map", "r2", "bleu",
    }
)  # fmt: skip
"""Words of a metric's name that leave no doubt; a loss of the same name is a loss."""


def is_larger_better(metric: str) -> bool | None:
    """Whether more of it is better; None where its name does not say."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+", metric)}
    words |= {word.rstrip("0123456789") for word in words}
    if words & _SMALLER_IS_BETTER:
        return False
    return True if words & _LARGER_IS_BETTER else None
