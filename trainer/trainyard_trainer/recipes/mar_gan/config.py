"""What can be configured; a docstring under a field is its documentation everywhere.

No torch here: the client and the documentation read these models too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainyard_trainer.aliases import Alias, choice, rename, without_effect
from trainyard_trainer.bad_data import OnBad
from trainyard_trainer.config import (
    DataConfig,
    OptimizerConfig,
    RecipeConfig,
    ScheduleConfig,
    Section,
    TrainingConfig,
)
from trainyard_trainer.recipes.mar_gan.variants import VARIANTS

SMALLEST_PATCH = 32
"""Side of an image of which a PatchGAN's convolutions leave something."""


class GeneratorConfig(Section):
    """The network that takes artefacts away."""

    type: Literal["NGswin"] = "NGswin"
    """Which network."""

    embed_dim: int = Field(default=64, ge=16, multiple_of=16)
    """Channels of every stage."""

    depths: tuple[int, ...] = (6, 4, 4)
    """Blocks of each encoder stage."""

    num_heads: tuple[int, ...] = (6, 4, 4)
    """Attention heads of each encoder stage."""

    window_size: int = Field(default=8, ge=2, multiple_of=2)
    """Side of an attention window, in tokens."""

    ngrams: tuple[int, ...] = (2, 2, 2, 2)
    """Windows along each side of an n-gram, of each encoder stage and the decoder; 1: a window
    alone."""

    decoder_depth: int = Field(default=6, ge=1)
    """Blocks of the decoder."""

    decoder_heads: int = Field(default=6, ge=1)
    """Attention heads of the decoder."""

    output: Literal["tanh", "residual"] = "tanh"
    """tanh: draw the image anew. residual: draw what is added to the input, with nothing at first;
    not NGswin's, but minutes of training are too few to learn what is not broken."""

    recompute: bool = False
    """Keep only the blocks' inputs for the backward pass and compute the rest again: a quarter
    more time, a fraction of the memory."""

    @model_validator(mode="after")
    def _refuse_uneven_lists(self) -> Self:
        stages = len(self.depths)
        if stages < 1 or len(self.num_heads) != stages or len(self.ngrams) != stages + 1:
            raise ValueError(
                f"depths has {stages} stages, num_heads {len(self.num_heads)} and ngrams "
                f"{len(self.ngrams)}; write as many heads as depths, and one n-gram more"
            )
        if max(*self.num_heads, self.decoder_heads) > self.embed_dim // 2:
            raise ValueError("a stage has more heads than half of embed_dim; write fewer")
        if min(*self.depths, *self.num_heads, *self.ngrams) < 1:
            raise ValueError("depths, num_heads and ngrams must be at least 1")
        return self


class DiscriminatorConfig(Section):
    """The network that judges the generator's images."""

    type: Literal["MultiScalePatchGAN", "DCGAN"] = "MultiScalePatchGAN"
    """MultiScalePatchGAN: a verdict for each overlapping patch, at several scales. DCGAN: one
    verdict an image, with batch normalisation; the baseline."""

    num_scales: int = Field(default=3, ge=1, le=6)
    """For MultiScalePatchGAN: 1 is full size alone, 2 adds half size, 3 a quarter."""

    base_channels: int = Field(default=64, ge=1)
    """Channels of the first convolution; later ones have up to 8 times as many."""

    use_spectral_norm: bool = True
    """For MultiScalePatchGAN: divide each weight by its largest singular value."""


class ModelConfig(Section):
    """Which networks."""

    generator: GeneratorConfig = GeneratorConfig()
    """Takes artefacts away."""

    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    """Judges; it is left out where no loss needs it."""

    pretrained: Path | None = None
    """Weights to start from: a .pt or .pth file, such as one that `trainyard fetch` wrote, or the
    generator's published ones. null: start from scratch."""


class NetworkOptimizerConfig(Section):
    """What one network's optimizer has of its own."""

    lr: float | None = Field(default=None, gt=0)
    """Highest learning rate. null: training.learning_rate for the generator, and twice the
    generator's for the discriminator (two time-scale update rule, arXiv 1706.08500)."""

    betas: tuple[float, float] | None = None
    """Decay rates of the two moments. null: training.optimizer.betas."""


class GanOptimizerConfig(OptimizerConfig):
    """Two optimizers of one kind."""

    generator: NetworkOptimizerConfig = NetworkOptimizerConfig()
    """The generator's."""

    discriminator: NetworkOptimizerConfig = NetworkOptimizerConfig()
    """The discriminator's."""


