#!/usr/bin/env python3
"""Content for the tests with real clients, and its comparison, without network and with the standard library only.

usage:
  content.py make DIR                        writes DIR/image, DIR/artifact (OCI layouts) and DIR/files
  content.py digest LAYOUT                   prints the digest of the layout's only root
  content.py same LAYOUT LAYOUT              both hold the same root and, byte for byte, all that it refers to
  content.py served REPOSITORY REF LAYOUT    the registry serves exactly the layout's bytes
  content.py lists REPOSITORY REF LAYOUT     the registry's index lists the same manifests as the layout's
  content.py refers REPOSITORY LAYOUT TYPE   the referrers of the layout's root have one of that artifact type
  content.py platforms LAYOUT                prints the digests of the image manifests

The registry is $E2E_HOST (plain HTTP), with $E2E_USER and $E2E_PASSWORD.

image is a multi-architecture image: an index of two platforms with three gzipped tar layers each, one of them
shared. artifact is a manifest with an artifactType, two random blobs and the image as its subject.
"""
import base64, gzip, hashlib, io, json, os, pathlib, sys, tarfile, urllib.request

OCI = "application/vnd.oci.image"
MANIFEST_TYPES = [f"{OCI}.index.v1+json", f"{OCI}.manifest.v1+json",
                  "application/vnd.docker.distribution.manifest.list.v2+json",
                  "application/vnd.docker.distribution.manifest.v2+json"]
ARTIFACT_TYPE = "application/vnd.example.test.v1"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    def __init__(self, path):
        self.path = pathlib.Path(path)

    def file(self, digest):
        return self.path / "blobs" / digest.replace(":", "/")

    def read(self, digest):
        data = self.file(digest).read_bytes()
        assert sha256(data) == digest, f"{self.path}: {digest} has the bytes of {sha256(data)}"
        return data

    def add(self, data, media_type, **more):
        digest = sha256(data)
        self.file(digest).parent.mkdir(parents=True, exist_ok=True)
        self.file(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data), **more}

    def add_json(self, value, media_type, **more):
        return self.add(json.dumps(value, indent=1).encode(), media_type, **more)

    def close(self, root, tag):
        root = {**root, "annotations": {"org.opencontainers.image.ref.name": tag}}
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [root]}
        (self.path / "index.json").write_text(json.dumps(index))
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def root(self):
        roots = json.loads((self.path / "index.json").read_text())["manifests"]
        # Some clients list the children in index.json, too; the root is what has a name.
        roots = [r for r in roots if "org.opencontainers.image.ref.name" in r.get("annotations", {})] or roots
        assert len({r["digest"] for r in roots}) == 1, f"{self.path} has {len(roots)} roots"
        return {k: v for k, v in roots[0].items() if k in ("mediaType", "digest", "size")}

    def walk(self):
        """All descriptors below the root, the root first."""
        todo = [self.root()]
        while todo:
            descriptor = todo.pop()
            yield descriptor
            if descriptor["mediaType"] in MANIFEST_TYPES:
                manifest = json.loads(self.read(descriptor["digest"]))
                todo += manifest.get("manifests", []) + manifest.get("layers", [])
                todo += [manifest["config"]] if "config" in manifest else []


