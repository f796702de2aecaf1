# shellcheck shell=bash
# What the scripts in ci/ and tests/e2e/ share. Source it, don't run it:
#
#   set -euo pipefail
#   source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#   ci_begin                              # cd to the root, $CI_TMP, clean-up on exit
#   postgres_start                        # $PG_BASE; then: url=$(postgres_database name)
#   kontor_start one "$CI_TMP/one" KONTOR__DATABASE__URL="$url"   # $KONTOR_URL, $KONTOR_PID, $KONTOR_LOG
#   stop "$KONTOR_PID"
#   in_cloud "$@"                         # before ci_begin; then: KONTOR_CONFIG="$(cloud_config s3 name)"
#
# Only processes that were started here are ever stopped, by their process id, and all of them are on exit.

CI_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CI_TARGET=${CARGO_TARGET_DIR:-$CI_ROOT/target}
CI_OUT=$CI_TARGET/ci                      # logs, reports
CI_BIN=$CI_OUT/bin                        # tools that were built from source, kept between runs
CI_PASSWORD=admin-password-of-the-tests   # the administrator of every kontor that is started here
KONTOR=${KONTOR:-$CI_TARGET/debug/kontor}
CI_PIDS=()
export PATH="$CI_BIN:$PATH"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# usage_if_asked "$@": prints the comment at the head of the calling script for -h and --help.
usage_if_asked() {
  case ${1:-} in -h | --help) sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
}