class LossWeightsConfig(Section):
    """What each part of the generator's loss counts for; 0: left out."""

    adversarial: float = Field(default=0.1, ge=0)
    """Of the discriminator's verdict."""

    feature_matching: float = Field(default=10.0, ge=0)
    """Of the distance between the discriminator's features of real and generated images."""

    reconstruction: float = Field(default=1.0, ge=0)
    """Of the weighted absolute error."""

    edge: float = Field(default=0.2, ge=0)
    """Of the weighted absolute error of the image's differences."""

    physics: float = Field(default=0.02, ge=0)
    """Of the absolute error of projections along rays without metal, in sums over pixels."""

    metal_consistency: float = Field(default=0.5, ge=0)
    """Of the absolute error where the metal is."""

    mse: float = Field(default=0.0, ge=0)
    """Of the mean squared error; only some variants have it."""


class MetalAwareConfig(Section):
    """How pixels near metal are weighted: w = min(1 + beta_weight * band, w_max)."""

    threshold: float = Field(default=0.6, gt=-1, lt=1)
    """Metal is where the artefact image exceeds this; images run from -1 to 1."""

    dilation_radius: int = Field(default=5, ge=0)
    """The band reaches this many pixels beyond the metal, in a square; 0: the metal alone."""

    beta_weight: float = Field(default=1.0, ge=0)
    """What the band adds to a weight of 1; 0: all pixels count the same."""

    w_max: float = Field(default=3.0, ge=1)
    """Largest weight. The band is 0 or 1, so that it binds only below 1 + beta_weight."""


