# Performance

How fast a step is, what it takes in memory, and where the time goes. `make bench` (`bench/run.sh`) measures
the tables again; `ebmrun bench WORKLOAD` measures one line of them.

## Speed and memory

Two cores of an Intel Xeon with AVX-512 and AMX (Linux x86-64), float32, ONNX Runtime 1.24.1 with its CPU
provider and its OpenVINO provider, Go 1.26, PyTorch 2.15.0 (eager). Milliseconds per step, in brackets the
largest resident size of the process in MB.

| workload | CPU, stepwise | CPU, fused | OpenVINO, stepwise | OpenVINO, fused | PyTorch eager |
|---|---|---|---|---|---|
| `sr16`: 16 filters, batch 64 of 3×32×32 | 12.0 (122) | 10.8 (216) | 8.23 (206) | **8.06** (320) | 17.9 (586) |
| `sr32`: 32 filters, batch 16 | 7.75 (121) | 7.42 (152) | 6.13 (218) | **6.04** (291) | 11.0 (573) |
| `sr64`: 64 filters, batch 32 | 61.1 (296) | 60.6 (329) | 49.4 (506) | **47.7** (642) | 71.9 (635) |
| `mlp2d`: 2-128-128-1, batch 1000 | 0.492 (67) | 0.295 (74) | 0.291 (116) | **0.274** (144) | 0.570 (550) |
| `latent`: 100-200-200-1, batch 100 | 0.241 (65) | **0.144** (74) | 0.190 (115) | 0.186 (153) | 0.286 (542) |
| `convnet-iteration`: 20 steps of 64 chains at 28×28 and one update | 67.4 (112) | 59.4 (146) | **53.0** (184) | 55.3 (209) | |

A step of the first five is the gradient of a network with constant weights, the noise (drawn in Go, counter
by counter) and the move. `convnet-iteration` is a learning iteration of preset `digits`, where weights are
inputs. Fused means 20 steps in one graph. Sizes with OpenVINO include the CPU provider's session that it is
compared with before it is believed; a process that runs on a remembered verdict stays below.

The loop takes 0.77 to 0.84 of the time of a bare call of the same graph with the CPU provider, and 1.06 to
1.11 with OpenVINO, noise included (32 filters, batch 16, four runs; with OpenVINO the network alone is 0.95 of a step).
It allocates 5 objects (97 bytes) a step with the CPU provider and 3 (65 bytes) with OpenVINO.

Peak memory of `ebmrun train generative-convnet --data mnist` after 100 iterations, with evaluation, sample
pictures and report:

| data | CPU | OpenVINO |
|---|---|---|
| 10,000 digits, as in `ebmrun demo` | 199 MB | 272 MB |
| all 60,000 | 405 MB | 440 MB |

All of MNIST is 188 MB as float32. The whole demo takes 62 seconds with OpenVINO and 69 seconds with the CPU provider (125 seconds of processor time) on two quiet cores,
downloads and compiling apart; the one without ONNX Runtime, points in the plane on the pure-Go engine, takes 29 seconds.

## What made a difference

| change | before | after | ratio |
|---|---|---|---|
| CPU provider: parts of the batch side by side, one thread each, instead of all threads within each operator (`convnet-iteration`, fused) | 105.5 ms | 57.3 ms | 0.54 |
| the same, step by step | 112.3 ms | 66.9 ms | 0.60 |
| the same, processor time of an iteration (fused) | 211 ms | 113 ms | 0.54 |
| drift and kick in one pass (a step on a field that costs nothing) | 1.20 ms | 1.12 ms | 0.94 |
| data loaded once, garbage collected early: peak of a run on all of MNIST, CPU | 667 MB | 405 MB | 0.61 |

The convolutions of such networks are small: with two threads inside each operator, the CPU provider takes
4.2 ms for a gradient that one thread computes in 5.0 ms, and the second thread burns its time in waiting.
Examples are independent, so `runtime.Parallel` gives every thread a part of the batch. Nothing spins any
more, which matters most on a busy machine: with the cores taken by other work, a fused
iteration took 757 ms before, and 150 ms with the spinning of threads turned off as the only change.

What was measured and left alone, for one gradient of the digits network with 64 pictures on one thread:

| | ms |
|---|---|
| CPU provider, weights as inputs (learning) | 5.0 |
| CPU provider, weights as constants (sampling) | 3.2 |
| OpenVINO, weights as inputs or constants | 3.3 |

Constants are packed ahead by the CPU provider, but a new session per update takes 9 ms and more, and the
twenty steps of an iteration would gain about 17 ms of processor time: not worth sessions that come and go.
ConvTranspose, which is most of the way back, costs what the convolution of the same shape costs (0.93 ms
and 0.66 to 1.13 ms), so no other form of it can gain much. Activations are a tenth of the time.

## Less memory for a gradient

`ebmrun grad --recompute` cuts the model into parts where little is alive and computes each part again on the
way back instead of keeping its values. What a part starts from gets a −0 added that is computed from the slope
arriving there: ONNX Runtime merges plain copies of a node with the original, and a copy that is not tied runs
early. Adding −0 changes no number, so the slopes are those of the plain gradient, bit for bit in the interpreter.

A net of 50 convolutions (32 channels, 96×96, batch 4, swish; slopes of input and weights), ONNX Runtime 1.24.1, default
optimizations, one thread on a shared machine, each run in a process of its own; memory is the peak of the calls
above the resident size before them:

| net | plain | `--recompute` | memory | time |
|---|---|---|---|---|
| 50 layers in a row | 1899 MB, 4.98 s | 1041 MB, 6.49 s | 0.55 | 1.30 |
| with shortcuts around every second | 1897 MB, 3.31 s | 1033 MB, 3.30 s | 0.54 | 1.00 |

`EBM_RECOMPUTE=1 go test ./bench/conformance -run TestRecompute -v` measures it again.

## Right numbers

Speed is compared only between providers that agree. Two things were found on the way:

- The OpenVINO provider packs a constant matrix once for all its users. A square matrix that one product
  reads as it is and another transposed, as a dense layer and its gradient do, gave wrong slopes (relative
  distance 1.1). Such matrices are handed over twice (`runtime/ort/openvino.go`).
- Rounding can put a unit on the other side of the kink of a ReLU. In `sr64` one example of 128 then
  had a slope that differed by a percent between the CPU provider and OpenVINO, and as much between the CPU
  provider with and without optimizations. A provider is refused only if it is wrong on three inputs.

## How it was measured

Every figure comes from a process of its own. A workload runs one chain to compile and settle, three to
choose the faster way, then nine chains of 20 (networks of convolutions) or 200 steps (dense networks); the
figure is the median of the nine. The machine was shared: measurements ran at real-time priority (`PREFIX="chrt
-f 5" bench/run.sh`), which keeps both cores to themselves but not the caches and the memory bus, and the
table is of one round. Before and after were measured in turns, twelve iterations each, twice. Peak memory
is `VmHWM` of `/proc/self/status`, or `Maximum resident set size` of `/usr/bin/time -v` for runs.