def tar_layer(files):
    """A gzipped tar and the digest of the plain one."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), 0o644, 1_700_000_000
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(out.getvalue(), 6, mtime=0), sha256(out.getvalue())


def make(directory):
    root = pathlib.Path(directory)
    image = Layout(root / "image")
    shared = tar_layer({"shared": os.urandom(1_500_000)})
    manifests = []
    for architecture in "amd64", "arm64":
        layers = [shared, tar_layer({"small": os.urandom(100), "text": b"x" * 50_000}),
                  tar_layer({"architecture": architecture.encode(), "big": os.urandom(6_000_000)})]
        config = {"architecture": architecture, "os": "linux", "created": "2025-01-01T00:00:00Z",
                  "config": {"Cmd": ["/big"]}, "rootfs": {"type": "layers", "diff_ids": [d for _, d in layers]},
                  "history": [{"created": "2025-01-01T00:00:00Z", "created_by": "content.py"} for _ in layers]}
        manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json",
                    "config": image.add_json(config, f"{OCI}.config.v1+json"),
                    "layers": [image.add(data, f"{OCI}.layer.v1.tar+gzip") for data, _ in layers]}
        manifests.append(image.add_json(manifest, f"{OCI}.manifest.v1+json",
                                        platform={"architecture": architecture, "os": "linux"}))
    image.close(image.add_json({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests},
                               f"{OCI}.index.v1+json"), "multi")

    artifact = Layout(root / "artifact")
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "artifactType": ARTIFACT_TYPE,
                "config": artifact.add(b"{}", "application/vnd.oci.empty.v1+json"),
                "layers": [artifact.add(os.urandom(size), "application/octet-stream") for size in (17, 300_000)],
                "subject": image.root(), "annotations": {"org.example.kind": "test"}}
    artifact.close(artifact.add_json(manifest, f"{OCI}.manifest.v1+json"), "artifact")

    (root / "files").mkdir()
    for name, size in ("one.bin", 5_000_000), ("two.txt", 40):
        (root / "files" / name).write_bytes(os.urandom(size))


def get(path, accept="*/*"):
    login = base64.b64encode(f"{os.environ['E2E_USER']}:{os.environ['E2E_PASSWORD']}".encode()).decode()
    request = urllib.request.Request(f"http://{os.environ['E2E_HOST']}/v2/{path}",
                                     headers={"Accept": accept})
    request.add_unredirected_header("Authorization", f"Basic {login}")  # an object store would refuse it
    try:
        with urllib.request.urlopen(request) as response:
            return response.read(), response.headers
    except urllib.error.HTTPError as error:
        sys.exit(f"GET {request.full_url}: {error.code} {error.read()[:300]!r}")


def served(repository, ref, layout):
    layout = Layout(layout)
    for number, descriptor in enumerate(layout.walk()):
        digest, is_manifest = descriptor["digest"], descriptor["mediaType"] in MANIFEST_TYPES
        names = [f"manifests/{digest}" if is_manifest else f"blobs/{digest}"] + [f"manifests/{ref}"] * (number == 0)
        for name in names:
            data, headers = get(f"{repository}/{name}", ", ".join(MANIFEST_TYPES) if is_manifest else "*/*")
            assert data == layout.read(digest), f"{repository}/{name}: got {sha256(data)}, not {digest}"
            assert headers["Docker-Content-Digest"] in (digest, None), f"{repository}/{name}: wrong Docker-Content-Digest"
            if is_manifest:
                assert headers["Content-Type"] == descriptor["mediaType"], f"{repository}/{name}: {headers['Content-Type']}"


def same(one, two):
    one, two = Layout(one), Layout(two)
    assert one.root()["digest"] == two.root()["digest"], f"{one.root()['digest']} became {two.root()['digest']}"
    for descriptor in one.walk():
        assert one.read(descriptor["digest"]) == two.read(descriptor["digest"])


def lists(repository, ref, layout):
    layout = Layout(layout)
    wanted = {m["digest"] for m in json.loads(layout.read(layout.root()["digest"]))["manifests"]}
    index = json.loads(get(f"{repository}/manifests/{ref}", ", ".join(MANIFEST_TYPES))[0])
    assert {m["digest"] for m in index["manifests"]} == wanted, f"{repository}:{ref} lists {index['manifests']}"
    for digest in wanted:
        assert get(f"{repository}/manifests/{digest}", ", ".join(MANIFEST_TYPES))[0] == layout.read(digest), digest


def refers(repository, layout, artifact_type):
    subject = Layout(layout).root()["digest"]
    answer = json.loads(get(f"{repository}/referrers/{subject}")[0])
    found = [m for m in answer["manifests"] if m.get("artifactType") == artifact_type]
    assert found, f"{repository}: no referrer of type {artifact_type} in {answer}"
    for descriptor in found:
        manifest = get(f"{repository}/manifests/{descriptor['digest']}", descriptor["mediaType"])[0]
        assert sha256(manifest) == descriptor["digest"] and len(manifest) == descriptor["size"], descriptor


def platforms(layout):
    layout = Layout(layout)
    for descriptor in json.loads(layout.read(layout.root()["digest"]))["manifests"]:
        print(descriptor["digest"])


COMMANDS = {"make": make, "same": same, "served": served, "lists": lists, "refers": refers, "platforms": platforms,
            "digest": lambda layout: print(Layout(layout).root()["digest"])}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        print(__doc__)
        sys.exit(0 if "--help" in sys.argv else 2)
    try:
        COMMANDS[sys.argv[1]](*sys.argv[2:])
    except (AssertionError, OSError) as error:
        sys.exit(f"content.py {' '.join(sys.argv[1:])}: {error}")
