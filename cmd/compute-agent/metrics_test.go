package main

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"compute-agent/compute"
	"compute-agent/virt"
)

// countingSource gives one guest and counts how often it is asked.
type countingSource struct {
	asked int
	err   error
}

func (s *countingSource) guests(context.Context) ([]virt.Guest, error) {
	s.asked++
	return []virt.Guest{{
		ID: "11111111-1111-4111-8111-111111111111", Name: "instance-00000001", State: virt.PowerRunning, VCPUs: 2,
		CPUTime: 1500 * time.Millisecond, BalloonKiB: 1024,
		Disks: []virt.DiskStats{{Target: "vda", Path: "/secret/path", ReadBytes: 42}},
		NICs:  []virt.NICStats{{Target: "tap0", RxBytes: 7, RxErrors: 1, RxDrops: 2}},
	}, {ID: "22222222-2222-4222-8222-222222222222", Name: "not\xffutf8\n"}}, s.err
}

func (s *countingSource) node(context.Context) (compute.Node, error) {
	return compute.Node{CPUs: 4, CPUsUsed: 2, MemoryMiB: 1024, Servers: 1}, nil
}

func metricsOf(t *testing.T, s *countingSource, ops *operationMetrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	h := newMetricsHandler(ops, guestSource{s.guests, s.node}, quietLogger())
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// scraper is a connection that notes its deadlines.
type scraper struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (s *scraper) SetReadDeadline(t time.Time) error  { s.read = t; return nil }
func (s *scraper) SetWriteDeadline(t time.Time) error { s.write = t; return nil }

func TestScrapersHaveDeadlines(t *testing.T) {
	source, w := &countingSource{}, &scraper{ResponseRecorder: httptest.NewRecorder()}
	h := newMetricsHandler(newOperationMetrics(), guestSource{source.guests, source.node}, quietLogger())
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", strings.NewReader("never")))
	if w.Code != 200 || w.read.IsZero() || w.write.IsZero() {
		t.Errorf("status %d, deadlines %v %v", w.Code, w.read, w.write)
	}
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+text, "\n"+l+"\n") {
			t.Errorf("no line %q in\n%s", l, text)
		}
	}
}

func TestMetricsOfGuestsAndNodeComeFromOneCall(t *testing.T) {
	s := &countingSource{}
	text := metricsOf(t, s, newOperationMetrics())
	const id = `name="instance-00000001",uuid="11111111-1111-4111-8111-111111111111"`
	wantLines(t, text,
		"compute_agent_hypervisor_up 1",
		"compute_agent_guest_power_state{"+id+"} 1",
		"compute_agent_guest_cpu_seconds_total{"+id+"} 1.5",
		"compute_agent_guest_memory_bytes{"+id+"} 1.048576e+06",
		`compute_agent_guest_disk_read_bytes_total{device="vda",`+id+"} 42",
		`compute_agent_guest_network_received_bytes_total{device="tap0",`+id+"} 7",
		`compute_agent_guest_network_receive_errors_total{device="tap0",`+id+"} 3",
		"compute_agent_node_vcpus 4", "compute_agent_node_vcpus_used 2", "compute_agent_node_servers 1",
	)
	if s.asked != 1 {
		t.Errorf("one scrape asked for the guests %d times", s.asked)
	}
	if strings.Contains(text, "/secret/path") {
		t.Error("a path of the host is in the metrics")
	}
}

func TestMetricsSayThatTheHypervisorIsAway(t *testing.T) {
	text := metricsOf(t, &countingSource{err: errors.New("gone")}, newOperationMetrics())
	wantLines(t, text, "compute_agent_hypervisor_up 0", "compute_agent_node_vcpus 4")
}

func TestScrapesTogetherShareAnAnswer(t *testing.T) {
	s := &countingSource{}
	c := newHostCollector(guestSource{s.guests, s.node}, quietLogger())
	now := time.Unix(1, 0)
	c.now = func() time.Time { return now }
	for range 3 {
		c.current()
	}
	if s.asked != 1 {
		t.Errorf("asked %d times within a moment, want once", s.asked)
	}
	now = now.Add(scrapeReuse)
	c.current()
	if s.asked != 2 {
		t.Errorf("asked %d times, want again after %s", s.asked, scrapeReuse)
	}
}

func TestOperationMetrics(t *testing.T) {
	ops := newOperationMetrics()
	ops.observe(compute.Observation{Kind: compute.OpCreate, Step: "disks", Took: 30 * time.Millisecond})
	ops.observe(compute.Observation{Kind: compute.OpCreate, Step: "guest", Took: time.Second, Err: errors.New("x")})
	ops.observe(compute.Observation{Kind: compute.OpCreate, Step: "disks", Undo: true, Took: time.Millisecond})
	ops.observe(compute.Observation{Kind: compute.OpCreate, Took: 2 * time.Second, Err: errors.New("x")})
	wantLines(t, metricsOf(t, &countingSource{}, ops),
		`compute_agent_operation_seconds_count{operation="create",outcome="failure"} 1`,
		`compute_agent_operation_seconds_sum{operation="create",outcome="failure"} 2`,
		`compute_agent_operation_step_seconds_count{direction="do",operation="create",outcome="success",step="disks"} 1`,
		`compute_agent_operation_step_seconds_count{direction="do",operation="create",outcome="failure",step="guest"} 1`,
		`compute_agent_operation_step_seconds_count{direction="undo",operation="create",outcome="success",step="disks"} 1`,
		`compute_agent_operation_step_seconds_bucket{direction="do",operation="create",outcome="success",step="disks",le="0.05"} 1`,
	)
}
