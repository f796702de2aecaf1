#!/usr/bin/env bash
# skopeo (Debian) against the registry that tests/e2e/run started. usage: tests/e2e/skopeo.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin skopeo "$@"
needs debian skopeo:skopeo

to() { skopeo copy -q --dest-tls-verify=false "$@"; }
from() { skopeo copy -q --src-tls-verify=false "$@"; }
login() { skopeo login --tls-verify=false -u "$E2E_USER" --password-stdin "$E2E_HOST" <<<"$1"; }
tags() { skopeo list-tags --tls-verify=false "docker://$REGISTRY"; }
no_tag() { ! tags | grep -F '"second"'; }

refused "login with a wrong password" login wrong
refused "push without login" to "oci:$IMAGE:multi" "docker://$REGISTRY:none"
check "login" login "$E2E_PASSWORD"

check "push a multi-architecture image" to --all --preserve-digests "oci:$IMAGE:multi" "docker://$REGISTRY:multi"
check "the registry has its bytes" content served "$REPO" multi "$IMAGE"
check "pull it" from --all --preserve-digests "docker://$REGISTRY:multi" oci:pulled:multi
check "the same bytes came back" content same "$IMAGE" pulled
check "pull it by digest" from --all "docker://$REGISTRY@$(content digest "$IMAGE")" oci:by-digest:multi
check "the same bytes came back" content same "$IMAGE" by-digest

# One platform of it, as the other media types.
check "push a Docker schema 2 image" to -f v2s2 "oci:$IMAGE:multi" "docker://$REGISTRY:docker"
check "pull it" from "docker://$REGISTRY:docker" dir:docker
check "it is schema 2" grep -q 'application/vnd.docker.distribution.manifest.v2+json' docker/manifest.json
check "inspect" skopeo inspect --tls-verify=false "docker://$REGISTRY:docker"

check "copy to another repository" from --all --dest-tls-verify=false "docker://$REGISTRY:multi" "docker://$REGISTRY-copy:multi"
check "the copy has the same bytes" content served "$REPO-copy" multi "$IMAGE"

check "push to a second tag" to --all "oci:$IMAGE:multi" "docker://$REGISTRY:second"
check "list tags" holds '"second"' tags
check "delete" skopeo delete --tls-verify=false "docker://$REGISTRY:second"
check "the tag is gone" no_tag

refused "anonymous pull of a private repository" from --src-no-creds "docker://$REGISTRY-copy:multi" dir:private
check "push to a public repository" to --all "oci:$IMAGE:multi" "docker://$E2E_HOST/$PUBLIC:multi"
check "anonymous pull of a public repository" from --all --src-no-creds "docker://$E2E_HOST/$PUBLIC:multi" oci:public:multi
check "the same bytes came back" content same "$IMAGE" public
refused "anonymous push to a public repository" to --dest-no-creds "oci:$IMAGE:multi" "docker://$E2E_HOST/$PUBLIC:none"

check "logout" skopeo logout --tls-verify=false "$E2E_HOST"
refused "pull after logout" from "docker://$REGISTRY-copy:multi" dir:private
finish