# ci_begin: to the root of the repository, with a temporary directory that goes away on exit.
# CI_KEEP=1 keeps it. A script that sets a trap of its own calls ci_end in it.
ci_begin() {
  cd "$CI_ROOT" || exit
  mkdir -p "$CI_OUT" "$CI_BIN"
  CI_TMP=$(mktemp -d "${TMPDIR:-/tmp}/kontor-ci.XXXXXX")
  chmod 755 "$CI_TMP"                     # the user postgres must get through
  trap ci_end EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

ci_end() {
  local i
  for ((i = ${#CI_PIDS[@]} - 1; i >= 0; i--)); do stop "${CI_PIDS[i]}"; done
  if [ -n "${CI_KEEP:-}" ]; then say "kept: $CI_TMP"; else rm -rf "$CI_TMP"; fi
}

# started PID: remembers a process for ci_end.
started() { CI_PIDS+=("$1"); }

# stop PID [SIGNAL]: SIGNAL (TERM; for PostgreSQL INT, which does not wait for its clients), then KILL after
# 20 seconds. Not an error if it is gone.
stop() {
  local pid=$1 signal=TERM left=200 keep=() p
  [ "$pid" != "${PG_PID:-}" ] || signal=INT
  if kill "-${2:-$signal}" "$pid" 2>/dev/null; then
    while kill -0 "$pid" 2>/dev/null && [ $((left--)) -gt 0 ]; do sleep 0.1; done
    if kill -KILL "$pid" 2>/dev/null; then say "process $pid did not stop, killed"; fi
  fi
  wait "$pid" 2>/dev/null || true
  for p in "${CI_PIDS[@]}"; do [ "$p" = "$pid" ] || keep+=("$p"); done
  CI_PIDS=("${keep[@]}")
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

# need_debian COMMAND:PACKAGE...: installs the packages whose command is missing. When not root, or when the
# installation fails, it returns 1 and the reason is in $MISSING.
need_debian() {
  local pair packages=()
  MISSING=
  for pair in "$@"; do
    PATH=$PATH:/usr/sbin:/sbin:$(postgres_bin || true) command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  MISSING="missing Debian packages: ${packages[*]}"
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  say "installing ${packages[*]}"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } \
    >"$CI_OUT/apt.log" 2>&1 || { MISSING="apt-get could not install ${packages[*]} (see $CI_OUT/apt.log)"; return 1; }
  MISSING=
}

# need_go NAME PACKAGE VERSION: builds a Go program into $CI_BIN, once for each version. $MISSING as above.
need_go() {
  local name=$1 package=$2 version=$3
  MISSING=
  [ ! -e "$CI_BIN/.$name-$version" ] || [ ! -x "$CI_BIN/$name" ] || return 0
  command -v go >/dev/null || { MISSING="$name needs Go"; return 1; }
  say "building $name $version"
  GOBIN=$CI_BIN GOFLAGS=-buildvcs=false go install -ldflags='-s -w' "$package@$version" >"$CI_OUT/go-$name.log" 2>&1 ||
    { MISSING="$name $version does not build with $(go env GOVERSION): $(tail -n 1 "$CI_OUT/go-$name.log")"; return 1; }
  rm -f "$CI_BIN/.$name-"*
  touch "$CI_BIN/.$name-$version"
}

# postgres_start: a PostgreSQL of our own on a free port, in $CI_TMP. Sets PG_BASE=postgres://kontor@127.0.0.1:PORT.
# Does nothing when KONTOR_CI_POSTGRES already holds such a base (ci/test starts one server for all its parts).
# PG_FSYNC=on makes it durable, for measurements; tests don't need that.
postgres_start() {
  if [ -n "${KONTOR_CI_POSTGRES:-}" ]; then PG_BASE=$KONTOR_CI_POSTGRES; return 0; fi
  local as=() dir=$CI_TMP/postgres port fsync=${PG_FSYNC:-off}
  need_debian initdb:postgresql || { say "$MISSING"; return 1; }
  PG_BIN=$(postgres_bin) || { MISSING="no PostgreSQL server found"; say "$MISSING"; return 1; }
  port=$(free_port)
  mkdir -p "$dir"
  if [ "$(id -u)" = 0 ]; then             # initdb refuses root
    chown postgres "$dir"
    as=(setpriv --reuid=postgres --regid=postgres --init-groups)
  fi
  (cd / && "${as[@]}" "$PG_BIN/initdb" -D "$dir/data" -A trust -U kontor -E UTF8 --locale=C --no-sync) \
    >"$CI_OUT/postgres.log" 2>&1 || { MISSING="initdb failed, see $CI_OUT/postgres.log"; return 1; }
  (cd / && exec "${as[@]}" "$PG_BIN/postgres" -D "$dir/data" -h 127.0.0.1 -p "$port" -k "$dir" -c max_connections=400 \
    -c "fsync=$fsync" -c "synchronous_commit=$fsync" -c "full_page_writes=$fsync") </dev/null >>"$CI_OUT/postgres.log" 2>&1 &
  PG_PID=$!
  started "$PG_PID"
  wait_for 30 "$PG_BIN/pg_isready" -q -h 127.0.0.1 -p "$port" ||
    { MISSING="PostgreSQL did not start, see $CI_OUT/postgres.log"; say "$MISSING"; return 1; }
  PG_BASE=postgres://kontor@127.0.0.1:$port
}

postgres_bin() {
  local dir
  for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) "$(dirname "$(command -v postgres || echo /)")"; do
    if [ -x "$dir/initdb" ] && [ -x "$dir/pg_isready" ]; then echo "$dir"; return 0; fi
  done
  return 1
}

# postgres_database NAME: a new empty database (an old one of that name is dropped); prints its URL.
postgres_database() {
  local bin; bin=$(postgres_bin)
  "$bin/psql" -q -d "$PG_BASE/postgres" -c "DROP DATABASE IF EXISTS \"$1\" WITH (FORCE)" -c "CREATE DATABASE \"$1\"" \
    >/dev/null 2>>"$CI_OUT/postgres.log"
  echo "$PG_BASE/$1"
}

# kontor_start NAME DATA_DIR [VARIABLE=VALUE...]: a kontor on a free port (or on KONTOR_PORT, if given among the
# variables), ready when this returns. Sets KONTOR_URL, KONTOR_HOST (host:port), KONTOR_PID, KONTOR_LOG.
kontor_start() {
  local name=$1 data=$2 port=; shift 2
  [ -x "$KONTOR" ] || die "there is no $KONTOR: cargo build first, or set KONTOR"
  case "$*" in *KONTOR_PORT=*) port=${*##*KONTOR_PORT=}; port=${port%% *} ;; *) port=$(free_port) ;; esac
  KONTOR_HOST=127.0.0.1:$port
  KONTOR_URL=http://$KONTOR_HOST
  KONTOR_LOG=$CI_OUT/kontor-$name.log
  mkdir -p "$data"
  echo "--- kontor $name at $KONTOR_URL, $(date -u +%FT%TZ)" >>"$KONTOR_LOG"
  env KONTOR__SERVER__LISTEN="$KONTOR_HOST" KONTOR__AUTH__INITIAL_ADMIN_PASSWORD="$CI_PASSWORD" \
    KONTOR__LOG__FORMAT=text "$@" "$KONTOR" serve --data-dir "$data" </dev/null >>"$KONTOR_LOG" 2>&1 &
  KONTOR_PID=$!
  started "$KONTOR_PID"
  wait_for 30 kontor_is_settled || true
  kontor_is_ready || { tail -n 20 "$KONTOR_LOG" >&2; die "kontor $name is not ready, see $KONTOR_LOG"; }
}

kontor_is_ready() { curl -fsS --max-time 2 "$KONTOR_URL/readyz" >/dev/null 2>&1; }
kontor_is_settled() { kontor_is_ready || ! kill -0 "$KONTOR_PID"; }   # ready or dead

# in_cloud "$@": starts the calling script again inside `ci/cloud run`, unless it is in a cloud already.
in_cloud() { [ -n "${KONTOR_CLOUD:-}" ] || exec "$CI_ROOT/ci/cloud" run "$(realpath "$0")" "$@"; }

# cloud_config STORAGE NAME: the configuration of a kontor that keeps its accounts on that backend of the cloud (see
# ci/cloud), in buckets and containers of its own: their names begin with NAME. Prints the file's name.
cloud_config() {
  local file=$CI_TMP/$2.toml
  { printf 'default_storage = "%s"\n\n' "$1"; sed "s/\"kontor-/\"$2-/" "$KONTOR_CLOUD/storage.toml"; } >"$file"
  echo "$file"
}

# kontor_admin ARGUMENT...: runs `kontor ARGUMENT...` as administrator of the kontor at $KONTOR_URL.
kontor_admin() {
  KONTOR_PASSWORD=$CI_PASSWORD "$KONTOR" "$@" --server "$KONTOR_URL" --user admin
}
