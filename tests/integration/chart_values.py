"""Every value of the chart set to something that is not its default."""

from typing import Any

STORAGE = {
    "uri": "s3://lung/runs",
    "endpoint": "https://s3.example",
    "region": "eu-1",
    "credentialsSecretRef": {"name": "s3-credentials"},
    "compat": "strict",
}
OTHER: dict[str, Any] = {
    "replicas": 3,
    "image.repository": "registry.example/operator",
    "image.tag": "2",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "registry"}],
    "trainerImage.repository": "registry.example/trainer",
    "trainerImage.tag": "2",
    "trainerImage.pullSecrets": [{"name": "registry"}, {"name": "mirror"}],
    **{f"storage.{key}": value for key, value in STORAGE.items() if isinstance(value, str)},
    "storage.credentialsSecretRef.name": "s3-credentials",
    "watchNamespace": "research",
    "extraArgs": ["--workers=32"],
    "logFormat": "json",
    "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "priorityClassName": "system-cluster-critical",
    "labels": {"team": "platform"},
    "annotations": {"owner": "platform"},
    "podLabels": {"cost": "shared"},
    "podAnnotations": {"sidecar.example/inject": "false"},
    "podMonitor.enabled": True,
    "podMonitor.interval": "10s",
    "podMonitor.labels": {"release": "prometheus"},
    "prometheusRule.enabled": True,
    "prometheusRule.labels": {"release": "prometheus"},
    "dashboard.enabled": True,
    "dashboard.labels": {"dashboards": "yes"},
    "networkPolicy.enabled": True,
    "networkPolicy.from": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
    "crds.enabled": False,
    "aggregateRoles.enabled": False,
    "storagePolicy.enabled": False,
}
"""By dotted key."""
NEEDED = {
    "storage": {"storage.uri": "s3://lung/runs"},
    "podMonitor": {"podMonitor.enabled": True},
    "prometheusRule": {"prometheusRule.enabled": True},
    "dashboard": {"dashboard.enabled": True},
    "networkPolicy": {"networkPolicy.enabled": True},
}
"""Values without which the others of their group have no effect."""
