package sampler_test

import (
	"testing"

	"ebmrun/training/sampler"
	"ebmrun/training/sampler/samplertest"
)

func TestKernels(t *testing.T) {
	for name, newKernel := range map[string]func(noise float32) sampler.Kernel{
		"Langevin": func(noise float32) sampler.Kernel { return sampler.Langevin{Size: 0.25, Noise: noise} },
		"Langevin with clips": func(noise float32) sampler.Kernel {
			return sampler.Langevin{Size: 0.25, Noise: noise, GradClip: 30, ClampMin: -30, ClampMax: 30}
		},
		"Anneal": func(noise float32) sampler.Kernel {
			return sampler.Anneal{
				Size:  func(step uint64) float32 { return 0.2 + 0.3/float32(1+step) },
				Noise: func(uint64) float32 { return noise },
			}
		},
		"MALA": metropolis(func() sampler.Kernel { return sampler.MALA{Size: 0.9} }),
		"HMC":  metropolis(func() sampler.Kernel { return sampler.HMC{Size: 0.4, Leapfrogs: 3, Mass: 2} }),
		"Adapt": metropolis(func() sampler.Kernel {
			return &sampler.Adapt{Kernel: sampler.MALA{}, Size: 0.5, Target: 0.7}
		}),
	} {
		t.Run(name, func(t *testing.T) { samplertest.Run(t, newKernel) })
	}
}

// metropolis makes kernels that have no noise multiplier.
func metropolis(newKernel func() sampler.Kernel) func(float32) sampler.Kernel {
	return func(noise float32) sampler.Kernel {
		if noise == 0 {
			return nil
		}
		return newKernel()
	}
}
