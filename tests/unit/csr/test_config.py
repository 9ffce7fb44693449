import pytest

from trainyard_trainer.config import build_config, read_layers
from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.csr.config import Config

GUIDE_RUNS = {
    "four processes": ["batch_size=32", "lr=2e-4", "exp_name=csr_4gpu_bs32"],
    "own paths": [
        "train_csv=/data/vindr/train.csv",
        "test_csv=/data/vindr/test.csv",
        "train_dir=/data/vindr/images/train/",
        "test_dir=/data/vindr/images/test/",
        "exp_name=vindr_exp",
    ],
    "resnet50": [
        "backbone_type=resnet50",
        "model_name=resnet50",
        "num_prototypes=10",
        "exp_name=csr_resnet50",
    ],
    "fine-tuning": [
        "lr=5e-5",
        "epochs_stage1=5",
        "epochs_stage2=5",
        "epochs_stage3=20",
        "exp_name=csr_finetune",
    ],
}


def test_defaults_are_the_guides() -> None:
    config = Config()
    training, model = config.training, config.model
    stages = (training.epochs_stage1, training.epochs_stage2, training.epochs_stage3)
    assert stages == (10, 10, 10)
    assert (training.learning_rate, config.batch_size(4)) == (1e-4, 64)
    assert (model.backbone, model.num_prototypes, config.exp_name) == ("medmae", 5, "csr_exp")


@pytest.mark.parametrize("overrides", GUIDE_RUNS.values(), ids=GUIDE_RUNS)
def test_the_guides_example_runs_are_read_as_written(overrides) -> None:
    assert build_config(Config, [], overrides).exp_name == overrides[-1].partition("=")[2]


def test_the_guides_flags_become_our_keys() -> None:
    config = build_config(Config, [], [word for run in GUIDE_RUNS.values() for word in run])
    assert str(config.data.train_csv) == "/data/vindr/train.csv"
    assert (config.model.backbone, config.model.num_prototypes) == ("resnet50", 10)
    assert config.training.epochs_stage3 == 20
    assert config.batch_size(4) == 128


def test_a_models_name_is_a_file_only_where_it_is_a_path() -> None:
    named = build_config(Config, [], ["model_name=facebook/vit-mae-base"])
    assert named.model.weights_file is None
    pathed = build_config(Config, [], ["model_name=/weights/medmae.pth"])
    assert str(pathed.model.weights_file) == "/weights/medmae.pth"


def test_each_alias_is_told() -> None:
    (layer,) = read_layers(Config, [], ["batch_size=8"])
    assert layer.notices == [
        "spec.overrides.batch_size: read as training.batch_size_per_process: 8."
    ]


def test_a_global_batch_takes_the_place_of_one_a_process() -> None:
    chosen = ["training.batch_size=24", "training.batch_size_per_process=null"]
    assert build_config(Config, [], chosen).batch_size(4) == 24
    with pytest.raises(ConfigurationError, match="24 says nothing while batch_size_per_process is"):
        build_config(Config, [], ["training.batch_size=24"])
