"""SeaweedFS as an S3 server that checks signatures: master, volume server, filer and gateway in one process."""

import json
from pathlib import Path

from harness import processes
from harness.cloud import rest
from harness.processes import Child

REGION = "us-east-1"
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "KONTORTESTACCESSKEY0", "secret-access-key-of-the-cloud"
PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
         "s3.port", "s3.port.grpc")

# A bucket is a collection with volumes of its own; without this each takes seven at once.
GROWTH = "[master.volume_growth]\ncopy_1 = 2\n"


class Seaweed:
    def __init__(self, directory, ports, environment):
        self.dir, self.weed = Path(directory), environment / "bin" / "weed"
        self.ports = dict(zip(PORTS, ports))
        self.url = f"http://127.0.0.1:{self.ports['s3.port']}"
        self.child = None

    def start(self):
        (self.dir / "data").mkdir(parents=True)
        (self.dir / "master.toml").write_text(GROWTH)
        (self.dir / "s3.json").write_text(json.dumps({"identities": [{
            "name": "registry", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            "credentials": [{"accessKey": ACCESS_KEY_ID, "secretKey": SECRET_ACCESS_KEY}]}]}))
        self.child = Child("weed", [
            self.weed, "-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.dir / 'data'}",
            *(f"-{name}={port}" for name, port in self.ports.items()), "-volume.max=1000",
            "-master.volumeSizeLimitMB=1024", "-volume.preStopSeconds=0", "-master.telemetry=false",
            "-filer.localSocket=" + str(self.dir / "filer.sock"), "-s3", f"-s3.config={self.dir / 's3.json'}",
            "-s3.localSocket=" + str(self.dir / "s3.sock"), "-s3.port.iceberg=0", "-s3.port.lance=0",
            # As Amazon does it: no bucket appears by itself, and none goes away with its content.
            "-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false",
        ], log=self.dir / "log", cwd=self.dir, session=True)
        if not processes.wait_until(self._ready, 60, 0.05):
            raise RuntimeError(f"SeaweedFS did not start:\n{self.child.log_tail()}")

    def sockets(self):
        """weed puts these there whatever it is told, and leaves them when it is killed."""
        return [f"/tmp/seaweedfs-{name.split('.')[0]}-grpc-{port}.sock"
                for name, port in self.ports.items() if name.endswith(".grpc")]

    def _ready(self):
        if not self.child.running():
            raise RuntimeError(f"weed ended:\n{self.child.log_tail()}")
        try:
            return rest.call("GET", self.url).status in (200, 403)
        except OSError:
            return False
