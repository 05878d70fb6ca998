package training

import "context"

// An Autoencoder is a [Generator] with an encoder, the Gaussian
// q(z | x) = N(mean(x), diag e^logvar(x)).
type Autoencoder interface {
	Generator

	// Encode writes mean and log variance of q(z | x_i), both [n, Codes].
	Encode(ctx context.Context, x, mean, logvar []float32) error

	// LearnBound takes z_i = mean(x_i) + e^(logvar(x_i)/2)·noise_i, writes
	// e_i = ‖x_i − g(z_i)‖² and kl_i = KL(q(z | x_i) ‖ N(0, I)) of n = len(w)
	// examples and sets the gradient of every parameter, the encoder's too, to that
	// of Σ w_i·(e_i/(2σ²) + beta·kl_i).
	LearnBound(ctx context.Context, x, noise, w []float32, beta float32, e, kl []float32) error
}
