"""Writes <directory>/<kind>.ring.gz for one device on one server: `make_rings.py DIRECTORY KIND=PORT...`.

Run by the Python of the environment that has Swift; the same as three times `swift-ring-builder`, in one process.

This folder is not `cloud`, since a file swift.py beside this one would be found instead of Swift.
"""

import sys

from swift.common.ring import RingBuilder

PART_POWER, REPLICAS = 4, 1

for pair in sys.argv[2:]:
    kind, port = pair.split("=")
    address = {"ip": "127.0.0.1", "port": int(port), "replication_ip": "127.0.0.1", "replication_port": int(port)}
    builder = RingBuilder(PART_POWER, REPLICAS, 0)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "device": "d1", "weight": 1.0, "meta": "", **address})
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