class MarTrainingConfig(TrainingConfig):
    """How to train the two networks."""

    epochs: int = Field(default=100, ge=1)
    """Passes over the training data."""

    batch_size: int = Field(default=4, ge=1)
    """Patches of one optimizer step over all ranks; it stays when their number changes."""

    accumulation_steps: int = Field(default=1, ge=1)
    """Batches whose gradients are added up before a step: 4 of them of 2 patches are a step of 8.
    From 2 on, a rank holds at most batch_size patches at a time unless micro_batch_size is set."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """Highest learning rate of the generator, unless its own is set."""

    optimizer: GanOptimizerConfig = GanOptimizerConfig(
        name="adam", weight_decay=0.0, betas=(0.5, 0.999)
    )
    """Which optimizers."""

    schedule: ScheduleConfig = ScheduleConfig(
        name="multi_step", interval="epoch", milestones=(50, 75), gamma=0.5
    )
    """How both learning rates move."""

    adversarial_loss: Literal["hinge", "bce"] = "hinge"
    """hinge: relu(1 - D(x)) + relu(1 + D(x')). bce: the first GAN's binary cross entropy."""

    loss_weights: LossWeightsConfig = LossWeightsConfig()
    """The parts of the generator's loss."""

    metal_aware: MetalAwareConfig = MetalAwareConfig()
    """How pixels near metal are weighted."""

    projection_angles: int = Field(default=180, ge=1)
    """Angles of the projector of the physics loss."""

    pictures: int = Field(default=4, ge=0)
    """Images of each evaluation that are shown with their input, output, target and error."""

    @model_validator(mode="before")
    @classmethod
    def _hold_one_batch_at_a_time(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("micro_batch_size"):
            return values
        if values.get("accumulation_steps") in (None, 1):
            return values
        size = values.get("batch_size", cls.model_fields["batch_size"].default)
        return {**values, "micro_batch_size": size}


class MarDataConfig(DataConfig):
    """Which images: SynDeepLesion's layout or SpineWeb's, found by what is there."""

    train_path: Path | None = None
    """Folder with train_640geo/, or with synthesized_metal_transfer/ and no_metal/. null: path."""

    test_path: Path | None = None
    """The same for testing. null: train_path, or where that is a folder `train` with SpineWeb's,
    the folder `test` beside it."""

    patch_size: int = Field(default=128, ge=SMALLEST_PATCH)
    """Side of the square patches that are trained on, in pixels; evaluation sees whole images."""

    artifacts_per_slice: int | None = Field(default=1, ge=1)
    """Artefact images of each slice that an epoch shows, other ones each time. null: all."""

    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training patients that are held out to choose the best model by."""

    validation_artifacts_per_slice: int | None = Field(default=1, ge=1)
    """Artefact images of each held-out slice, always the same. null: all."""

    test_artifacts_per_slice: int | None = Field(default=None, ge=1)
    """The same for testing. null: all."""

    on_bad_file: OnBad = "stop"
    """What a truncated file, NaN or a missing half of a pair leads to: an error, or going on
    without it, counted in the metrics."""

    cache_mebibytes: int = Field(default=1024, ge=0)
    """Keep up to this many MiB of decoded images in each process that reads them; 0: read every
    time."""


class CheckpointingConfig(Section):
    """The guide's word on checkpoints; where it is set, it overrules spec.checkpoint."""

    save_every: int | None = Field(default=None, ge=1)
    """Epochs between two checkpoints. null: as spec.checkpoint says."""

    keep_last: int | None = Field(default=None, ge=1)
    """How many of the newest are kept. null: as spec.checkpoint says."""


class Config(RecipeConfig):
    """Everything that recipe mar-gan can be told."""

    aliases: ClassVar[Sequence[Alias]] = (
        rename("training.num_epochs", "training.epochs"),
        rename("training.patch_size", "data.patch_size"),
        rename("data.workers", "training.num_workers"),
        rename("batch_size", "training.batch_size"),
        rename("num_epochs", "training.epochs"),
        rename("accumulation_steps", "training.accumulation_steps"),
        rename("checkpoint", "model.pretrained"),
        choice("amp", {True: {"training.precision": "fp16"}, False: {}}),
        without_effect("gpu", "a rank takes the GPU that its node gives it"),
        without_effect("gpus", "one process a GPU under DDP; write spec.processesPerNode"),
        without_effect("gpus_per_node", "write spec.processesPerNode"),
        without_effect("total_nodes", "write spec.nodes"),
        without_effect("node_rank", "the job numbers its nodes itself"),
        without_effect("ip_address", "the nodes find each other themselves"),
        without_effect("backend", "nccl where there are GPUs, gloo elsewhere"),
        without_effect("output_dir", "write --storage, or spec.storage.uri"),
        without_effect("resume", "a job goes on from its last checkpoint by itself"),
    )
    groups: ClassVar[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {"variant": VARIANTS}

    variant: str = "full"
    """A named set of settings below all others: baseline, v1 to v5, full; A0 to A8 and B1 to B3 of
    the ablation study; dcgan."""

    training: MarTrainingConfig = MarTrainingConfig()
    """How to train."""

    data: MarDataConfig = MarDataConfig()
    """What to train on."""

    model: ModelConfig = ModelConfig()
    """Which networks."""

    checkpointing: CheckpointingConfig = CheckpointingConfig()
    """When checkpoints are written, and which are kept."""

    def checkpoint_policy(self) -> Mapping[str, Any]:
        """What `checkpointing` sets."""
        given = {
            "everyEpochs": self.checkpointing.save_every,
            "keepLast": self.checkpointing.keep_last,
        }
        return {key: value for key, value in given.items() if value is not None}

    def metric_names(self) -> Sequence[str]:
        """Of the output, of what came in and of what was interpolated; see scores.py."""
        regions = [f"psnr_{region}" for region in ("metal", "band", "rest")]
        scores = ["psnr", "ssim", "mae", "rmse", "mae_metal", *regions]
        prefixed = [prefix + score for prefix in ("", "input_", "li_") for score in scores]
        return (*prefixed, "gain_over_input", "gain_over_li", "bad_images")

    @property
    def needs_discriminator(self) -> bool:
        """Whether any part of the loss asks for its verdict."""
        weights = self.training.loss_weights
        return bool(weights.adversarial or weights.feature_matching)

    @model_validator(mode="after")
    def _refuse_what_cannot_work(self) -> Self:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant '{self.variant}' is none of {', '.join(VARIANTS)}")
        if self.needs_discriminator:
            self._refuse_small_patches()
        if not any(weight for _, weight in self.training.loss_weights):
            raise ValueError("training.loss_weights are all 0; write at least one above it")
        return self

    def _refuse_small_patches(self) -> None:
        network, side = self.model.discriminator, self.data.patch_size
        if network.type == "DCGAN":
            if side & (side - 1):
                raise ValueError(f"data.patch_size is {side}; DCGAN needs a power of two")
            if self.training.loss_weights.feature_matching:
                raise ValueError(
                    "training.loss_weights.feature_matching needs MultiScalePatchGAN; write 0"
                )
        elif side < SMALLEST_PATCH << (network.num_scales - 1):
            needed = SMALLEST_PATCH << (network.num_scales - 1)
            raise ValueError(
                f"data.patch_size is {side}; {network.num_scales} scales need at least {needed}"
            )
