"""Specs that the API server takes and this operator cannot run."""

import pytest
from core_objects import RECIPE, make_job
from core_scenes import (
    FAULTY,
    decide,
)

from trainyard_operator.status import JobStatus

REFUSALS = {
    "no storage": (
        FAULTY,
        "spec.storage: a recipe needs somewhere for its checkpoints; set storage.uri, such as "
        "s3://bucket/prefix.",
    ),
    "template": (make_job(template={"spec": []}), "spec.template.spec must be keys and values."),
    "containers": (
        make_job(template={"spec": {"containers": [{"image": "a"}]}}),
        "spec.template.spec.containers[0] needs a name.",
    ),
    "env": (
        make_job(template={"spec": {"containers": [{"name": "pytorch", "env": ["A=1"]}]}}),
        "spec.template.spec.containers[0].env[0] needs a name.",
    ),
    "volumes": (
        make_job(template={"spec": {"volumes": None}}),
        "spec.template.spec.volumes must be a list.",
    ),
    "container twice": (
        make_job(template={"spec": {"containers": [{"name": "pytorch"}, {"name": "pytorch"}]}}),
        "spec.template.spec.containers[1]: name 'pytorch' is there twice; merge the two.",
    ),
    "resources": (
        make_job(template={"spec": {"containers": [{"name": "pytorch", "resources": "many"}]}}),
        "spec.template.spec.containers[0].resources must be keys and values.",
    ),
    "affinity": (
        make_job(template={"spec": {"affinity": {"nodeAffinity": ["gpu-1"]}}}),
        "spec.template.spec.affinity.nodeAffinity must be keys and values.",
    ),
    "tolerations": (
        make_job(template={"spec": {"tolerations": ["gpu"]}}),
        "spec.template.spec.tolerations must be a list of keys and values.",
    ),
    "finalizers": (
        make_job(template={"metadata": {"finalizers": ["example/never"]}}),
        "spec.template.metadata.finalizers would keep pods from going, and with them the next "
        "attempt from beginning; drop the field.",
    ),
    "5,000 labels": (
        make_job(template={"metadata": {"labels": {f"label-{n}": "x" for n in range(5000)}}}),
        "spec.template is longer than 65536 characters; keep data in a ConfigMap or a volume.",
    ),
    "a long configuration": (
        make_job(**RECIPE, config={"files": ["x" * 100] * 2000}),
        "spec.config: config, overrides and checkpoint are longer than 120000 characters; keep "
        "lists in a file of the dataset.",
    ),
    "labels": (
        make_job(template={"metadata": {"labels": ["a"]}}),
        "spec.template.metadata.labels must be keys and values.",
    ),
}


@pytest.mark.parametrize(("job", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_a_spec_that_cannot_run_is_refused_in_a_sentence(job, sentence):
    decision = decide(JobStatus(), job=job)
    accepted = decision.status.condition("Accepted")
    assert accepted
    assert (accepted.status, accepted.reason, accepted.message) == (
        "False",
        "NotAccepted",
        sentence,
    )
    assert [event.message for event in decision.events] == [sentence]
    assert decision.wake_at is None


def test_labels_may_have_any_name():
    template = {"metadata": {"labels": {"env": "prod"}}, "spec": {"nodeSelector": {"env": "gpu"}}}
    assert decide(JobStatus(), job=make_job(template=template)).status.phase == "Starting"
