"""`helm test`: HOST REPLICAS. Ends with 0 once all replicas are ready and one of them acts."""

import re
import socket
import sys
import time
import urllib.request

PORT = 8080
POLL_SECONDS = 2


def read(address: str, path: str) -> str:
    """What a replica answers; raises OSError for any status but 200."""
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{PORT}{path}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def problem(host: str, replicas: int) -> str:
    """Why the release does not work yet; empty if it does."""
    try:
        found = socket.getaddrinfo(host, PORT, proto=socket.IPPROTO_TCP)
        addresses = sorted({str(entry[4][0]) for entry in found})
        for address in addresses:
            read(address, "/readyz")
        pages = [read(address, "/metrics") for address in addresses]
    except OSError as error:
        return f"{host}: {error}"
    acting = sum("1.0" in re.findall(r"^trainyard_leader (.*)$", page, re.M) for page in pages)
    if len(addresses) != replicas:
        return f"{host}: {len(addresses)} of {replicas} replicas have an address"
    return "" if acting == 1 else f"{host}: {acting} replicas act, and not one"


if __name__ == "__main__":
    while text := problem(sys.argv[1], int(sys.argv[2])):
        print(text, flush=True)
        time.sleep(POLL_SECONDS)
    print(f"{sys.argv[1]}: {sys.argv[2]} replicas are ready, one acts")
