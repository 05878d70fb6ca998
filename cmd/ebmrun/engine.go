package main

import (
	"context"
	"fmt"

	"github.com/sirupsen/logrus"

	"ebmrun/graphs"
	"ebmrun/graphs/autodiff"
	"ebmrun/runtime"
	"ebmrun/runtime/ort"
	"ebmrun/runtime/ortlib"
	"ebmrun/runtime/orttraining"
	"ebmrun/runtime/ref"
)

// engine returns what runs graphs: ONNX Runtime, or the pure-Go interpreter for
// --provider ref. Where ONNX Runtime cannot be had, the error says what mends it.
func (c *common) engine(ctx context.Context) (runtime.Engine, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.gradients == ortTraining {
		return c.trainingEngine(ctx)
	}
	if c.provider == refProvider {
		return ref.New(), nil
	}
	if c.ortLibrary != "" {
		if _, err := ortlib.Find(c.ortLibrary); err != nil {
			return nil, badInput(err)
		}
	}
	e, err := ort.Open(c.ortLibrary)
	if err != nil {
		return nil, fmt.Errorf("%w (--provider %s runs small networks without it)", err, refProvider)
	}
	return e, nil
}

// trainingEngine starts ONNX Runtime's training build, once, and has it make all
// gradients from then on.
func (c *common) trainingEngine(ctx context.Context) (runtime.Engine, error) {
	if c.training == nil {
		python, err := orttraining.For(c.provider).Find()
		if err != nil {
			return nil, fmt.Errorf("--gradients ort-training: %w", err)
		}
		e, err := orttraining.Open(ctx, python)
		if err != nil {
			return nil, fmt.Errorf("--gradients ort-training: %w", err)
		}
		c.training = e
		autodiff.Use(e.Append)
	}
	return c.training, nil
}

// closeTraining ends the worker, if there is one, and gives gradients back to
// their own rules.
func (c *common) closeTraining() {
	if c.training != nil {
		c.training.Close()
		autodiff.Use(nil)
		c.training = nil
	}
}

// engineOrRef is engine for verbs that can do without ONNX Runtime: where no
// provider was asked for by name and there is no library, it falls back to the
// interpreter and says so.
func (c *common) engineOrRef(ctx context.Context) (runtime.Engine, error) {
	e, err := c.engine(ctx)
	if err == nil || ctx.Err() != nil || c.provider != runtime.Auto || c.ortLibrary != "" {
		return e, err
	}
	c.log.WithError(err).Info("ONNX Runtime cannot be used; the pure-Go interpreter runs this, slowly")
	return ref.New(), nil
}

// options are how programs are compiled under the shared flags.
func (c *common) options() runtime.Options {
	o := runtime.Options{Provider: c.provider, Threads: c.threads, Most: c.microBatch, OnReport: c.logReport}
	if c.provider == refProvider {
		o.Provider = runtime.CPU
	}
	if c.precision == bfloat16 {
		o.Provider, o.Precision = runtime.OpenVINO, graphs.BFloat16
	}
	return o
}

// logReport says once what programs run on, and why "auto" took nothing faster.
func (c *common) logReport(r runtime.Report) {
	line := r.Library + ", provider " + r.Provider
	if r.Provider == "" || r.Provider == runtime.CPU && r.Reason == "" {
		return
	}
	c.reportMu.Lock()
	defer c.reportMu.Unlock()
	if c.reported[line+r.Reason] {
		return
	}
	c.reported[line+r.Reason] = true
	f := logrus.Fields{}
	if r.Reason != "" {
		f["reason"] = r.Reason
	}
	c.log.WithFields(f).Info(line)
}
