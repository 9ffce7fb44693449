"""Flags, variables and their errors."""

import pytest

from trainyard_operator.api import SecretRef, Storage
from trainyard_operator.desired import Defaults
from trainyard_operator.settings import Settings, SettingsError, read_settings

P = "TRAINYARD_OPERATOR_"


def test_nothing_set_gives_the_defaults():
    assert read_settings([], {}) == Settings()
    assert Settings().scopes == (None,)
    assert Settings().defaults == Defaults()


def test_flag_comes_before_variable_and_an_empty_variable_counts_as_unset():
    environ = {f"{P}WORKERS": "4", f"{P}HEALTH_PORT": "0", f"{P}TRAINER_IMAGE": ""}
    settings = read_settings(["--workers", "8"], environ)
    assert (settings.workers, settings.health_port) == (8, 0)
    assert settings.trainer_image == Defaults().trainer_image


def test_namespaces_are_separated_by_commas():
    assert read_settings(["--namespaces", "a, b,,a"], {}).scopes == ("a", "b")


def test_storage_of_jobs_that_name_none():
    environ = {
        f"{P}STORAGE_URI": "s3://bucket/prefix",
        f"{P}STORAGE_SECRET": "s3-credentials",
        f"{P}STORAGE_COMPAT": "legacy",
    }
    assert read_settings([], environ).defaults.storage == Storage(
        uri="s3://bucket/prefix",
        credentials_secret_ref=SecretRef(name="s3-credentials"),
        compat="legacy",
    )


def test_pull_secrets_of_jobs_are_separated_by_commas():
    secrets = read_settings(["--pull-secrets", "registry, mirror"], {}).defaults.pull_secrets
    assert secrets == ("registry", "mirror")


def test_variables_that_kubernetes_sets_for_a_service_do_no_harm():
    assert read_settings([], {f"{P}PORT": "tcp://10.0.0.1:80", f"{P}SERVICE_HOST": "10.0.0.1"})


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {f"{P}WORKERS": "many"},
            "--workers (TRAINYARD_OPERATOR_WORKERS) is 'many': input should be a valid integer, "
            "unable to parse string as an integer.",
        ),
        (
            {f"{P}HEALTH_PORT": "70000"},
            "--health-port (TRAINYARD_OPERATOR_HEALTH_PORT) is '70000': input should be less "
            "than or equal to 65535.",
        ),
        (
            {f"{P}STORAGE_COMPAT": "minio"},
            "--storage-compat (TRAINYARD_OPERATOR_STORAGE_COMPAT) is 'minio': input should be "
            "'aws', 'strict' or 'legacy'.",
        ),
        (
            {f"{P}STORAGE_URI": "gs://bucket"},
            "--storage-uri (TRAINYARD_OPERATOR_STORAGE_URI) is 'gs://bucket': write "
            "s3://bucket/prefix or file:///directory.",
        ),
        (
            {f"{P}STORAGE_ENDPOINT": "s3.example:9000"},
            "--storage-endpoint (TRAINYARD_OPERATOR_STORAGE_ENDPOINT) is 's3.example:9000': write "
            "an http or https address.",
        ),
        (
            {f"{P}PULL_SECRETS": "[registry]"},
            "--pull-secrets (TRAINYARD_OPERATOR_PULL_SECRETS) is '[registry]': write names of "
            "Secrets, separated by commas.",
        ),
        (
            {f"{P}STORAGE_REGION": "r" * 65},
            f"--storage-region (TRAINYARD_OPERATOR_STORAGE_REGION) is '{'r' * 65}': string should "
            "have at most 64 characters.",
        ),
    ],
)
def test_bad_value_is_named_with_its_flag_and_variable(environ, message):
    with pytest.raises(SettingsError) as caught:
        read_settings([], environ)
    assert str(caught.value) == message


def test_help_describes_every_setting(capsys):
    with pytest.raises(SystemExit):
        read_settings(["--help"], {})
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description.split(";")[0][:20] in text
