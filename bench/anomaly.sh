#!/usr/bin/env bash
# Anomalies of MNIST, one digit after the other left out in learning: average precision
# with which held-out digits of that class are those found least likely, for latent-ebm
# and, as a baseline, vae. Prints one line a system and digit.
# Usage: bench/anomaly.sh [OUT [DIGIT…]]   (default: runs/anomaly, all ten)
# EBMRUN is the command (default: built here), TRAIN more arguments for train, LIMIT how
# many of the held-out digits are judged (default: all 10,000).
set -eu
cd "$(dirname "$0")/.."
out=${1:-runs/anomaly}
digits=${*:2}
if [ -z "${EBMRUN:-}" ]; then
  mkdir -p bin
  go build -o bin/ebmrun ./cmd/ebmrun
  EBMRUN=bin/ebmrun
fi
mkdir -p "$out"

settings() {
  case $1 in
    latent-ebm) echo --steps 700 --set batch=50 --set restarts=2 --set teach.decay=0.1 --set optim.decay=0.1 ;;
    vae) echo --steps 1000 --set kl.warmup=100 ;;
  esac
}

for digit in ${digits:-0 1 2 3 4 5 6 7 8 9}; do
  rest=$(seq -s, 0 9 | sed "s/\b$digit\b,\?//; s/,\$//")
  for system in latent-ebm vae; do
    dir=$out/$system-$digit began=$SECONDS
    rm -rf "$dir"
    # shellcheck disable=SC2046,SC2086
    $EBMRUN train $system --data mnist --classes "$rest" $(settings $system) ${TRAIN:-} -o "$dir" >"$dir.log" 2>&1
    printf '%-10s without %s  %4d s  ' $system "$digit" $((SECONDS - began))
    $EBMRUN apply anomaly "$dir" --checkpoint last --limit "${LIMIT:-0}" --quiet -o "$dir.csv"
  done
done
