"""The operator starts before its CRD is applied."""

import time
from pathlib import Path

from integration.conftest import (
    install_crd,
    install_rights,
    make_operator,
    running_control_plane,
    write_kubeconfig,
)
from patience import WAIT_SECONDS


def test_operator_says_what_is_missing_and_goes_on_when_it_is_there(tmp_path: Path) -> None:
    with running_control_plane() as api:
        install_rights(api)
        operator = make_operator(write_kubeconfig(api, tmp_path / "kubeconfig"), tmp_path)
        operator.launch()
        hint, deadline = "Jobs and sweeps cannot be listed: ", time.monotonic() + WAIT_SECONDS
        while hint not in (text := operator.log.read_text()):
            assert operator.daemon is not None
            operator.daemon.require_alive()
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
        assert "Is manifests/crd applied?" in text
        assert operator.get("/healthz").ok
        assert "jobs are not listed yet" in operator.get("/readyz").text
        install_crd(api)
        operator.wait_until_ready()
        operator.kill()
