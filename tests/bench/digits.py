"""The digits in the two shapes that the benchmarks want: a folder of images, and tensors."""

import subprocess
import sys
from pathlib import Path

IMAGE_SIZE = 32


def write_folder(folder: Path) -> None:
    """As `trainyard data digits` writes it; in a process of its own, for scikit-learn is large."""
    if not folder.is_dir():
        command = [sys.executable, "-m", "trainyard_trainer.digits", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def images_as_tensors(file: Path) -> None:
    """The training images of `file`'s neighbour `data`, decoded beforehand."""
    code = (
        "import sys, torch; from pathlib import Path;"
        "from trainyard_trainer.recipes.classification.data import ImageBatches, find_images;"
        "split = find_images(Path(sys.argv[1]), 0).splits['train'];"
        f"samples = ImageBatches(split, {IMAGE_SIZE}, 2**30);"
        "torch.save(samples.batch(torch.arange(len(samples)), 0), sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(file.with_name("data")), str(file)]
    subprocess.run(command, check=True)
