"""Diagnoses of new X-rays, with the concepts that they follow from, and corrections by a person.

    python -m trainyard_trainer.recipes.csr.predict model.pt chest.dicom --labels labels.csv
    python -m trainyard_trainer.recipes.csr.predict model.pt chest.dicom --labels labels.csv \\
        --positive 0.2,0.3,0.5,0.6 --reject Pneumothorax --maps out

model.pt: from `trainyard fetch JOB best`, or one of the run's models/*.pth. The columns of the
labels' table give the names. Prints a line of JSON for each image.
"""

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from trainyard_trainer.config import Section
from trainyard_trainer.config_errors import nearest
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.predictions import Prediction as FilePrediction
from trainyard_trainer.recipes.csr.backbones import read_state
from trainyard_trainer.recipes.csr.config import Config, XrayDataConfig
from trainyard_trainer.recipes.csr.data import choose_labels
from trainyard_trainer.recipes.csr.figures import overlay_map
from trainyard_trainer.recipes.csr.interaction import Box, factor_map
from trainyard_trainer.recipes.csr.labels import read_labels
from trainyard_trainer.recipes.csr.model import CSR, Correction
from trainyard_trainer.recipes.csr.xray import BadXray, read_xray, resize

Sides = tuple[float, float, float, float]
"""Left, top, right, bottom in shares of the image's sides."""
_BACKBONES = {"backbone.vit.": "vit", "backbone.resnet.": "resnet50", "backbone.layers.": "small"}


class PredictOptions(Section):
    """A person's corrections, and what is to be drawn."""

    positive: tuple[Sides, ...] = ()
    """Where to look: boxes [left, top, right, bottom] in shares of the image's sides."""
    negative: tuple[Sides, ...] = ()
    """Where not to look; such a box wins over a positive one."""
    alpha: float = Field(default=0.5, ge=0)
    """What similarities outside of all boxes are multiplied by."""
    reject: tuple[str, ...] = ()
    """Concepts that are not there."""
    maps: bool = False
    """Whether to write a picture of each concept's map."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of one image."""

    diagnoses: Tensor
    """Probabilities (C,)."""
    concepts: Tensor
    """Probabilities (K,), of the concepts' own maps."""
    similarities: Tensor
    """(K, M, H, W): where the image is like each prototype."""


def load_network(file: Path, image_size: int) -> CSR:
    """The network whose weights lie in `file`; its sizes are read off them.

    Raises ConfigurationError where these are no weights of CSR.
    """
    try:
        state = read_state(file)
        kind = next(kind for key in state for part, kind in _BACKBONES.items() if part in key)
        concepts, prototypes, width = state["prototypes"].shape
        network = CSR(
            concepts,
            len(state["task_head.bias"]),
            prototypes,
            backbone=kind,
            image_size=image_size,
            projection_size=width,
        )
        network.load_state_dict(state)
    except FileNotFoundError:
        raise ConfigurationError(f"no file '{file}'; fetch it with trainyard fetch.") from None
    except (KeyError, StopIteration, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"'{file}' holds no weights of csr for images of {image_size} pixels; name a model.pt "
            "of such a run, and its data.image_size in --image-size."
        ) from error
    return network.eval()


