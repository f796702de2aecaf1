#!/usr/bin/env bash
# buildah (Debian; the code that podman uses, too) with storage of its own. usage: tests/e2e/buildah.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin buildah "$@"
needs debian buildah:buildah
export BUILDAH_ISOLATION=chroot REGISTRY_AUTH_FILE=$CI_TMP/auth.json

# on STORE COMMAND...: buildah with one of several stores.
on() { local store=$1; shift; buildah --storage-driver vfs --root "$CI_TMP/$store/root" --runroot "$CI_TMP/$store/run" "$@"; }
login() { buildah login --tls-verify=false -u "$E2E_USER" --password-stdin "$E2E_HOST" <<<"$1"; }
build() {
  local container
  container=$(on one from scratch) && on one copy -q "$container" "$E2E_CONTENT/files" /files &&
    on one config --cmd /files/two.txt --label test=yes "$container" && on one commit -q "$container" "$REGISTRY:built"
}
image_id() { on "$1" inspect --type image -f '{{.FromImageID}}' "$REGISTRY:built"; }
compare() {   # what the two stores hold under the same name
  local container mounted
  [ "$(image_id one)" = "$(image_id two)" ] || return 1
  container=$(on two from --pull-never "$REGISTRY:built") && mounted=$(on two mount "$container") || return 1
  diff -r "$E2E_CONTENT/files" "$mounted/files"
}
push_list() {
  on one manifest create list && on one manifest add --all list "oci:$IMAGE:multi" &&
    on one manifest push -q --all --tls-verify=false list "docker://$REGISTRY:list"
}

on one images >/dev/null 2>"$CI_TMP/error" || not_run "buildah cannot work here: $(tail -n 1 "$CI_TMP/error")"

refused "login with a wrong password" login wrong
check "login" login "$E2E_PASSWORD"
check "build an image" build
check "push it" on one push -q --tls-verify=false "$REGISTRY:built"
check "pull it elsewhere" on two pull -q --tls-verify=false "$REGISTRY:built"
check "it is the same image with the same files" compare

check "push a multi-architecture image, as an index that buildah made" push_list
check "it holds the unchanged manifests" content lists "$REPO" list "$IMAGE"
check "pull one platform of the index" on two pull -q --tls-verify=false --arch arm64 "$REGISTRY:list"

check "push to a public repository" on one push -q --tls-verify=false "$REGISTRY:built" "docker://$E2E_HOST/$PUBLIC:built"
check "copy to another repository" on one push -q --tls-verify=false "$REGISTRY:built" "docker://$REGISTRY-copy:built"
check "logout" buildah logout "$E2E_HOST"
refused "anonymous pull of a private repository" on three pull -q --tls-verify=false "$REGISTRY-copy:built"
check "anonymous pull of a public repository" on three pull -q --tls-verify=false "$E2E_HOST/$PUBLIC:built"
finish
