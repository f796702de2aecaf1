#!/usr/bin/env bash
# An image built by umoci (Debian), pushed and pulled by skopeo, unpacked by umoci. usage: tests/e2e/umoci.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin umoci "$@"
needs debian umoci:umoci skopeo:skopeo

build() {
  umoci init --layout built && umoci new --image built:one &&
    umoci insert --rootless --image built:one "$E2E_CONTENT/files" /files &&
    umoci config --image built:one --architecture amd64 --os linux --config.cmd /files/two.txt
}
push() { skopeo copy -q --dest-creds "$E2E_USER:$E2E_PASSWORD" --dest-tls-verify=false "$@"; }
pull() { skopeo copy -q --src-creds "$E2E_USER:$E2E_PASSWORD" --src-tls-verify=false "$@"; }

check "build" build
check "push" push oci:built:one "docker://$REGISTRY:one"
check "the registry has its bytes" content served "$REPO" one built
check "pull" pull "docker://$REGISTRY:one" oci:pulled:one
check "the same bytes came back" content same built pulled
check "unpack" umoci unpack --rootless --image pulled:one bundle
check "the files are the same" diff -r "$E2E_CONTENT/files" bundle/rootfs/files

check "add a layer to what was pulled" umoci insert --rootless --image pulled:one "$E2E_CONTENT/files/two.txt" /more
check "push it" push oci:pulled:one "docker://$REGISTRY:two"
check "pull it" pull "docker://$REGISTRY:two" oci:again:two
check "unpack it" umoci unpack --rootless --image again:two again-bundle
check "the file is the same" cmp "$E2E_CONTENT/files/two.txt" again-bundle/rootfs/more
finish
