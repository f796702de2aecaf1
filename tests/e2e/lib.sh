# shellcheck shell=bash disable=SC2034
# What the scripts of the single clients share. tests/e2e/run starts them with a registry and content:
# E2E_HOST (host:port, plain HTTP), E2E_USER, E2E_PASSWORD, E2E_CONTENT (see content.py), E2E_REASON (a file).
# Exit status: 0 ok, 77 not run (the reason is in $E2E_REASON), else failed.
source "$(dirname "${BASH_SOURCE[0]}")/../../ci/lib.sh"

# begin CLIENT "$@": everything that the client keeps in its home directory lies in $CI_TMP, the current directory.
begin() {
  CLIENT=$1; shift
  usage_if_asked "$@"
  [ -n "${E2E_HOST:-}" ] || exec "$(dirname "$0")/run" "$CLIENT"
  ci_begin
  CONTENT=$CI_ROOT/tests/e2e/content.py
  IMAGE=$E2E_CONTENT/image
  ARTIFACT=$E2E_CONTENT/artifact
  ARTIFACT_TYPE=application/vnd.example.test.v1
  REPO=demo/$CLIENT                       # private
  PUBLIC=demo/public-$CLIENT              # may be pulled by anybody
  REGISTRY=$E2E_HOST/$REPO
  FAILED=0
  GOMODCACHE=$(go env GOMODCACHE 2>/dev/null || true)
  GOCACHE=$(go env GOCACHE 2>/dev/null || true)
  export GOMODCACHE GOCACHE HOME=$CI_TMP/home XDG_RUNTIME_DIR=$CI_TMP/run DOCKER_CONFIG=$CI_TMP/home/.docker
  unset XDG_CONFIG_HOME XDG_CACHE_HOME XDG_DATA_HOME
  mkdir -p "$HOME/.config/containers" "$XDG_RUNTIME_DIR" "$DOCKER_CONFIG"
  echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$HOME/.config/containers/policy.json"
  cd "$CI_TMP" || exit
}

# needs debian|go ARGUMENT...: see need_debian and need_go.
needs() { local kind=$1; shift; "need_$kind" "$@" || not_run "$MISSING"; }

not_run() {
  echo "$1" >"$E2E_REASON"
  exit 77
}

# check WHAT COMMAND...: the command must succeed. A failure is counted and does not end the script.
# In a function that is given as COMMAND `set -e` has no effect: chain its steps by &&.
check() {
  local what=$1 output; shift
  if output=$("$@" 2>&1); then
    echo "  ok: $what"
  else
    FAILED=$((FAILED + 1))
    printf '  FAILED: %s\n    command: %s\n' "$what" "$*"
    sed 's/^/    /' <<<"$output" | tail -n 20
  fi
}

# refused WHAT COMMAND...: the command must fail, and must say that it is for want of permission.
refused() {
  local what=$1 output; shift
  if output=$("$@" 2>&1); then
    output="it was allowed: $output"
  elif grep -qiE 'unauthorized|denied|authentication required|invalid username|credentials? not found|no credentials|forbidden|40[13]' <<<"$output"; then
    echo "  ok: $what"
    return 0
  fi
  FAILED=$((FAILED + 1))
  printf '  FAILED: %s\n    command: %s\n' "$what" "$*"
  sed 's/^/    /' <<<"$output" | tail -n 20
}

# In the registry, asked directly: `served REPOSITORY REF LAYOUT`. Between layouts: `same LAYOUT LAYOUT`.
content() { python3 "$CONTENT" "$@"; }

# holds TEXT COMMAND...: the command succeeds and prints the text.
holds() {
  local text=$1 output; shift
  output=$("$@") || return 1
  grep -qF -- "$text" <<<"$output" || { echo "no '$text' in: $output"; return 1; }
}

finish() {
  [ "$FAILED" = 0 ] || { echo "  $FAILED checks failed"; exit 1; }
}
