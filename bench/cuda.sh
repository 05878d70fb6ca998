#!/usr/bin/env bash
# The whole set on a machine with an NVIDIA graphics processor, in one go, as a
# Markdown table on standard output: what the machine has, gradients of ops, of the
# named networks and of PyTorch's exporters on the CUDA provider, speed beside the
# CPU provider and PyTorch, where the time of a chain goes, learning, and ONNX
# Runtime's own training stack.
#
#   bench/cuda.sh > runs/cuda.md         about seven minutes; obtains 550 MB
#   bench/cuda.sh speed shares           some of: numbers speed shares learning training
#   EBMRUN_ORT_LIBRARY=…                 a build of ONNX Runtime that is there
#   EBM_BIN=DIR                          ebmrun and ort, orttraining, conformance and bench.test
#                                        (go test -c) from there, where there is no Go
#   EBM_TORCH=python3                    an interpreter with PyTorch adds its columns
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p runs
if [ -z "${EBM_BIN:-}" ]; then
	EBM_BIN=$root/bin
	go build -o "$EBM_BIN/ebmrun" ./cmd/ebmrun || exit 1
	for p in runtime/ort runtime/orttraining bench/conformance bench; do
		go test -c -o "$EBM_BIN/$(basename $p).test" ./$p || exit 1
	done
fi
ebmrun=$EBM_BIN/ebmrun
if [ -z "${EBMRUN_ORT_LIBRARY:-}" ]; then
	said=$("$ebmrun" setup --cuda) || { echo "$said" >&2; exit 1; }
	EBMRUN_ORT_LIBRARY=$(sed -n 's/.*EBMRUN_ORT_LIBRARY=\([^ ]*\) .*/\1/p' <<<"$said")
	export EBMRUN_ORT_LIBRARY
fi
export EBM_PROVIDER=cuda EBM_REQUIRE_ORT=1

echo "# CUDA"
echo
echo "What \`bench/cuda.sh\` wrote."
echo
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | sed 's/^/- /'
echo "- $(nproc --all) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
doctor=$("$ebmrun" doctor --provider cuda)
verdict=$?
sed -n 's/^\(ok\|--\)  \(ONNX Runtime\|cuda\) */- \2: /p' <<<"$doctor"
echo
[ $verdict = 0 ] || exit 1

suite() { # name, package, tests
	local log
	if log=$(cd "$2" && "$EBM_BIN/$(basename "$2").test" -test.run "$3" -test.v 2>&1); then verdict=passed; else verdict=FAILED; fi
	echo "| $1 | $verdict: $(grep -c -- '--- PASS' <<<"$log") passed, $(grep -c -- '--- FAIL' <<<"$log") failed |"
	sed -nE 's/^ *provider_test.go:[0-9]+: (largest|use_tf32)/\1/p' <<<"$log" >>runs/cuda-notes.txt
	[ "$verdict" = passed ] || grep -B2 -A4 -- '--- FAIL' <<<"$log" | head -40 >&2
}

numbers() {
	echo "## Right numbers"
	echo
	echo "| suite | result |"
	echo "|---|---|"
	: >runs/cuda-notes.txt
	suite "the engine: ops, types, calls that hand a state on, errors" runtime/ort .
	suite "slopes of ops and of every named energy and generator, against the CPU provider" bench/conformance TestProvider
	suite "slopes of networks of PyTorch's exporters, against PyTorch" bench/conformance TestFixtures
	suite "float32 stays float32" bench/conformance TestTF32
	for system in ${EBM_VERIFY-generative-convnet}; do
		if "$ebmrun" verify $system --provider cuda --quiet >runs/cuda-$system.txt 2>&1; then verdict=accepted; else verdict="NOT ACCEPTED (runs/cuda-$system.txt)"; fi
		echo "| \`verify $system\` | $verdict |"
	done
	echo
	sed 's/^/- /' runs/cuda-notes.txt
	echo
}

number() { sed -nE "s/.*\"$1\": *([0-9.e+-]+).*/\1/p" | head -n 1; }

