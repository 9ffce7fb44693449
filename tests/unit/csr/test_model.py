import pytest
import torch
import torch.nn.functional as F

from trainyard_trainer.errors import ConfigurationError
from trainyard_trainer.recipes.csr.backbones import (
    ResNetTrunk,
    VitTrunk,
    build_backbone,
    load_published,
    trunk_state,
)
from trainyard_trainer.recipes.csr.interaction import Box, factor_map
from trainyard_trainer.recipes.csr.model import CSR, Correction


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small() -> CSR:
    torch.manual_seed(0)
    return CSR(4, 3, 2, backbone="small", image_size=32, projection_size=8).eval()


@pytest.mark.slow
def test_parts_have_as_many_parameters_as_published() -> None:
    network = CSR(num_concepts=14, num_classes=6, num_prototypes_per_concept=5, backbone="resnet50")
    assert count(network.concept_head) == 28_686
    assert count(network.projector) == 4_458_624
    assert network.prototypes.numel() == 8_960
    assert count(network.task_head) == 426
    assert network.concept_maps(network.backbone(torch.zeros(1, 3, 224, 224))).shape[2:] == (7, 7)


@pytest.mark.slow
def test_the_vit_is_vit_b_with_maps_of_14_by_14() -> None:
    trunk = build_backbone("medmae", 224)
    assert count(trunk) == 85_798_656
    assert trunk(torch.zeros(1, 3, 224, 224)).shape == (1, 768, 14, 14)


def test_an_image_that_cannot_be_cut_into_patches_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_backbone("vit", 100)
    assert str(caught.value) == (
        "data.image_size: 100 is no multiple of 16, which 'vit' cuts images into; write 96."
    )


def test_concept_vectors_are_averages_under_the_softmax_of_their_map() -> None:
    network, features = small(), torch.randn(2, 64, 4, 4)
    vectors = network.concept_vectors(features)
    cam = network.concept_head(features)[1, 3].flatten()
    weights = torch.exp(cam) / torch.exp(cam).sum()
    by_hand = sum(weights[at] * features[1].flatten(1)[:, at] for at in range(16))
    assert torch.allclose(vectors[1, 3], F.normalize(network.projector(by_hand), dim=0), atol=1e-6)


def test_similarities_are_cosines_of_concept_vectors_and_prototypes() -> None:
    network, features = small(), torch.randn(2, 64, 4, 4)
    found = network.concept_similarities(features)
    assert found.shape == (2, 4, 4, 2)
    vector = network.concept_vectors(features)[0, 1]
    by_hand = F.cosine_similarity(vector, network.prototypes[2, 1], dim=0)
    assert found[0, 1, 2, 1].item() == pytest.approx(by_hand.item(), abs=1e-6)


def test_a_diagnosis_reads_the_largest_similarity_of_each_map() -> None:
    network, maps = small(), torch.randn(2, 4, 2, 5, 5)
    by_hand = network.task_head(maps.amax(dim=(3, 4)).reshape(2, 8))
    assert torch.equal(network.diagnose(maps), by_hand)


def test_forward_gives_what_each_stage_learns_by() -> None:
    network, images = small(), torch.randn(2, 3, 32, 32)
    assert network(images, "concepts").shape == (2, 4)
    assert network(images, "prototypes").shape == (2, 4, 4, 2)
    assert network(images).shape == (2, 3)


def test_a_frozen_backbone_keeps_its_running_statistics() -> None:
    network = small()
    network.backbone.requires_grad_(False)
    network.train()
    before = {name: buffer.clone() for name, buffer in network.backbone.named_buffers()}
    network(torch.randn(4, 3, 32, 32), "prototypes")
    assert all(torch.equal(before[n], b) for n, b in network.backbone.named_buffers())
    assert network.projector.training


def test_batch_normalisation_can_be_left_as_it_is() -> None:
    network, images = small(), torch.randn(4, 3, 32, 32)
    network.freezes_statistics = True
    network.train()
    alone = network(images[:1], "concepts")
    assert torch.allclose(network(images, "concepts")[:1], alone, atol=1e-6)


