"""CSR: concepts seen on maps, described by prototypes, and diagnoses that follow from them.

Huy et al., Interactive Medical Image Analysis with Concept-based Similarity Reasoning, CVPR 2025
(arxiv.org/abs/2503.06873). K concepts, M prototypes of each, C diagnoses, D channels of features.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainyard_trainer.recipes.csr.backbones import build_backbone


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What a person says of the similarity maps: factors and concepts that are not there."""

    factors: Tensor
    """(K, H, W) or (H, W): what maps are multiplied by, see interaction.py."""
    rejected: tuple[int, ...] = ()
    """Concepts whose similarities become 0."""


class CSR(nn.Module):
    """The whole network. Stage 1 learns `backbone` and `concept_head`, stage 2 `projector` and
    `prototypes`, stage 3 `task_head`.

    With 14 concepts, 6 diagnoses and 2048 channels the parts after the backbone have 28,686,
    4,458,624, 8,960 and 426 parameters.
    """

    def __init__(
        self,
        num_concepts: int,
        num_classes: int,
        num_prototypes_per_concept: int = 5,
        *,
        backbone: str = "medmae",
        image_size: int = 224,
        projection_size: int = 128,
    ) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone, image_size)
        width = self.backbone.width
        self.concept_head = nn.Conv2d(width, num_concepts, kernel_size=1)
        self.projector = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection_size)
        )
        shape = (num_concepts, num_prototypes_per_concept, projection_size)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(shape), dim=-1))
        self.task_head = nn.Linear(num_concepts * num_prototypes_per_concept, num_classes)
        self.freezes_statistics = False
        """Whether batch normalisation keeps its running statistics while the backbone learns."""

    def train(self, mode: bool = True) -> "CSR":
        """A frozen backbone keeps its running statistics."""
        super().train(mode)
        is_frozen = not any(parameter.requires_grad for parameter in self.backbone.parameters())
        if is_frozen or self.freezes_statistics:
            for part in self.backbone.modules():
                if is_frozen or isinstance(part, nn.BatchNorm2d):
                    part.training = False
        return self

    def forward(self, images: Tensor, goal: str = "task") -> Tensor:
        """images: (B, 3, S, S). Returns what the stage with this goal learns by.

        concepts: logits (B, K). prototypes: concept vectors' similarities (B, K, K, M) to the
        prototypes of each concept. task: logits (B, C).
        """
        if goal == "concepts":
            return self.concept_maps(self.backbone(images)).mean(dim=(2, 3))
        if goal == "prototypes":
            return self.concept_similarities(self.backbone(images))
        return self.diagnose(self.similarity_maps(self.backbone(images)))

    def concept_maps(self, features: Tensor) -> Tensor:
        """features: (B, D, H, W). Returns class activation maps (B, K, H, W)."""
        maps: Tensor = self.concept_head(features)
        return maps

    def concept_vectors(self, features: Tensor) -> Tensor:
        """v_k = sum over positions of softmax(cam_k) f, projected and normalised: (B, K, P)."""
        weights = self.concept_maps(features).flatten(2).softmax(dim=-1)  # (B, K, HW)
        vectors = weights @ features.flatten(2).transpose(1, 2)  # (B, K, D)
        return F.normalize(self.projector(vectors), dim=-1)

    def concept_similarities(self, features: Tensor) -> Tensor:
        """<p_jm, v'_k> of every concept k with every prototype: (B, K, K, M), by k, j and m."""
        vectors, prototypes = self.concept_vectors(features), F.normalize(self.prototypes, dim=-1)
        return torch.einsum("bkp,jmp->bkjm", vectors, prototypes)

    def similarity_maps(self, features: Tensor) -> Tensor:
        """<p_km, P(f)> at every position: (B, K, M, H, W), each in -1..1."""
        projected = F.normalize(self.projector(features.permute(0, 2, 3, 1)), dim=-1)
        prototypes = F.normalize(self.prototypes, dim=-1)
        return torch.einsum("bhwp,kmp->bkmhw", projected, prototypes)

    def diagnose(self, maps: Tensor, correction: Correction | None = None) -> Tensor:
        """The largest similarity s_km on each map, then a linear layer: logits (B, C).

        maps: (B, K, M, H, W).
        """
        if correction is not None:
            factors = correction.factors.to(maps)
            maps = maps * (factors[:, None] if factors.ndim == 3 else factors)
        scores = maps.flatten(3).amax(dim=-1)  # (B, K, M)
        if correction is not None and correction.rejected:
            kept = torch.ones(scores.shape[1], 1, device=scores.device)
            kept[list(correction.rejected)] = 0
            scores = scores * kept
        logits: Tensor = self.task_head(scores.flatten(1))
        return logits
