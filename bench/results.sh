#!/usr/bin/env bash
# Runs everything that docs/results.md reports, with the sabotage arms, and
# prints one line a run. Usage: bench/results.sh [OUT]   (default: runs/results)
set -eu
cd "$(dirname "$0")/.."
out=${1:-runs/results}
mkdir -p bin "$out"
go build -o bin/ebmrun ./cmd/ebmrun

# value KEY FILE: the last value of a metric.
value() { grep -o "\"$1\":[-0-9.e+]*" "$2" 2>/dev/null | tail -n 1 | cut -d: -f2; }

arms="specified freeze flip"

# run NAME METRIC STEPS ARGS…: the arm as specified, then the two sabotage arms,
# which need no more than a fifth of the iterations to be told apart.
run() {
  local name=$1 metric=$2 steps=$3
  shift 3
  for arm in $arms; do
    local dir=$out/$name-$arm n=$steps extra=()
    if [ $arm != specified ]; then
      n=$((steps / 5))
      extra=(--set "sabotage=$arm")
    fi
    rm -rf "$dir"
    local began=$SECONDS status=0
    bin/ebmrun train "$@" --steps "$n" "${extra[@]}" -o "$dir" >"$dir.log" 2>&1 || status=$?
    printf '%-24s %-10s %5s iterations %4d s  exit %d  %s=%s  std %s of %s  %s\n' "$name" $arm "$n" $((SECONDS - began)) $status \
      "$metric" "$(value "$metric" "$dir/metrics.jsonl")" "$(value sample_std "$dir/metrics.jsonl")" "$(value data_std "$dir/metrics.jsonl")" \
      "$(grep -o 'the floor): [-0-9.e]*' "$dir/manifest.json" 2>/dev/null)"
  done
}

run mnist fd_pca 1000 generative-convnet --data mnist
run mnist-short fd_pca 1000 generative-convnet --data mnist --preset digits-short
run orl fd_pca 1200 generative-convnet --data orl --size 32
run grass patch_swd 300 generative-convnet --data grass --size 96 --patches 1 --set optim.lr=0.0005
for texture in brick gravel grass; do run "deep-frame-$texture" patch_swd 300 deep-frame --data "$texture" --size 96 --grey --patches 1 --preset texture; done
run rings energy_distance 2000 generative-convnet --data synthetic/rings
run coopnets-mnist fd_pca 1000 coopnets --data mnist
run latent-ebm-mnist fd_pca 750 latent-ebm --data mnist
run latent-ebm-fashion fd_pca 750 latent-ebm --data fashion-mnist
run latent-ebm-orl fd_pca 400 latent-ebm --data orl --size 32
run generative-swin-emoji mae 900 generative-swin --data emoji-saliency --size 32
run generative-swin-emoji-96 mae 2000 generative-swin --data emoji-saliency --size 96
run vae-mnist fd_pca 2500 vae --data mnist
run vae-fashion fd_pca 2500 vae --data fashion-mnist
run coopvaebm-mnist fd_pca 1000 coopvaebm --data mnist
run coopvaebm-fashion fd_pca 1000 coopvaebm --data fashion-mnist
run coopnets-fashion fd_pca 1000 coopnets --data fashion-mnist
run coopnets-orl fd_pca 600 coopnets --data orl --size 32
run coopnets-emoji fd_pca 600 coopnets --data emoji --size 32
run flow-mnist fd_pca 2500 flow --data mnist
run flow-fashion fd_pca 2500 flow --data fashion-mnist
run coopflow-mnist fd_pca 800 coopflow --data mnist
run coopflow-fashion fd_pca 800 coopflow --data fashion-mnist
run coopflow-emoji fd_pca 600 coopflow --data emoji --size 32
arms="specified freeze" run abp-mnist held_out/mse 1000 abp --data mnist
arms="specified freeze" run abp-fashion held_out/mse 1000 abp --data fashion-mnist
arms="specified freeze" run abp-orl held_out/mse 600 abp --data orl --size 32
arms="specified freeze" run abp-orl-incomplete hidden/mse 600 abp --data orl --size 32 --set data.hidden=0.5
EBMRUN=bin/ebmrun bench/anomaly.sh "$out/anomaly"
