"""What the loops of jobs and sweeps have in common."""

from datetime import UTC, datetime

import pytest

from trainyard_operator.looker import AnyStatus, unreadable
from trainyard_operator.status import JobStatus
from trainyard_operator.sweep.status import SweepStatus

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "phase"),
    [
        (JobStatus(), "Pending"),
        (SweepStatus(), "Pending"),
        (JobStatus(phase="Running"), "Running"),
        (SweepStatus(phase="Suspended"), "Suspended"),
    ],
)
def test_unreadable_spec_is_told_and_changes_no_phase(before: AnyStatus, phase: str) -> None:
    after = unreadable(before, "spec.method: Input should be 'grid'.", 3, NOW)
    assert after.to_dict() == before.to_dict() | {
        "phase": phase,
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "Accepted",
                "status": "False",
                "reason": "NotAccepted",
                "message": "spec.method: Input should be 'grid'.",
                "observedGeneration": 3,
                "lastTransitionTime": "2026-01-01T12:00:00Z",
            }
        ],
    }
