"""`python -m trainyard_trainer`: the command of a training pod, configured by its environment."""

import os
import sys

from trainyard_trainer.launcher import launch


def main() -> None:
    """Launch, and leave at once: no thread that still waits for a network delays the end."""
    code = 1
    try:
        code = launch(os.environ)
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
