#!/usr/bin/env bash
# Helm charts against the registry that tests/e2e/run started. usage: tests/e2e/helm.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin helm "$@"
needs go helm helm.sh/helm/v3/cmd/helm v3.22.0

login() { helm registry login --plain-http -u "$E2E_USER" --password-stdin "$E2E_HOST" <<<"$1"; }
push() { helm push --plain-http "$1" "oci://$E2E_HOST/$2"; }
pull() { helm pull --plain-http "oci://$E2E_HOST/$1/chart" --version "$2" -d "$3"; }
make_chart() {
  helm create chart && head -c 200000 /dev/urandom | base64 >chart/files.txt &&
    helm package chart --version 1.2.3 && helm package chart --version 1.2.4+build.5
}
mkdir pulled anonymous

check "make charts" make_chart
refused "login with a wrong password" login wrong
refused "push without login" push chart-1.2.3.tgz "$REPO"
check "login" login "$E2E_PASSWORD"
for version in 1.2.3 1.2.4+build.5; do      # in a tag, + becomes _
  check "push $version" push "chart-$version.tgz" "$REPO"
  check "pull $version" pull "$REPO" "$version" pulled
  check "the same bytes came back" cmp "chart-$version.tgz" "pulled/chart-$version.tgz"
done
check "show a chart" holds 'version: 1.2.3' helm show chart --plain-http "oci://$REGISTRY/chart" --version 1.2.3
check "the newest version of a range" helm pull --plain-http "oci://$REGISTRY/chart" --version '^1.0.0' -d anonymous
check "render a chart" helm template --plain-http name "oci://$REGISTRY/chart" --version 1.2.3

check "push to a public repository" push chart-1.2.3.tgz "$PUBLIC"
check "logout" helm registry logout "$E2E_HOST"
refused "anonymous pull of a private repository" pull "$REPO" 1.2.3 anonymous
check "anonymous pull of a public repository" pull "$PUBLIC" 1.2.3 anonymous
check "the same bytes came back" cmp chart-1.2.3.tgz anonymous/chart-1.2.3.tgz
finish
