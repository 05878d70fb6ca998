#!/usr/bin/env bash
# Measures every workload of `ebmrun bench` with every provider, step by step and
# fused, each in a process of its own, and prints the table of docs/performance.md;
# then what the loop adds to a bare call of ONNX Runtime.
#
#   bench/run.sh                       ROUNDS=3 by default: the best of three medians
#   EBM_TORCH=python3 bench/run.sh     an interpreter with PyTorch adds a column of it
#   PREFIX="chrt -f 5" bench/run.sh    put in front of every measurement
set -euo pipefail
cd "$(dirname "$0")/.."
go build -o bin/ebmrun ./cmd/ebmrun

number() { sed -nE "s/.*\"$1\": *([0-9.e+-]+).*/\1/p"; }

# best WORKS: the fastest of ROUNDS runs of a command that prints JSON, "ms (MB)".
best() {
	local ms mb out low="" peak=""
	for _ in $(seq "${ROUNDS:-3}"); do
		out=$(${PREFIX:-} "$@" 2>/dev/null) || { echo "–"; return; }
		ms=$(number ms_per_step <<<"$out") mb=$(number peak_mb <<<"$out")
		if [ -z "$low" ] || awk "BEGIN{exit !($ms < $low)}"; then low=$ms peak=$mb; fi
	done
	printf '%.3g (%.0f)' "$low" "$peak"
}

torch=${EBM_TORCH:+ PyTorch eager |}
echo "ms per step (peak MB)"
echo "| workload | CPU, stepwise | CPU, fused | OpenVINO, stepwise | OpenVINO, fused |$torch"
echo "|---|---|---|---|---|${EBM_TORCH:+---|}"
for w in sr16 sr32 sr64 mlp2d latent convnet-iteration; do
	row="| $w |"
	for provider in cpu openvino; do
		for fused in no yes; do
			row+=" $(best bin/ebmrun bench "$w" --json --quiet --provider $provider --fused $fused) |"
		done
	done
	if [ -n "${EBM_TORCH:-}" ]; then
		row+=" $(best "$EBM_TORCH" bench/peers/langevin_torch.py "$w") |"
	fi
	echo "$row"
done
echo
${PREFIX:-} go test -run '^$' -bench . -benchmem ./bench
