"""Made-up blobs and images that can be made again from a few numbers.

A ledger of thousands of acknowledged pushes must not hold their bytes, and making fresh random bytes for each would be
the bottleneck. So a blob is sixteen unique bytes in front of a window into one pool of random bytes: incompressible,
never the same twice, made at the speed of a copy, and made again from `(serial, offset, size)` to check a range.
"""

import hashlib
import itertools
import json
import math
import random
import threading
import zlib
from dataclasses import dataclass

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def digest_of(data, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob by its recipe; `Maker.content` cooks it."""

    digest: str
    size: int
    serial: int
    offset: int  # into the pool; -1 for an image configuration


@dataclass(frozen=True, slots=True)
class Image:
    manifest: bytes
    digest: str
    config: Blob
    layers: tuple

    @property
    def blobs(self):
        return (self.config, *self.layers)


class Maker:
    """Makes content from a seed. Safe to share among threads."""

    POOL = 8 * MIB

    def __init__(self, seed, largest=4 * MIB):
        generator = random.Random(seed)
        self.salt = generator.randbytes(8)
        self.largest = largest
        self.pool = generator.randbytes(self.POOL)
        self.serials = itertools.count(1)
        self.lock = threading.Lock()

    def _serial(self):
        with self.lock:
            return next(self.serials)

    def content(self, blob):
        if blob.offset < 0:
            return self._config_bytes(blob.serial)
        head = self.salt + blob.serial.to_bytes(8, "big")
        return (head + self.pool[blob.offset : blob.offset + blob.size - 16])[: blob.size]

    def _config_bytes(self, serial):
        label = f"{self.salt.hex()}-{serial}"
        return json.dumps({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
            "config": {"Labels": {"serial": label}},
        }).encode()

    def _made(self, serial, offset, size, algorithm="sha256"):
        recipe = Blob("", size, serial, offset)
        return Blob(digest_of(self.content(recipe), algorithm), size, serial, offset)

    def blob(self, rng, smallest=1 * KIB, algorithm="sha256"):
        """Sizes spread evenly over the orders of magnitude: many small ones, some of the largest size."""
        size = int(math.exp(rng.uniform(math.log(smallest), math.log(self.largest))))
        return self.blob_of(size, rng, algorithm)

    def blob_of(self, size, rng, algorithm="sha256"):
        if size > self.POOL:
            raise ValueError("a blob is larger than the pool")
        return self._made(self._serial(), rng.randrange(self.POOL - size + 1), size, algorithm)

    def config(self):
        serial = self._serial()
        return self._made(serial, -1, len(self._config_bytes(serial)))


def image_of(config, layers):
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": descriptor(config, CONFIG_TYPE),
        "layers": [descriptor(layer, LAYER_TYPE) for layer in layers],
    }).encode()
    return Image(manifest, digest_of(manifest), config, tuple(layers))


def descriptor(blob, media_type):
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def gzipped(data):
    """A valid gzip stream that stores its content: cheap to make, and skopeo pushes it as it is."""
    packer = zlib.compressobj(0, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def write_oci_layout(directory, layers):
    """An OCI layout directory with one image of these layers (uncompressed bytes), for skopeo to push.
    Returns `(manifest digest, [(blob digest, size), ...])` as they will stand in the registry."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data):
        digest = digest_of(data)
        (blobs / digest.split(":")[1]).write_bytes(data)
        return digest, len(data)

    packed = [put(gzipped(layer)) for layer in layers]
    config = put(json.dumps({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
    }).encode())
    manifest = put(json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": config[0], "size": config[1]},
        "layers": [{"mediaType": LAYER_TYPE, "digest": d, "size": s} for d, s in packed],
    }).encode())
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (directory / "index.json").write_text(json.dumps({
        "schemaVersion": 2,
        "manifests": [{"mediaType": MANIFEST_TYPE, "digest": manifest[0], "size": manifest[1]}],
    }))
    return manifest[0], [config, *packed]
