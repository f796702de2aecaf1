#!/usr/bin/env bash
# regctl (regclient) against the registry that tests/e2e/run started. It is the one client that uploads in several
# numbered chunks. usage: tests/e2e/regctl.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin regctl "$@"
needs go regctl github.com/regclient/regclient/cmd/regctl v0.11.7
export REGCTL_CONFIG=$CI_TMP/regctl.json

login() { regctl registry login -u "$E2E_USER" --pass-stdin "$E2E_HOST" <<<"$1"; }
put() { regctl artifact put --artifact-type "$1" --subject "$REGISTRY:multi" -f "$E2E_CONTENT/files/one.bin" -m application/octet-stream; }
get_back() { regctl artifact get --subject "$REGISTRY:multi" --filter-artifact-type "$1" | cmp - "$E2E_CONTENT/files/one.bin"; }
anonymously() { REGCTL_CONFIG=$CI_TMP/none.json regctl --host "reg=$E2E_HOST,tls=disabled" "$@"; }

check "configure plain HTTP" regctl registry set --tls disabled --skip-check "$E2E_HOST"
refused "login with a wrong password" login wrong
refused "push without login" anonymously image copy "ocidir://$IMAGE:multi" "$REGISTRY:multi"
check "login" login "$E2E_PASSWORD"

check "push a multi-architecture image" regctl image copy "ocidir://$IMAGE:multi" "$REGISTRY:whole"
check "the registry has its bytes" content served "$REPO" whole "$IMAGE"
check "configure chunks of 700,000 bytes" regctl registry set --blob-chunk 700000 --blob-max 100000 --skip-check "$E2E_HOST"
check "push in chunks" regctl image copy "ocidir://$IMAGE:multi" "$REGISTRY-chunks:multi"
check "the registry has its bytes" content served "$REPO-chunks" multi "$IMAGE"
check "pull what was pushed in chunks" regctl image copy "$REGISTRY-chunks:multi" ocidir://pulled:multi
check "the same bytes came back" content same "$IMAGE" pulled

check "copy to another tag" regctl image copy "$REGISTRY:whole" "$REGISTRY:multi"
check "put an artifact with a subject, in chunks" put application/vnd.example.put
check "the registry lists it as referrer" content refers "$REPO" "$IMAGE" application/vnd.example.put
check "get it back" get_back application/vnd.example.put
check "list artifacts" holds application/vnd.example.put regctl artifact list "$REGISTRY:multi"
check "push a made artifact" regctl image copy "ocidir://$ARTIFACT:artifact" "$REGISTRY:artifact"
check "the registry has its bytes" content served "$REPO" artifact "$ARTIFACT"
check "it refers to the image" content refers "$REPO" "$IMAGE" "$ARTIFACT_TYPE"

check "copy with referrers to another repository" regctl image copy --referrers "$REGISTRY:multi" "$REGISTRY-copy:multi"
check "the copy has the same bytes" content served "$REPO-copy" multi "$IMAGE"
check "the copy has the artifact" content refers "$REPO-copy" "$IMAGE" application/vnd.example.put

check "list tags" holds whole regctl tag ls "$REGISTRY"
check "delete a tag" regctl tag delete "$REGISTRY:whole"
gone() { ! regctl tag ls "$REGISTRY" | grep -x whole && content served "$REPO" multi "$IMAGE"; }
check "the tag is gone and the image is there" gone
check "list repositories" holds "$REPO" regctl repo ls "$E2E_HOST"

check "copy to a public repository" regctl image copy "$REGISTRY:multi" "$E2E_HOST/$PUBLIC:multi"
refused "anonymous pull of a private repository" anonymously image copy "$REGISTRY:multi" ocidir://private:multi
check "anonymous pull of a public repository" anonymously image copy "$E2E_HOST/$PUBLIC:multi" ocidir://public:multi
check "the same bytes came back" content same "$IMAGE" public
finish
