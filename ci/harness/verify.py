"""Does a registry still hold what it has acknowledged? Findings go to the ledger, each as lost or as corrupt."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from harness.client import Disconnected, Unexpected, scopes_of
from harness.content import digest_of


def judge(ledger, key, answer, got, want, must_exist=True):
    """Judges a GET: `got` and `want` are `(digest, size)`. True if the right bytes came; `Unexpected` if the answer
    says neither that the thing is there nor that it is not. `must_exist` may be a function, which is asked afterwards:
    a client may have deleted the thing meanwhile."""
    if answer.status == 200:
        if got == want:
            return True
        ledger.note_corrupt(key, f"{key}: 200 with {got}, expected {want}")
    elif answer.status == 404:
        if must_exist() if callable(must_exist) else must_exist:
            ledger.note_lost(key, f"{key}: 404 although it was acknowledged")
    else:
        raise Unexpected(f"GET {key.split()[0]}", answer)
    return False


def verify_blob(ledger, client, repo, digest, size, must_exist=True):
    algorithm = digest.split(":")[0]
    answer, got, length = client.download(
        f"/v2/{repo}/blobs/{digest}", scopes_of(repo), algorithm=algorithm)
    return judge(ledger, f"blob {repo}@{digest}", answer, (got, length), (digest, size), must_exist)


def verify_manifest(ledger, client, push, reference):
    answer = client.request("GET", f"/v2/{push.repo}/manifests/{reference}", scopes_of(push.repo),
                            headers={"Accept": "*/*, application/vnd.oci.image.manifest.v1+json"})
    key = f"manifest {push.repo}:{push.tag}" if reference == push.tag else f"manifest {push.repo}@{push.digest}"
    good = judge(ledger, key, answer, (digest_of(answer.body), len(answer.body)), (push.digest, push.size),
                 lambda: ledger.must_exist(push))
    if good and answer.header("Docker-Content-Digest") not in (None, push.digest):
        ledger.note_corrupt(key, f"{key}: Docker-Content-Digest {answer.header('Docker-Content-Digest')}")
    return good


def verify_push(ledger, client, push):
    good = verify_manifest(ledger, client, push, push.tag) and verify_manifest(ledger, client, push, push.digest)
    must_exist = partial(ledger.must_exist, push)
    return all([verify_blob(ledger, client, push.repo, *blob, must_exist) for blob in push.blobs]) and good


def verify_all(ledger, server, pushes, loose=(), workers=3):
    """Verifies with nobody killing the server meanwhile: everything must be answered. Returns how many were good."""

    def slice_of(index):
        client, good = server.client(), 0
        try:
            for push in pushes[index::workers]:
                good += _answered(ledger, f"push {push.repo}:{push.tag}", lambda: verify_push(ledger, client, push))
            for repo, blob in loose[index::workers]:
                good += _answered(ledger, f"blob {repo}@{blob.digest}",
                                  lambda: verify_blob(ledger, client, repo, blob.digest, blob.size))
        finally:
            client.close()
        return good

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(slice_of, range(workers)))


def _answered(ledger, key, verify, tries=5):
    """A connection that was kept idle may be closed by the server, and a database that was killed may still be
    recovering: ask again before calling it lost."""
    for _ in range(tries):
        try:
            return verify()
        except (Disconnected, Unexpected) as error:
            reason = error
            time.sleep(0.2)
    ledger.note_lost(key, f"{key}: no answer in {tries} tries with nobody killing the server: {reason}")
    return False
