#!/usr/bin/env bash
# Fuzzes the pure modules, one target after the other: run.sh [SECONDS_PER_TARGET [TARGET...]]
# Needs a nightly compiler and cargo-fuzz. An artifact of a crash is left under artifacts/.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-60}
shift || true
if [ "$#" -gt 0 ]; then targets=("$@"); else mapfile -t targets < <(cargo +nightly fuzz list --fuzz-dir .); fi

for target in "${targets[@]}"; do
  # The first folder gets what is found, the second one is only read.
  mkdir -p "corpus/$target"
  options=("-max_total_time=$seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1)
  if [ -f "dictionaries/$target" ]; then options+=("-dict=dictionaries/$target"); fi
  echo "== $target"
  cargo +nightly fuzz run --fuzz-dir . "$target" "corpus/$target" "seeds/$target" -- "${options[@]}"
done
