package main

import (
	"os"
	"path/filepath"
	"testing"
)

// latent is a run folder of every system with codes, of a few iterations on discs,
// squares and pluses; frames are left out.
func latent(t *testing.T, system string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), system)
	args := []string{"train", system, "--data", "synthetic/glyph16", "--limit", "60", "--classes", "0,1,2", "--provider", "ref", "--quiet", "--out", dir, "--steps", "2", "--set", "batch=4",
		"--set", "generator_spec={codes: 2, start: 4, filters: 2, activation: leaky, tanh: true, layers: [{kernel: 4, stride: 4}]}"}
	encoder := []string{"--set", "encoder_spec={layers: [{filters: 2, kernel: 4, stride: 4}], activation: leaky}"}
	ebmrun(t, append(args, map[string][]string{
		"latent-ebm": {"--set", "hidden=[5]", "--set", "infer=5", "--set", "prior.steps=3", "--set", "posterior.steps=3"},
		"vae":        append(encoder, "--set", "draws=3", "--set", "rounds=3"),
		"coopvaebm":  append(encoder, "--set", "rounds=3", "--set", "drafts=5", "--set", "langevin.steps=3", "--set", "spec={layers: [{filters: 2, kernel: 4, stride: 4}, {filters: 1, kernel: 4}], activation: leaky}"),
	}[system]...)...).wantOut(t)
	return dir
}

// TestLatent: what the systems with codes can do, from a run folder.
func TestLatent(t *testing.T) {
	for system, files := range map[string][]string{
		"latent-ebm": {"prior.onnx", "generator.onnx"},
		"vae":        {"encoder.onnx", "generator.onnx"},
		"coopvaebm":  {"energy.onnx", "energy-grad.onnx", "encoder.onnx", "generator.onnx"},
	} {
		t.Run(system, func(t *testing.T) {
			run, dir := latent(t, system), t.TempDir()
			out := filepath.Join(dir, "judged.csv")
			ebmrun(t, "apply", "anomaly", run, "--provider", "ref", "--limit", "20", "-o", out).wantOut(t, "20 examples", "average precision", "of a guess's")
			head, rows := readCSV(t, out)
			odd := 0
			for _, r := range rows {
				if (r[1] == 3) != (r[2] == 1) {
					t.Errorf("an example of class %g is an anomaly: %g", r[1], r[2])
				}
				odd += int(r[2])
			}
			columns := map[string]int{"latent-ebm": 7, "vae": 7, "coopvaebm": 4}[system] // the judgement's parts
			if len(rows) != 20 || len(head) != columns || odd == 0 || odd == 20 {
				t.Errorf("%d rows of %v, %d anomalies", len(rows), head, odd)
			}
			ebmrun(t, "apply", "anomaly", run, "--provider", "ref", "--limit", "20", "--share", "0.4", "-o", out).wantOut(t, "areas where 40.0 %", "of a guess's 0.400", "ROC")
			ebmrun(t, "apply", "anomaly", run, "--provider", "ref", "--limit", "20", "--share", "1.4", "-o", out).wantError(t, statusBadInput, "share of positives 1.4")
			ebmrun(t, "apply", "anomaly", run, "--provider", "ref", "--limit", "20", "--anomalous", "7", "-o", out).wantError(t, statusBadInput, "positives")
			ebmrun(t, "sample", run, "--provider", "ref", "--n", "4", "-o", filepath.Join(dir, "s.png"), "--quiet").wantOut(t)
			for _, task := range []string{"reconstruct", "interpolate"} {
				ebmrun(t, "apply", task, run, "--provider", "ref", "-o", filepath.Join(dir, task+".png"), "--quiet").wantOut(t)
			}
			if _, err := os.Stat(filepath.Join(dir, "reconstruct-z.npy")); err != nil {
				t.Errorf("codes of the reconstructions: %v", err)
			}
			likelihood := []string{"apply", "likelihood", run, "--provider", "ref", "--limit", "2", "--chains", "3", "--levels", "5", "-o", out}
			if system != "latent-ebm" {
				ebmrun(t, likelihood...).wantError(t, statusBadInput, "has not what likelihood needs")
			} else {
				ebmrun(t, likelihood...).wantOut(t, "log Z", "2 examples", "nats")
				if _, rows := readCSV(t, out); len(rows) != 2 || !(rows[0][2] < 0) || !(rows[0][3] > 0) {
					t.Errorf("likelihoods %v", rows)
				}
				ebmrun(t, append(likelihood, "--chains", "1")...).wantError(t, statusBadInput, "--chains")
			}
			ebmrun(t, "apply", "recover", run, "--provider", "ref", "--n", "3", "-o", filepath.Join(dir, "r.png"), "--hidden", "0.5").wantOut(t, "missing")
			ebmrun(t, "export", run, "--to", "onnx", "-o", filepath.Join(dir, "onnx"), "--quiet").wantOut(t)
			for _, f := range files {
				if m, _ := filepath.Glob(filepath.Join(dir, "onnx", f)); len(m) != 1 {
					t.Errorf("%s is not exported", f)
				}
			}
			ebmrun(t, "train", system, "--resume", "--steps", "3", "--out", run, "--quiet").wantOut(t)
		})
	}
}
