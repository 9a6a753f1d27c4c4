#!/usr/bin/env bash
# Keep what a table needs of run folders: studies/keep.sh STUDY RUN... copies into studies/STUDY/results/.
set -euo pipefail
study="$(dirname "$0")/$1/results"
shift
for run in "$@"; do
  to="$study/$(basename "$run")"
  mkdir -p "$to"
  cp "$run"/{experiment.toml,environment.json,rounds.jsonl,summary.json} "$to"/
done
