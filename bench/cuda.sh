#!/usr/bin/env bash
# The whole set on a machine with an NVIDIA graphics processor, in one go, as a
# Markdown table on standard output: what the machine has, gradients of the
# fixtures, of the named networks and of ONNX's ops on the CUDA provider, and
# speed beside the CPU provider. Nothing of it has been run on such a machine yet.
#
#   bench/cuda.sh > docs/cuda.md      about ten minutes; obtains 253 MB
#   EBMRUN_ORT_LIBRARY=… bench/cuda.sh   with a build of ONNX Runtime that is there
set -uo pipefail
cd "$(dirname "$0")/.."
go build -o bin/ebmrun ./cmd/ebmrun || exit 1
mkdir -p runs

if [ -z "${EBMRUN_ORT_LIBRARY:-}" ]; then
	said=$(bin/ebmrun setup --cuda) || { echo "$said" >&2; exit 1; }
	EBMRUN_ORT_LIBRARY=$(sed -n 's/.*EBMRUN_ORT_LIBRARY=\([^ ]*\) .*/\1/p' <<<"$said")
	export EBMRUN_ORT_LIBRARY
fi

echo "# CUDA"
echo
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | sed 's/^/- /'
bin/ebmrun doctor --provider cuda | sed -n 's/^\(ok\|--\)  \(ONNX Runtime\|cuda\|tensorrt\) */- \2: /p'
echo
bin/ebmrun doctor --provider cuda >/dev/null || exit 1

echo "## Right numbers"
echo
echo "| suite | result |"
echo "|---|---|"
suite() { # name, package, tests
	local log
	if log=$(EBM_PROVIDER=cuda EBM_REQUIRE_ORT=1 go test -count=1 "$2" -run "$3" -v 2>&1); then verdict=passed; else verdict=FAILED; fi
	echo "| $1 | $verdict, $(grep -c -- '--- PASS' <<<"$log") passed, $(grep -c -- '--- FAIL' <<<"$log") failed |"
	[ "$verdict" = passed ] || grep -A4 -- '--- FAIL' <<<"$log" | head -40 >&2
}
suite "networks of PyTorch's exporters" ./bench/conformance TestFixtures
for system in generative-convnet coopnets latent-ebm; do
	if bin/ebmrun verify $system --provider cuda --quiet >runs/cuda-$system.txt 2>&1; then verdict=accepted; else verdict="NOT ACCEPTED (runs/cuda-$system.txt)"; fi
	echo "| \`verify $system\` | $verdict |"
done

echo
echo "## Speed"
echo
echo "Milliseconds per step, the median of nine chains, in a process of its own."
echo
echo "| workload | CPU, fused | CUDA, stepwise | CUDA, fused |"
echo "|---|---|---|---|"
number() { sed -nE "s/.*\"ms_per_step\": *([0-9.e+-]+).*/\1/p"; }
time_of() { bin/ebmrun bench "$1" --json --quiet --provider "$2" --fused "$3" 2>/dev/null | number; }
for w in sr16 sr32 sr64 mlp2d latent convnet-iteration; do
	echo "| $w | $(time_of $w cpu yes) | $(time_of $w cuda no) | $(time_of $w cuda yes) |"
done

echo
echo "## Learning"
echo
for p in cpu cuda; do
	began=$SECONDS
	bin/ebmrun train generative-convnet --data mnist --steps 300 --provider $p --quiet --out runs/cuda-$p >&2 &&
		echo "- generative-convnet on MNIST, 300 iterations, $p: $((SECONDS - began)) s, FD-PCA $(grep -o '"fd_pca":[0-9.]*' runs/cuda-$p/metrics.jsonl | tail -n 1 | cut -d: -f2)"
done
