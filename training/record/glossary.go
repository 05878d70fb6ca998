package record

import (
	"slices"
	"strings"
)

// term explains a family of metrics. A metric belongs to the first family that has the name of one
// of the metric's parts between / and ., letter case and - or _ aside: energy/grad_norm is a
// gradient norm.
type term struct {
	Title    string
	Meaning  string
	Headline bool // shown in the summary at the top
	names    []string
}

var glossary = []term{
	{"Value function V", "Mean score of data minus mean score of samples. It hovers near zero when the samples are as likely as the data; a lasting drift away from zero means that the two separate.", true, []string{"v", "value", "energy_gap"}},
	{"Sampler drift r", "Mean length of the drift term of one sampling step. Zero means that the chains stand still, sudden growth that the energy is too steep for the step size.", true, []string{"r", "drift"}},
	{"Distance moved", "How far the chains of an iteration end from where they began, as root mean square.", false, []string{"displacement"}},
	{"Gradient norms", "Length of the parameter gradient before clipping. Steady is healthy; growth by orders of magnitude comes before divergence.", true, []string{"grad_norm", "gradient_norm", "grad"}},
	{"FD-PCA", "Fréchet distance between data and samples on the leading principal components of the data. Lower is better. It is not FID and cannot be compared with it.", true, []string{"fd_pca", "fdpca"}},
	{"FID", "Fréchet distance on the features of the network named in the settings. Lower is better; it depends on the number of samples.", true, []string{"fid"}},
	{"Bits per dimension", "Negative log-likelihood of held-out data. Lower is better.", true, []string{"bpd", "bits_per_dim", "nll"}},
	{"Reconstruction error", "Mean squared error between data and what the model makes of it. Lower is better.", true, []string{"mse", "pca_mse", "reconstruction", "recon", "rmse", "fit", "mse_drafts"}},
	{"Gap of statistics", "Relative difference between the statistics of data and of samples that the model is to match. Lower is better.", true, []string{"gap", "moment_gap", "response_gap", "feature_gap", "autocorrelation_gap", "gap_rest"}},
	{"Sharpness", "Squared differences of neighbouring pixels in samples, over those in the picture: 1 is as sharp as the picture, less is blurred.", false, []string{"sharpness"}},
	{"Energy distance", "Distance between the distributions of data and of samples; zero only if they are equal. Lower is better.", true, []string{"energy_distance", "mmd", "mmd2", "swd", "patch_swd", "clip_swd"}},
	{"Chamfer distance", "Mean over real sets of points of the distance to the nearest draw. Lower is better.", true, []string{"mmd_cd"}},
	{"Coverage", "Share of real sets that are nearest to some draw. Higher is better.", false, []string{"coverage"}},
	{"Told apart", "How often the nearest neighbour tells draws from real sets: one half if they are alike.", false, []string{"nn_accuracy"}},
	{"Occupied places", "Jensen-Shannon divergence between where points of draws and of real sets lie. Lower is better.", false, []string{"jsd"}},
	{"Errors of paths", "Distance between predicted and true paths, mean over moments (ADE), at the last (FDE), and at each quarter (RMSE). Lower is better.", true, []string{"ade", "fde", "median_ade", "min_ade", "min_fde", "rmse_1_of_4", "rmse_2_of_4", "rmse_3_of_4", "rmse_4_of_4"}},
	{"Clear paths", "Share of draws in which nobody comes too near to an obstacle or another. Higher is better.", false, []string{"clear"}},
	{"Errors of maps", "Mean absolute error of saliency maps, or on the strokes that are known of them. Lower is better.", true, []string{"mae", "stroke_error"}},
	{"Disagreement of maps", "Mean standard deviation between maps drawn for one picture: how unsure the model is.", false, []string{"deviation"}},
	{"Agreement of maps", "From 0 to 1 between saliency maps and the true ones: of structure (S), of regions (F), of places (E). Higher is better.", false, []string{"s_measure", "mean_f", "max_f", "mean_e", "weighted_f"}},
	{"Cycle error", "Mean absolute difference between examples and what comes of them there and back. Lower is better.", true, []string{"cycle_l1"}},
	{"Revision", "Squared distance, per example, that chains move drafts. It falls as drafts become good.", false, []string{"revision"}},
	{"Accuracy", "Share of right answers on held-out data.", true, []string{"accuracy", "acc", "auprc"}},
	{"Divergence from the true density", "Kullback-Leibler divergence on a grid, where the true density is known. Lower is better.", true, []string{"kl", "kl_grid"}},
	{"Divergence of codes", "Kullback-Leibler divergence of the encoder's Gaussians from the prior of codes, nats. Near zero the codes are ignored.", false, []string{"code_kl"}},
	{"Evidence lower bound", "A lower bound on the log-likelihood of a batch, nats. Higher is better.", true, []string{"elbo"}},
	{"Energy gap of codes", "Mean energy of codes inferred from data minus that of codes drawn from the prior. Near zero the prior has the codes of data.", true, []string{"u_gap"}},
	{"Peak signal-to-noise ratio", "In decibels, against the true picture. Higher is better.", true, []string{"psnr"}},
	{"Structural similarity", "From 0 to 1 against the true picture. Higher is better.", true, []string{"ssim"}},
	{"Chain agreement R-hat", "Spread between chains over spread within them. Near 1 means that they agree; above 1.05 they have not mixed.", false, []string{"rhat", "r_hat"}},
	{"Effective sample size", "Number of independent draws that the chains are worth.", false, []string{"ess"}},
	{"Truth taught", "Share of true examples in what the generator is taught; the rest are revised drafts.", false, []string{"truth"}},
	{"Co-occurrence", "Distance between how often grey levels meet at neighbouring pixels in the picture and in samples. Lower is better.", true, []string{"co_occurrence"}},
	{"Codes", "Mean square of the inferred codes: 1 is that of their prior.", false, []string{"code_square"}},
	{"Resolution", "What is being learned: the side of the pictures, or the number of the scale; fade is the weight of the layers that came last.", false, []string{"side", "scale", "fade"}},
	{"Loss", "What the optimizer descends. In contrastive learning it is no measure of progress.", false, []string{"loss"}},
	{"Objective", "What decides which checkpoint is the best. Lower is better.", false, []string{"objective"}},
	{"Sample statistics", "Mean, spread and range of sample values; they should come close to those of the data.", false, []string{"sample_mean", "sample_std", "sample_min", "sample_max", "data_mean", "data_std", "syn_mean", "syn_std", "syn_min", "syn_max", "mean", "std", "min", "max"}},
	{"Saturated share", "Share of sample values at the ends of the range. Growth means that the chains run into the walls.", false, []string{"saturation", "saturated", "clipped", "clip_share", "sample_clipped"}},
	{"Diversity", "Mean distance between samples. A fall towards zero means collapse.", false, []string{"diversity", "pairwise"}},
	{"Acceptance rate", "Share of accepted proposals. About 0.57 is best for Langevin proposals, 0.65 for Hamiltonian ones.", false, []string{"accept", "accepted", "acceptance", "acceptance_rate"}},
	{"Learning rate", "Step size of the optimizer.", false, []string{"lr", "learning_rate"}},
	{"Time", "Seconds that a step took.", false, []string{"seconds", "time", "sampling_seconds", "learning_seconds"}},
	{"Energy or score", "Mean energy (low is likely) or score (high is likely) over a batch. What counts is how data compares with samples, not the level.", false, []string{"energy", "score", "energy_data", "energy_samples", "energy_sample", "score_data", "score_samples", "score_sample", "energy_pos", "energy_neg"}},
}

