"""Training without torch's compiler in memory, and compiling all the same when asked to.

Each case needs a process in which torch._dynamo has not been imported.
"""

import subprocess
import sys

import pytest

TRAIN = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from trainyard_trainer import compiler_stub
compiler_stub.install()
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
inner = torch.nn.Linear(4, 4)
model = DistributedDataParallel(inner)
optimizers = [one(model.parameters(), lr=0.1) for one in (torch.optim.SGD, torch.optim.AdamW)]
def step():
    for optimizer in optimizers:
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
step()
dist.new_group(backend="gloo")
import inspect
inspect.getmodule(step)
"""
IS_LOADED = "print('torch._dynamo.eval_frame' in sys.modules)\n"
COMPILE = """
import torch._dynamo.config
from torch._dynamo.utils import counters
compiled = torch.compile(inner, backend="eager")
compiled(torch.ones(2, 4))
print(counters["frames"]["ok"], type(torch._dynamo).__name__)
print(torch._dynamo is sys.modules["torch._dynamo"], counters is torch._dynamo.utils.counters)
step()
torch._dynamo.config.suppress_errors = True
torch._dynamo.reset()
"""


def run(code: str) -> list[str]:
    path = f"import sys; sys.path[:] = {sys.path!r}\n"
    return subprocess.check_output([sys.executable, "-c", path + code], text=True).splitlines()


@pytest.mark.slow
def test_training_loads_no_compiler() -> None:
    assert run(TRAIN + IS_LOADED) == ["False"]


@pytest.mark.slow
def test_compiling_loads_the_compiler_once() -> None:
    assert run(TRAIN + COMPILE + IS_LOADED) == ["1 module", "True True", "True"]
