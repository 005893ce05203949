package main

import (
	"compute-agent/compute"

	"github.com/prometheus/client_golang/prometheus"
)

// operationMetrics counts and times what the manager does. The labels are words of the program:
// a few dozen series in all, however many servers there are.
type operationMetrics struct {
	operations *prometheus.HistogramVec
	steps      *prometheus.HistogramVec
}

// From a state change in the store to the slowest build.
var durationBuckets = []float64{.005, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

func newOperationMetrics() *operationMetrics {
	return &operationMetrics{
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    metricPrefix + "operation_seconds",
			Help:    "How long operations on servers took, from their acceptance to their outcome.",
			Buckets: durationBuckets,
		}, []string{"operation", "outcome"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    metricPrefix + "operation_step_seconds",
			Help:    "How long the steps of operations took, forward (do) and back (undo).",
			Buckets: durationBuckets,
		}, []string{"operation", "step", "direction", "outcome"}),
	}
}

// observe records a step or an operation that ended.
func (m *operationMetrics) observe(o compute.Observation) {
	outcome, direction := "success", "do"
	if o.Err != nil {
		outcome = "failure"
	}
	if o.Undo {
		direction = "undo"
	}
	if o.Step == "" {
		m.operations.WithLabelValues(string(o.Kind), outcome).Observe(o.Took.Seconds())
		return
	}
	m.steps.WithLabelValues(string(o.Kind), o.Step, direction, outcome).Observe(o.Took.Seconds())
}
