"""The line of a program's output that a failure tells."""

import pytest
from core_objects import exited, make_job, make_pod

from trainyard_operator.verdict import first_failure

JOB = make_job(1)
BY_TORCHRUN = """\
E1121 13:03:02.32 84 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 2)
Traceback (most recent call last):
  File "/opt/venv/bin/torchrun", line 10, in <module>
    sys.exit(main())
             ^^^^^^
  File "/opt/venv/torch/distributed/launcher/api.py", line 386, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\x20
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : 2 (pid: 7290)\x20
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================
"""
OWN = 'Traceback (most recent call last):\n  File "train.py", line 3\nValueError: bad data\n'
MISSING = "python: can't open file '/tmp/rd/missing.py': [Errno 2] No such file or directory"


@pytest.mark.parametrize(
    ("output", "told"),
    [
        pytest.param("a real word\n=====\n-----\n", ": a real word", id="frames say nothing"),
        pytest.param("*****\n", "", id="nothing but a frame"),
        pytest.param(f"{MISSING}\n{BY_TORCHRUN}", f": {MISSING}", id="torchrun's table"),
        pytest.param(f"{OWN}{BY_TORCHRUN}", ": ValueError: bad data", id="a rank's traceback"),
        pytest.param(BY_TORCHRUN, "", id="torchrun alone"),
        pytest.param(BY_TORCHRUN[200:], "", id="torchrun alone, cut by the kubelet"),
        pytest.param(f"{BY_TORCHRUN}flushed late\n", ": flushed late", id="after the table"),
    ],
)
def test_the_last_line_that_says_something_is_told(output: str, told: str):
    failure = first_failure(JOB, 1, (make_pod(JOB, 0, **exited(1, output)),), formed=True)
    assert failure
    assert failure.message == f"Pod nodules-master-0 (node gpu-0) exited with code 1{told}."
