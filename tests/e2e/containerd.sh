#!/usr/bin/env bash
# ctr with a containerd (Debian) of its own, in a temporary root and state directory. Needs root.
# usage: tests/e2e/containerd.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin containerd "$@"
[ "$(id -u)" = 0 ] || not_run "containerd needs root"
needs debian containerd:containerd ctr:containerd

# Isolated: what one namespace has must be fetched again in another one.
cat >config.toml <<TOML
version = 2
root = "$CI_TMP/containerd-root"
state = "$CI_TMP/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$CI_TMP/containerd.sock"
[ttrpc]
  address = "$CI_TMP/containerd.ttrpc"
[plugins."io.containerd.metadata.v1.bolt"]
  content_sharing_policy = "isolated"
[plugins."io.containerd.internal.v1.opt"]
  path = "$CI_TMP/opt"
TOML
containerd -c config.toml >"$CI_OUT/containerd.log" 2>&1 &
started $!
c() { ctr -a "$CI_TMP/containerd.sock" "$@"; }
wait_for 20 c version || not_run "containerd does not start here, see $CI_OUT/containerd.log"

user() { echo --plain-http --user "$E2E_USER:${1:-$E2E_PASSWORD}"; }
export_to() { c -n "$1" images export --all-platforms --skip-manifest-json "$3.tar" "$2" && mkdir "$3" && tar -xf "$3.tar" -C "$3"; }

tar -cf image.tar -C "$IMAGE" .
tar -cf artifact.tar -C "$ARTIFACT" .
check "import the multi-architecture image" c images import --all-platforms --no-unpack --base-name "$REGISTRY" image.tar
# shellcheck disable=SC2046
{
  refused "push with a wrong password" c images push $(user wrong) "$REGISTRY:multi"
  check "push" c images push $(user) "$REGISTRY:multi"
  check "the registry has its bytes" content served "$REPO" multi "$IMAGE"
  refused "pull with a wrong password" c -n two images pull $(user wrong) "$REGISTRY:multi"
  check "pull all platforms into an isolated namespace, and unpack" \
    c -n two images pull --snapshotter native --all-platforms $(user) "$REGISTRY:multi"
  check "export it" export_to two "$REGISTRY:multi" exported
  check "the same bytes came back" content same "$IMAGE" exported
  check "fetch one platform's content by digest" \
    c -n three content fetch $(user) "$REGISTRY@$(content platforms "$IMAGE" | head -n 1)"

  # containerd has noted where the blobs came from, and mounts them.
  check "tag for another repository" c -n two images tag "$REGISTRY:multi" "$REGISTRY-copy:multi"
  check "push to it" c -n two images push $(user) "$REGISTRY-copy:multi"
  check "the copy has the same bytes" content served "$REPO-copy" multi "$IMAGE"

  check "import an artifact with a subject" c images import --no-unpack --base-name "$REGISTRY" artifact.tar
  check "push it" c images push $(user) "$REGISTRY:artifact"
  check "the registry has its bytes" content served "$REPO" artifact "$ARTIFACT"
  check "it refers to the image" content refers "$REPO" "$IMAGE" "$ARTIFACT_TYPE"
  check "fetch it" c -n two content fetch $(user) "$REGISTRY:artifact"

  refused "anonymous pull of a private repository" c -n three images pull --snapshotter native --plain-http "$REGISTRY:multi"
  check "push to a public repository" c images push $(user) "$E2E_HOST/$PUBLIC:multi" "$REGISTRY:multi"
}
check "anonymous pull of a public repository" c -n three images pull --snapshotter native --all-platforms --plain-http "$E2E_HOST/$PUBLIC:multi"
check "export it" export_to three "$E2E_HOST/$PUBLIC:multi" public
check "the same bytes came back" content same "$IMAGE" public
finish
