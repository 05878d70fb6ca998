package optim

// SGD is gradient descent at the learning rate lr with momentum mu; 0 is plain descent.
func SGD(lr Schedule, mu float64) *Chained {
	if mu == 0 {
		return Chain(LearningRate(lr))
	}
	return Chain(Momentum(mu, false), LearningRate(lr))
}

// AdamW is Adam with decoupled weight decay, W ← W − lr·(adam + decay·W) (Loshchilov and Hutter, 2019).
func AdamW(lr Schedule, b1, b2, eps, decay float64) *Chained {
	return Chain(Adam(b1, b2, eps), WeightDecay(decay), LearningRate(lr))
}