time_of() {
	local out
	out=$("$ebmrun" bench "$1" --json --quiet --provider "$2" --fused "$3" 2>/dev/null)
	printf '%.3g (%.2g s%s)' "$(number ms_per_step <<<"$out")" "$(number first_step_s <<<"$out")" "$(sed -nE 's/.*"capture": *"([^"]*)".*/, \1/p' <<<"$out" | head -n 1)"
}

speed() {
	local workloads=${EBM_WORKLOADS:-sr16 sr32 sr64 mlp2d latent convnet-iteration} torch=""
	[ -z "${EBM_TORCH:-}" ] || torch=$("$EBM_TORCH" bench/peers/langevin_cuda.py $workloads)
	torch_of() { grep "\"$1\", \"way\": \"$2\"" <<<"$torch" | number ms_per_step | xargs -r printf '%.3g'; }
	echo "## Speed"
	echo
	echo "Milliseconds per step, the median of nine chains (and how long the process took to its first step), each in a process of its own."
	echo
	echo "| workload | CPU, fused | CUDA, stepwise | CUDA, fused |${EBM_TORCH:+ PyTorch on the GPU, eager | PyTorch, CUDA graph |}"
	echo "|---|---|---|---|${EBM_TORCH:+---|---|}"
	for w in $workloads; do
		echo "| $w | $(time_of $w cpu yes) | $(time_of $w cuda no) | $(time_of $w cuda yes) |${EBM_TORCH:+ $(torch_of $w eager) | $(torch_of $w graph) |}"
	done
	[ -z "$torch" ] || sed -nE 's/.*"provider": "([^"]*)".*/\n\1, no TF32, noise drawn on the device./p' <<<"$torch" | head -n 2
	echo
}

shares() {
	echo "## Where the time of a chain goes"
	echo
	echo "Milliseconds per step in calls of k steps. Bare: computing and starting kernels, the state on the device throughout. Copied: and the noise of each"
	echo "call goes there while the call before runs. Drawn: and is drawn first. Host: one after another, the state there and back in each call. Noise: drawing alone."
	echo
	echo "| network, k | bare | copied | drawn | host | noise |"
	echo "|---|---|---|---|---|---|"
	(cd bench && "$EBM_BIN/bench.test" -test.run '^$' -test.bench "${EBM_SHARES:-Resident}" -test.benchtime 30x) |
		sed -nE 's/^BenchmarkResident\/([^/]+)\/k=([0-9]+)\/([a-z]+)[^ ]* .* ([0-9.e-]+) ms\/step/\1 \2 \3 \4/p' |
		awk '{key = $1 ", " $2; if (!(key in row)) order[n++] = key; row[key] = row[key] " " sprintf("%.3g", $4) " |"} END {for (i = 0; i < n; i++) print "| " order[i] " |" row[order[i]]}'
	echo
}

learning() {
	echo "## Learning"
	echo
	for p in cpu cuda; do
		began=$SECONDS
		"$ebmrun" train generative-convnet --data "${EBM_DATA:-mnist}" --steps "${EBM_STEPS:-300}" --provider $p --quiet --out runs/cuda-$p >&2 &&
			echo "- generative-convnet on ${EBM_DATA:-mnist}, ${EBM_STEPS:-300} iterations, $p: $((SECONDS - began)) s, FD-PCA $(grep -o '"fd_pca":[0-9.]*' runs/cuda-$p/metrics.jsonl | tail -n 1 | cut -d: -f2)"
	done
	echo
}

training() { # gradients by ONNX Runtime 1.19.2, in a worker, on CUDA 11
	echo "## ONNX Runtime's training stack"
	echo
	local said
	if ! said=$("$ebmrun" setup --ort-training --cuda 2>&1); then
		sed -nE 's/^(to mend|ebmrun): /- /p' <<<"$said"
		return
	fi
	echo "| suite | result |"
	echo "|---|---|"
	EBM_REQUIRE_ORT_TRAINING=1 suite "the engine, and slopes of networks against ours on the interpreter" runtime/orttraining .
	echo
	for g in builtin ort-training; do
		"$ebmrun" train latent-ebm --data synthetic/blob16 --steps 50 --provider cuda --gradients $g --quiet --out runs/cuda-$g >&2 &&
			echo "- latent-ebm on synthetic/blob16, 50 iterations, $g: FD-PCA $(grep -o '"fd_pca":[0-9.]*' runs/cuda-$g/metrics.jsonl | tail -n 1 | cut -d: -f2)"
	done
}

for part in "${@:-numbers speed shares learning training}"; do
	for one in $part; do $one; done
done
