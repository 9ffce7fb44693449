"""Bad input: one sentence where the person looks, no traceback, no endless restart, mendable."""

from collections.abc import Iterator
from typing import Any

import pytest
from e2e.kube import Namespace

SHORT = {"training": {"epochs": 1}}


@pytest.fixture
def make_job(make_job: Any, few_digits: str) -> Any:
    """Digits jobs that are over soon."""
    dataset = {"uri": few_digits, "mountPath": "/data"}
    return lambda name, **spec: make_job(name, **{"dataset": dataset, **spec})


@pytest.fixture
def expect_failure(namespace: Namespace) -> Iterator[Any]:
    """Applies a job that cannot run as written; returns the sentence of its Failed condition."""

    def expect(job: dict[str, Any]) -> str:
        name = job["metadata"]["name"]
        namespace.apply(job)
        namespace.kubectl("wait", "--for=condition=Failed", f"tj/{name}", "--timeout=90s")
        status, condition = namespace.status(name), namespace.condition(name, "Failed")
        assert (status["attempt"], status["phase"]) == (1, "Failed"), "it must not be tried again"
        assert condition["reason"] == "ConfigurationError"
        # The other pod may not have begun, and has no log then.
        selector = f"trainyard.dev/job={name}"
        logs = namespace.kubectl("logs", "-l", selector, "--tail=-1", "--ignore-errors")
        assert "Traceback" not in logs
        sentence: str = condition["message"]
        return sentence

    yield expect
    namespace.kubectl("delete", "tj", "--all", "--wait=false")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"nodes": 0},
            "spec.nodes: Invalid value: 0: spec.nodes in body should be greater than or equal to 1",
        ),
        (
            {"command": ["python3", "train.py"]},
            "set exactly one of recipe (a recipe of the "
            "trainer) and command (any PyTorch program in "
            "image).",
        ),
        ({"nodez": 2}, 'unknown field "spec.nodez"'),
        (
            {"storage": {"uri": "bucket/prefix"}},
            "uri must start with s3:// or file://, such as s3://bucket/prefix.",
        ),
        ({"processesPerNode": "all"}, "processesPerNode must be auto or a number from 1 to 64."),
    ],
    ids=["no nodes", "recipe and command", "misspelt field", "uri without scheme", "not a number"],
)
def test_kubectl_apply_refuses_with_a_sentence(
    namespace: Namespace, make_job: Any, change: dict[str, Any], sentence: str
) -> None:
    refusal = namespace.refusal(make_job("refused", **change))
    assert sentence in refusal
    assert "not found" in namespace.kubectl("get", "tj", "refused", check=False)


def test_unknown_recipe(expect_failure: Any, make_job: Any) -> None:
    job = make_job("unknown-recipe", recipe="clasification")
    assert expect_failure(job) == (
        "spec.recipe: unknown recipe 'clasification'; did you mean 'classification'?"
    )


def test_misspelt_key_of_the_configuration_is_mended_by_an_edit(
    expect_failure: Any, make_job: Any, namespace: Namespace
) -> None:
    config = {"training": {"learning_rte": 0.01, "epochs": 1}}
    job = make_job("misspelt", config=config)
    assert expect_failure(job) == (
        "spec.config.training: unknown key 'learning_rte'; did you mean 'learning_rate'?"
    )
    namespace.apply(make_job("misspelt", config=SHORT))
    status = namespace.wait_until(
        "misspelt", lambda s: s.get("phase") == "Succeeded" or s["attempt"] == 2, "mended"
    )
    assert status["attempt"] == 2
    namespace.wait_for_phase("misspelt", "Succeeded")


def test_bucket_that_does_not_exist(expect_failure: Any, make_job: Any, cluster: Any) -> None:
    storage = {
        "uri": "s3://lung-trian/runs",
        "endpoint": cluster.s3_endpoint,
        "credentialsSecretRef": {"name": "s3-credentials"},
    }
    assert expect_failure(make_job("no-bucket", storage=storage)) == (
        f"spec.storage.uri: {cluster.s3_endpoint} has no bucket 'lung-trian'; create it, or "
        "correct the URI or endpoint."
    )


def test_wrong_s3_key(
    expect_failure: Any, make_job: Any, cluster: Any, namespace: Namespace
) -> None:
    secret = "wrongwrongwrongwrong"
    namespace.kubectl(
        "create",
        "secret",
        "generic",
        "wrong-key",
        "--from-literal=AWS_ACCESS_KEY_ID=nobody",
        f"--from-literal=AWS_SECRET_ACCESS_KEY={secret}",
    )
    storage = {
        "uri": "s3://trainyard/runs",
        "endpoint": cluster.s3_endpoint,
        "credentialsSecretRef": {"name": "wrong-key"},
    }
    sentence = expect_failure(make_job("wrong-key", storage=storage))
    assert sentence.startswith("spec.storage")
    assert cluster.s3_endpoint in sentence
    assert "refuse" in sentence
    assert secret not in namespace.explain("wrong-key")


def test_dataset_that_is_not_there(expect_failure: Any, make_job: Any) -> None:
    job = make_job("no-data", dataset={"uri": "s3://trainyard/datasets/digts"})
    assert expect_failure(job) == (
        "spec.dataset.uri: nothing lies under 's3://trainyard/datasets/digts'; upload the data "
        "there, or correct the URI."
    )


def test_missing_secret_is_named_and_the_job_goes_on_once_it_is_there(
    namespace: Namespace, make_job: Any, cluster: Any
) -> None:
    storage = {
        "uri": "s3://trainyard/runs",
        "endpoint": cluster.s3_endpoint,
        "credentialsSecretRef": {"name": "forgotten"},
    }
    namespace.apply(make_job("no-secret", storage=storage, config=SHORT))
    expected = (
        f"spec.storage.credentialsSecretRef: no Secret 'forgotten' in namespace "
        f"'{namespace.name}'; create it, or drop the field to use the pod's identity."
    )
    namespace.wait_until(
        "no-secret",
        lambda s: namespace.condition("no-secret", "Running").get("message") == expected,
        "told that the Secret is missing",
        40,
    )
    values = [
        f"--from-literal={key}={cluster.environment[key]}"
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    ]
    namespace.kubectl("create", "secret", "generic", "forgotten", *values)
    status = namespace.wait_for_phase("no-secret", "Succeeded")
    assert status["attempt"] == 1


def test_image_that_cannot_be_pulled_is_mended_by_an_edit(
    namespace: Namespace, make_job: Any
) -> None:
    good = make_job("no-image", config=SHORT)
    bad = make_job("no-image", config=SHORT, image="localhost/no-such-trainer:1.3")
    for container in (bad["spec"].get("template") or {"spec": {}})["spec"].get("containers", []):
        container.pop("image", None)
        container.pop("imagePullPolicy", None)
    namespace.apply(bad)

    def is_told(_: dict[str, Any]) -> bool:
        condition = namespace.condition("no-image", "Running")
        return condition.get("reason") == "ImagePull"

    namespace.wait_until("no-image", is_told, "told that the image cannot be pulled")
    sentence = namespace.condition("no-image", "Running")["message"]
    assert "cannot pull 'localhost/no-such-trainer:1.3'" in sentence
    assert sentence.endswith("Correct spec.image; retrying for 900 s.")
    assert "Reason" in namespace.kubectl("get", "tj", "no-image", "-o", "wide").title()
    namespace.apply(good)
    namespace.wait_for_phase("no-image", "Succeeded")
