#!/usr/bin/env bash
# oras against the registry that tests/e2e/run started. usage: tests/e2e/oras.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin oras "$@"
needs go oras oras.land/oras/cmd/oras v1.3.6

login() { oras login --plain-http -u "$E2E_USER" --password-stdin "$E2E_HOST" <<<"$1"; }
up() { oras cp --to-plain-http --from-oci-layout "$@"; }
down() { oras cp --from-plain-http --to-oci-layout "$@"; }
across() { oras cp --from-plain-http --to-plain-http "$@"; }
push_files() { (cd "$E2E_CONTENT/files" && oras push --plain-http --artifact-type application/vnd.example.files "$1" one.bin:application/octet-stream two.txt:text/plain); }
attach() { (cd "$E2E_CONTENT/files" && oras attach --plain-http --artifact-type application/vnd.example.attached "$REGISTRY:multi" two.txt); }
pull_attached() {
  local digest
  digest=$(oras discover --plain-http --format json --artifact-type application/vnd.example.attached "$REGISTRY:multi" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["referrers"][0]["digest"])')
  oras pull --plain-http -o attached "$REGISTRY@$digest"
  cmp "$E2E_CONTENT/files/two.txt" attached/two.txt
}

refused "login with a wrong password" login wrong
refused "push without login" up "$IMAGE:multi" "$REGISTRY:multi"
check "login" login "$E2E_PASSWORD"

check "push a multi-architecture image" up "$IMAGE:multi" "$REGISTRY:multi"
check "the registry has its bytes" content served "$REPO" multi "$IMAGE"
check "push an artifact with a subject" up "$ARTIFACT:artifact" "$REGISTRY:artifact"
check "the registry has its bytes" content served "$REPO" artifact "$ARTIFACT"
check "it refers to the image" content refers "$REPO" "$IMAGE" "$ARTIFACT_TYPE"
check "pull the image" down "$REGISTRY:multi" pulled:multi
check "the same bytes came back" content same "$IMAGE" pulled

check "push files" push_files "$REGISTRY:files"
check "pull them" oras pull --plain-http -o files "$REGISTRY:files"
check "the files are the same" diff -r "$E2E_CONTENT/files" files
check "attach a file to the image" attach
check "the registry lists it as referrer" content refers "$REPO" "$IMAGE" application/vnd.example.attached
check "discover" holds application/vnd.example.attached oras discover --plain-http "$REGISTRY:multi"
check "pull the attached file" pull_attached

check "copy with referrers to another repository" across -r "$REGISTRY:multi" "$REGISTRY-copy:multi"
check "the copy has the same bytes" content served "$REPO-copy" multi "$IMAGE"
check "the copy has the artifact" content refers "$REPO-copy" "$IMAGE" "$ARTIFACT_TYPE"
check "the copy has the attached file" content refers "$REPO-copy" "$IMAGE" application/vnd.example.attached

check "list tags" holds files oras repo tags --plain-http "$REGISTRY"
check "delete a manifest" oras manifest delete --plain-http -f "$REGISTRY:files"

check "copy to a public repository" across "$REGISTRY:multi" "$E2E_HOST/$PUBLIC:multi"
check "logout" oras logout "$E2E_HOST"
refused "anonymous pull of a private repository" down "$REGISTRY:multi" private:multi
check "anonymous pull of a public repository" down "$E2E_HOST/$PUBLIC:multi" public:multi
check "the same bytes came back" content same "$IMAGE" public
finish