@torch.no_grad()
def predict(
    network: CSR, image: Tensor, correction: Correction | None = None, *, is_choice: bool = False
) -> Prediction:
    """image: (3, S, S), normalised. is_choice: whether exactly one diagnosis holds."""
    features = network.backbone(image[None])
    maps = network.similarity_maps(features)
    logits = network.diagnose(maps, correction)[0]
    return Prediction(
        diagnoses=logits.softmax(dim=0) if is_choice else logits.sigmoid(),
        concepts=network.concept_maps(features).mean(dim=(2, 3))[0].sigmoid(),
        similarities=maps[0],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        _run(given)
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(given: argparse.Namespace) -> None:
    network = load_network(given.model, given.image_size)
    concepts, diagnoses = _names(network, given.labels)
    data = XrayDataConfig()
    wishes = PredictOptions(
        positive=tuple(given.positive),
        negative=tuple(given.negative),
        alpha=given.alpha,
        reject=tuple(given.reject),
    )
    for file in given.images:
        grey, image = _read(file, given.image_size, data)
        maps = predict(network, image).similarities
        found = predict(network, image, _correction(wishes, concepts, maps))
        line = {
            "image": str(file),
            "diagnoses": _rounded(diagnoses, found.diagnoses),
            "concepts": _rounded(concepts, found.concepts),
        }
        print(json.dumps(line))
        if given.maps:
            given.maps.mkdir(parents=True, exist_ok=True)
            for name, picture in _pictures(file, grey, concepts, found).items():
                (given.maps / name).write_bytes(picture)


def predict_file(
    network: CSR,
    file: Path,
    options: PredictOptions,
    labels: Mapping[str, Sequence[str]],
    config: Config,
) -> FilePrediction:
    """A row of probabilities, and a picture of each concept's map where they are asked for."""
    data, concepts, diagnoses = config.data, labels["concepts"], labels["tasks"]
    try:
        grey, image = _read(file, data.image_size, data)
    except BadXray as error:
        text = str(error).replace(", take it out of the labels, or write data.bad_files: skip", "")
        raise ConfigurationError(text) from error
    image = image.to(network.prototypes.device)
    maps = predict(network, image).similarities
    is_choice = config.training.task_loss == "ce"
    found = predict(network, image, _correction(options, concepts, maps), is_choice=is_choice)
    names = [*diagnoses, *(f"concept: {name}" for name in concepts)]
    values = [*found.diagnoses.tolist(), *found.concepts.tolist()]
    return FilePrediction(
        columns=["file", *names],
        rows=[[str(file), *values]],
        files=_pictures(file, grey, concepts, found) if options.maps else {},
    )


def _read(file: Path, size: int, data: XrayDataConfig) -> tuple[Tensor, Tensor]:
    """(S, S) uint8, and the same as the network takes it, (3, S, S)."""
    grey = torch.from_numpy(resize(read_xray(file), size).copy())
    return grey, ((grey.float() / 255 - data.mean) / data.std).expand(3, -1, -1)


def _pictures(
    file: Path, grey: Tensor, concepts: Sequence[str], found: Prediction
) -> dict[str, bytes]:
    """PNG by name: where the image is like a concept."""
    pictures = {}
    for concept, name in enumerate(concepts):
        heat, buffer = found.similarities[concept].amax(dim=0).clamp(min=0).cpu(), io.BytesIO()
        Image.fromarray(overlay_map(grey[None], heat)).save(buffer, format="PNG")
        key = f"{file.stem}-{name.replace('/', '-').replace(' ', '-')}.png"
        pictures[key] = buffer.getvalue()
    return pictures


def _correction(given: PredictOptions, concepts: Sequence[str], maps: Tensor) -> Correction | None:
    """maps: (K, M, H, W)."""
    if not (given.positive or given.negative or given.reject):
        return None
    for name in given.reject:
        if name not in concepts:
            raise ConfigurationError(
                f"reject: there is no concept '{name}'; {nearest(name, [*concepts])}"
            )
    height, width = maps.shape[-2:]
    factors = torch.ones(height, width)
    if given.positive or given.negative:
        positive, negative = (
            [Box(*one) for one in boxes] for boxes in (given.positive, given.negative)
        )
        factors = factor_map((height, width), positive, negative, given.alpha)
    rejected = tuple(concepts.index(name) for name in given.reject)
    return Correction(factors=factors, rejected=rejected)


def _names(network: CSR, labels: Path | None) -> tuple[list[str], list[str]]:
    counts = network.prototypes.shape[0], network.task_head.out_features
    if labels is None:
        return [f"concept {n}" for n in range(counts[0])], [f"task {n}" for n in range(counts[1])]
    concepts, diagnoses = choose_labels(read_labels(labels), XrayDataConfig())
    if (len(concepts), len(diagnoses)) != counts:
        raise ConfigurationError(
            f"--labels: '{labels}' names {len(concepts)} concepts and {len(diagnoses)} diagnoses, "
            f"the weights are for {counts[0]} and {counts[1]}; name the table it was trained with."
        )
    return [*concepts], [*diagnoses]


def _rounded(names: Sequence[str], values: Tensor) -> dict[str, float]:
    return {name: round(value, 4) for name, value in zip(names, values.tolist(), strict=True)}


def _box(text: str) -> Sides:
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
        Box(left, top, right, bottom)
        return left, top, right, bottom
    except (ValueError, ConfigurationError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no box: left,top,right,bottom in shares of the sides"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Diagnose X-rays with a trained csr.")
    parser.add_argument("model", type=Path, help="weights")
    parser.add_argument("images", type=Path, nargs="+", help="DICOM, PNG or JPEG")
    parser.add_argument("--labels", type=Path, help="table of labels whose columns give the names")
    parser.add_argument("--image-size", type=int, default=224, help="data.image_size of the run")
    parser.add_argument("--positive", type=_box, action="append", default=[], help="look here")
    parser.add_argument("--negative", type=_box, action="append", default=[], help="not here")
    parser.add_argument("--alpha", type=float, default=0.5, help="factor outside of all boxes")
    parser.add_argument("--reject", action="append", default=[], help="a concept that is not there")
    parser.add_argument("--maps", type=Path, help="folder for a picture of each concept's map")
    return parser


if __name__ == "__main__":
    sys.exit(main())
