"""Helm's post-renderer: the operator's code comes from volumes, as on the whole test cluster.

The images of the test cluster hold only Python.
"""

import sys

import yaml
from demo.install import on_test_cluster

if __name__ == "__main__":
    objects = (item for item in yaml.safe_load_all(sys.stdin) if item)
    yaml.safe_dump_all(map(on_test_cluster, objects), sys.stdout)
