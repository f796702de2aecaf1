#!/usr/bin/env bash
# crane (go-containerregistry) against the registry that tests/e2e/run started. usage: tests/e2e/crane.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin crane "$@"
needs go crane github.com/google/go-containerregistry/cmd/crane v0.22.1

login() { crane auth login -u "$E2E_USER" --password-stdin "$E2E_HOST" <<<"$1"; }
anonymously() { DOCKER_CONFIG=$CI_TMP/none HOME=$CI_TMP/none REGISTRY_AUTH_FILE='' crane "$@"; }
wrongly() { login wrong && crane digest "$REGISTRY:multi"; }
blob_is_same() {
  local digest
  digest=$(crane manifest --platform linux/arm64 "$REGISTRY:multi" | python3 -c 'import json, sys; print(json.load(sys.stdin)["layers"][2]["digest"])')
  crane blob "$REGISTRY@$digest" | cmp - "$IMAGE/blobs/${digest/://}"
}

gone() { ! crane manifest "$REGISTRY@$(content digest "$ARTIFACT")"; }

# crane pushes the file index.json itself as the index.
cp -r "$IMAGE" layout
index=$(content digest "$IMAGE")
cp "$IMAGE/blobs/${index/://}" layout/index.json

refused "push without login" crane push layout "$REGISTRY:multi" --index
check "login" login "$E2E_PASSWORD"
check "push a multi-architecture image" crane push layout "$REGISTRY:multi" --index
check "copy to another repository" crane copy "$REGISTRY:multi" "$REGISTRY-copy:multi"
check "the registry has its bytes" content served "$REPO" multi "$IMAGE"
check "the copy has the same bytes" content served "$REPO-copy" multi "$IMAGE"
check "validate" crane validate --remote "$REGISTRY:multi"
check "pull" crane pull --format oci "$REGISTRY:multi" pulled
check "the same bytes came back" content same "$IMAGE" pulled
check "a single blob is the same" blob_is_same
check "export a file system" crane export --platform linux/amd64 "$REGISTRY:multi" files.tar

check "push an artifact with a subject" crane push "$ARTIFACT" "$REGISTRY:artifact"
check "the registry has its bytes" content served "$REPO" artifact "$ARTIFACT"
check "it refers to the image" content refers "$REPO" "$IMAGE" "$ARTIFACT_TYPE"

check "tag" crane tag "$REGISTRY:multi" second
check "list tags" holds second crane ls "$REGISTRY"
check "list the catalog" holds "$REPO" crane catalog "$E2E_HOST"
check "delete a manifest" crane delete "$REGISTRY@$(content digest "$ARTIFACT")"
check "it is gone" gone

check "copy to a public repository" crane copy "$REGISTRY:multi" "$E2E_HOST/$PUBLIC:multi"
refused "anonymous pull of a private repository" anonymously pull --format oci "$REGISTRY:multi" private
refused "anonymous catalog" anonymously catalog "$E2E_HOST"
check "anonymous pull of a public repository" anonymously pull --format oci "$E2E_HOST/$PUBLIC:multi" public
check "the same bytes came back" content same "$IMAGE" public
refused "a wrong password" wrongly
finish