def test_a_rejected_concept_has_no_say() -> None:
    network, maps = small(), torch.rand(1, 4, 2, 5, 5)
    rejected = network.diagnose(maps, Correction(factors=torch.ones(5, 5), rejected=(1,)))
    without = maps.clone()
    without[:, 1] = 0
    assert torch.allclose(rejected, network.diagnose(without))


def test_boxes_become_a_map_of_one_zero_and_alpha() -> None:
    found = factor_map((4, 4), [Box(0, 0, 0.5, 0.5)], [Box(0.75, 0.75, 1, 1)], alpha=0.3)
    assert torch.allclose(
        found,
        torch.tensor(
            [[1, 1, 0.3, 0.3], [1, 1, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 0]]
        ),
    )


def test_a_box_outside_the_image_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="shares of the image's sides"):
        Box(0.5, 0.2, 0.4, 0.5)


def test_published_weights_load_by_name(tmp_path) -> None:
    source = small().backbone
    file = tmp_path / "weights.pth"
    head = {"head.weight": torch.zeros(3, 3), "decoder_pred.weight": torch.zeros(2)}
    torch.save({"model": source.layers.state_dict() | head}, file)
    target = build_backbone("small", 32)
    load_published(target, file)
    pairs = zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_foreign_weights_are_refused_with_a_sentence(tmp_path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"stem.weight": torch.zeros(2)}, file)
    with pytest.raises(ConfigurationError, match=r"lacks '0\.weight'"):
        load_published(build_backbone("small", 32), file)
    with pytest.raises(ConfigurationError, match=r"no file '.*absent\.pth'"):
        load_published(build_backbone("small", 32), tmp_path / "absent.pth")


@pytest.mark.slow
def test_a_hugging_face_vit_mae_computes_the_same_in_timms_names() -> None:
    trunk = VitTrunk(32)
    torch.manual_seed(1)
    theirs = hugging_face_names(trunk.vit.state_dict())
    converted = trunk_state(theirs | {"decoder.mask_token": torch.zeros(1)})
    assert converted.keys() == trunk.vit.state_dict().keys()
    assert all(torch.equal(converted[k], v) for k, v in trunk.vit.state_dict().items())


def hugging_face_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As transformers' ViTMAEForPreTraining writes them."""
    found = {
        "vit.embeddings.cls_token": state["cls_token"],
        "vit.embeddings.position_embeddings": state["pos_embed"],
    }
    for leaf in ("weight", "bias"):
        found[f"vit.layernorm.{leaf}"] = state[f"norm.{leaf}"]
        patch = state[f"patch_embed.proj.{leaf}"]
        found[f"vit.embeddings.patch_embeddings.projection.{leaf}"] = patch
        for number in range(12):
            old, new = f"blocks.{number}", f"vit.encoder.layer.{number}"
            parts = state[f"{old}.attn.qkv.{leaf}"].chunk(3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                found[f"{new}.attention.attention.{name}.{leaf}"] = part
            found[f"{new}.attention.output.dense.{leaf}"] = state[f"{old}.attn.proj.{leaf}"]
            found[f"{new}.intermediate.dense.{leaf}"] = state[f"{old}.mlp.fc1.{leaf}"]
            found[f"{new}.output.dense.{leaf}"] = state[f"{old}.mlp.fc2.{leaf}"]
            found[f"{new}.layernorm_before.{leaf}"] = state[f"{old}.norm1.{leaf}"]
            found[f"{new}.layernorm_after.{leaf}"] = state[f"{old}.norm2.{leaf}"]
    return found


@pytest.mark.slow
def test_the_resnet_trunk_is_torchvisions_up_to_its_pooling() -> None:
    trunk = ResNetTrunk().eval()
    images = torch.randn(1, 3, 64, 64)
    pooled = trunk(images).mean(dim=(2, 3))
    assert torch.allclose(pooled, trunk.resnet(images), atol=1e-5)
