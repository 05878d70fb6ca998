#!/usr/bin/env bash
# Anomalies of MNIST, one digit after the other left out in learning: average precision
# with which held-out digits of that class are those found least likely, for latent-ebm
# and, as a baseline, vae, and the area under the ROC curve. Average precision is told for
# the share of anomalies of the published comparisons: all 70,000 digits, a fifth of the
# other classes held out for the test and all of the class that was left out in it.
# Usage: bench/anomaly.sh [OUT [DIGIT…]]   (default: runs/anomaly, all ten)
# EBMRUN is the command (default: built here), TRAIN more arguments for train, SYSTEMS
# which of the two, LIMIT how many of the held-out digits are judged (default: all 10,000).
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
    latent-ebm) echo --preset anomalies-28 ;;
    vae) echo --steps 1000 --set kl.warmup=100 ;;
  esac
}

# of 70,000 digits
count=(6903 7877 6990 7141 6824 6313 6876 7293 6825 6958)

for digit in ${digits:-0 1 2 3 4 5 6 7 8 9}; do
  rest=$(seq -s, 0 9 | sed "s/\b$digit\b,\?//; s/,\$//")
  share=$(awk -v n="${count[$digit]}" 'BEGIN { printf "%.4f", n / (n + (70000 - n) / 5) }')
  for system in ${SYSTEMS:-latent-ebm vae}; do
    dir=$out/$system-$digit began=$SECONDS
    rm -rf "$dir"
    # shellcheck disable=SC2046,SC2086
    $EBMRUN train $system --data mnist --classes "$rest" $(settings $system) ${TRAIN:-} -o "$dir" >"$dir.log" 2>&1
    printf '%-10s without %s  %4d s  ' $system "$digit" $((SECONDS - began))
    $EBMRUN apply anomaly "$dir" --checkpoint last --share "$share" --limit "${LIMIT:-0}" --quiet -o "$dir.csv"
  done
done
