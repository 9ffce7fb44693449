"""Delete what the operator never loads of the Kubernetes client: 70 MB of generated Python.

The client holds a file for each kind and each group of the API, once for threads and once for
asyncio. The operator speaks to the API server with plain dicts, and loads the few of these files
that its imports ask for. Run where the image is built, this also leaves the byte code of all that
the operator loads, with what Optuna's first proposal needs, and of nothing else.
"""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

FOLDERS = ("client/api", "client/models", "aio/client/api", "aio/client/models")
"""Of the package `kubernetes`; each file there stands for itself."""
LOADED = ("trainyard_operator.__main__", "trainyard_operator.sweep.bayes", "optuna.samplers")


def unused_files(package: Path, loaded: Iterable[str]) -> list[Path]:
    """Files of these folders that were not imported. loaded: their paths; raises ValueError where
    the package has no such folder, since then it is not the one that this was written for."""
    kept = {Path(path) for path in loaded}
    if absent := [name for name in FOLDERS if not (package / name).is_dir()]:
        raise ValueError(f"{package} has no folder {absent[0]}: correct FOLDERS in {__file__}.")
    files = (path for name in FOLDERS for path in sorted((package / name).glob("*.py")))
    return [path for path in files if path not in kept and path.name != "__init__.py"]


def main() -> None:
    """Delete them from the environment that runs this."""
    for name in LOADED:
        importlib.import_module(name)
    loaded = [file for module in sys.modules.values() if (file := getattr(module, "__file__", ""))]
    package = Path(sys.modules["kubernetes"].__file__ or "").parent
    files = unused_files(package, loaded)
    size = sum(path.stat().st_size for path in files)
    for path in files:
        path.unlink()
    print(f"deleted {len(files)} files of the Kubernetes client, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