// lookup returns the position of name's family in the glossary, or −1.
func lookup(name string) int {
	parts := strings.FieldsFunc(strings.ReplaceAll(strings.ToLower(name), "-", "_"), func(r rune) bool { return r == '/' || r == '.' })
	return slices.IndexFunc(glossary, func(t term) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return slices.Contains(t.names, part) })
	})
}

// legends say what pictures of a tag show, or of SYSTEM/tag where that is the system's own.
var legends = map[string]string{
	"drafts":          "What the generator draws, before the energy revises it.",
	"solutions":       "From top to bottom: what is given, drafts, drafts revised by the energy, truth.",
	"a-to-b":          "From top to bottom: examples of the first domain, their translations, those revised by the energy.",
	"b-to-a":          "From top to bottom: examples of the second domain, their translations, those revised by the energy.",
	"reconstructions": "Held-out examples above their reconstructions.",
	"interpolation":   "Each row goes from one draw to another.",
	"interpolations":  "Each row goes from one draw to another.",
	"recovery":        "The picture, and what the recovery has made of it.",
	"recovered":       "From top to bottom: incomplete examples, what is recovered, the truth where it is known.",
	"manifold":        "What codes on a grid give.",
	"fitted":          "Draws by codes of a Gaussian fitted to the inferred ones, in the place of their prior.",
	"grids":           "A few samples at each resolution, from coarse to fine.",
	"atoms":           "The wavelets, as bars.",
	"sketches":        "Pictures above the wavelets that explain them.",
	"templates":       "Each template, whole and by parts, as bars.",
	"parts":           "A draw of each template, whole and by parts.",

	"mrf/samples":                       "What is learned from, above samples.",
	"frame/samples":                     "What is learned from, above samples.",
	"inhomogeneous-frame/samples":       "What is learned from, above samples.",
	"sparse-frame/samples":              "What is learned from, above samples.",
	"hierarchical-sparse-frame/samples": "For each template what it found in pictures, above draws of it.",
	"one-sided-translation/samples":     "From top to bottom: examples, their translations, where they were changed.",
	"generative-swin/samples":           "From top to bottom: pictures, their depth if it is known, true maps, means of the maps drawn, how far those disagree.",
	"inverse-optimal-control/samples":   "Predicted paths in blue, experts' in orange; green dots are where agents start, grey discs obstacles, the grey line the middle of the lane. Of a regulator: predicted controls over time.",
	"sequence-cycle-coopnets/a-to-b":    "Clips of the first domain, a row each, above what becomes of them.",
	"sequence-cycle-coopnets/samples":   "Clips, a row each.",
	"video/samples":                     "Clips, a row each.",
}
