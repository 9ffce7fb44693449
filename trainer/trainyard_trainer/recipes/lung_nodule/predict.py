"""Candidates in a new scan, by the sliding window that evaluation reads scans with."""

from pathlib import Path

from torch import nn

from trainyard_trainer.config import Section
from trainyard_trainer.predictions import Prediction
from trainyard_trainer.recipes.lung_nodule.config import Config
from trainyard_trainer.recipes.lung_nodule.data import windowed
from trainyard_trainer.recipes.lung_nodule.inference import Reader
from trainyard_trainer.recipes.lung_nodule.report import HEADER, rows_of
from trainyard_trainer.recipes.lung_nodule.volumes import read_volume, uid_of


class PredictOptions(Section):
    """What prediction can be told."""

    tta: bool | None = None
    """Whether to average over mirrored and turned scans, as inference.tta says. Unset: as the run
    did."""


def predict_scan(
    config: Config,
    patch_size: tuple[int, int, int],
    network: nn.Module,
    file: Path,
    options: PredictOptions,
) -> Prediction:
    """A row for each candidate, in world millimetres, the likeliest first. Raises Unusable."""
    if options.tta is not None:
        tta = config.inference.tta.model_copy(update={"enabled": options.tta})
        inference = config.inference.model_copy(update={"tta": tta})
        config = config.model_copy(update={"inference": inference})
    reader = Reader(config, patch_size)
    voxels, grid = read_volume(file, config.data.spacing_mm)
    device = next(network.parameters()).device
    maps = reader.maps(network, windowed(voxels, config.data.windows).to(device))
    return Prediction(
        columns=HEADER, rows=list(rows_of(uid_of(file), reader.candidates(maps, grid)))
    )
