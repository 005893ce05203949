package main

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"compute-agent/compute"
	"compute-agent/network/fabric"
	"compute-agent/virt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	metricPrefix = "compute_agent_"
	// scrapeLimit bounds what one scrape asks of the hypervisor; Prometheus gives up after 10 s.
	scrapeLimit = 8 * time.Second
	// scrapeReuse is how long an answer serves further scrapers.
	scrapeReuse = time.Second
)

// newMetricsHandler serves the metrics of the agent, its operations, its node and its guests.
func newMetricsHandler(ops *operationMetrics, source guestSource, log *slog.Logger, others ...prometheus.Collector) http.Handler {
	registry := prometheus.NewRegistry()
	b := readBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: metricPrefix + "build_info", Help: "1, with what the agent was built from as labels.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.Go},
	})
	info.Set(1)
	registry.MustRegister(info, ops.operations, ops.steps, newHostCollector(source, log),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(others...)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return hurried(mux)
}

// networkMetrics count what was put right of the host's networks; none without networks.
func networkMetrics(f *fabric.Fabric) []prometheus.Collector {
	if f == nil {
		return nil
	}
	opts := func(what string) prometheus.CounterOpts {
		return prometheus.CounterOpts{
			Name:        metricPrefix + "network_repairs_total",
			Help:        "What of the host's networks somebody else had changed or had ended by itself, and was put right.",
			ConstLabels: prometheus.Labels{"what": what},
		}
	}
	return []prometheus.Collector{
		prometheus.NewCounterFunc(opts("link"), func() float64 { links, _, _ := f.Repairs(); return float64(links) }),
		prometheus.NewCounterFunc(opts("filter"), func() float64 { _, filters, _ := f.Repairs(); return float64(filters) }),
		prometheus.NewCounterFunc(opts("dhcp"), func() float64 { _, _, servers := f.Repairs(); return float64(servers) }),
	}
}

// hurried keeps a client that neither sends nor reads from holding its connection for ever.
func hurried(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, deadline := http.NewResponseController(w), time.Now().Add(2*scrapeLimit)
		_ = conn.SetWriteDeadline(deadline) // fails only where there is no connection, as in tests
		_ = conn.SetReadDeadline(deadline)
		next.ServeHTTP(w, r)
	})
}

// guestSource is what the host's metrics are made from.
type guestSource struct {
	guests func(context.Context) ([]virt.Guest, error)
	node   func(context.Context) (compute.Node, error)
}

// hostCollector asks the hypervisor for all guests in one call for each scrape.
//
// Its labels are a guest's UUID and the hypervisor's name for it (instance-0000002a), and the
// devices' names. Names that users give never become labels. A guest with one disk and one
// interface is 20 series, which end with the guest.
type hostCollector struct {
	source guestSource
	log    *slog.Logger
	now    func() time.Time

	mu     sync.Mutex // held over the call, so that scrapers who come together share its answer
	taken  time.Time
	sample []prometheus.Metric
}

func newHostCollector(source guestSource, log *slog.Logger) *hostCollector {
	return &hostCollector{source: source, log: log, now: time.Now}
}

// Describe sends nothing: the collector's metrics are those that Collect finds.
func (c *hostCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *hostCollector) Collect(out chan<- prometheus.Metric) {
	for _, m := range c.current() {
		out <- m
	}
}

func (c *hostCollector) current() []prometheus.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken.IsZero() || c.now().Sub(c.taken) >= scrapeReuse {
		c.sample = c.ask()
		c.taken = c.now()
	}
	return c.sample
}

// ask returns what can be had. What cannot is missing from the metrics, and hypervisor_up says so.
func (c *hostCollector) ask() []prometheus.Metric {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	var s sampler
	guests, err := c.source.guests(ctx)
	up := 1.0
	if err != nil {
		up = 0
		c.log.Debug("no guests for the metrics", "error", err)
	}
	s.add(hypervisorUp, up)
	for _, g := range guests {
		s.guest(g)
	}
	if node, err := c.source.node(ctx); err == nil {
		s.node(node)
	} else {
		c.log.Debug("no node for the metrics", "error", err)
	}
	return s.metrics
}

// metric is one series family of the host.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(metricPrefix+name, help, labels, nil), prometheus.GaugeValue}
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc(metricPrefix+name, help, labels, nil), prometheus.CounterValue}
}

var (
	hypervisorUp = gauge("hypervisor_up", "1 if the hypervisor answered, 0 if not; guests are missing then.")

	nodeVCPUs       = gauge("node_vcpus", "CPUs of the host.")
	nodeVCPUsUsed   = gauge("node_vcpus_used", "vCPUs that servers claim.")
	nodeMemory      = gauge("node_memory_bytes", "Memory of the host.")
	nodeMemoryUsed  = gauge("node_memory_used_bytes", "Memory that servers claim, with what is kept back for the host.")
	nodeDisk        = gauge("node_disk_bytes", "Size of the file system that holds the servers.")
	nodeDiskUsed    = gauge("node_disk_used_bytes", "Disk that servers claim.")
	nodeServers     = gauge("node_servers", "Servers of this agent.")
	nodeRunning     = gauge("node_running_guests", "Guests that run, also those of others.")
	guestState      = gauge("guest_power_state", "Power state in Nova's numbers: 0 none, 1 running, 3 paused, 4 shut down, 6 crashed, 7 suspended.", "uuid", "name")
	guestVCPUs      = gauge("guest_vcpus", "vCPUs of the guest.", "uuid", "name")
	guestCPU        = counter("guest_cpu_seconds_total", "CPU time of the guest on the host.", "uuid", "name")
	guestMemory     = gauge("guest_memory_bytes", "Memory that the guest has now.", "uuid", "name")
	guestResident   = gauge("guest_resident_bytes", "Memory of the host that the guest occupies.", "uuid", "name")
	guestUnused     = gauge("guest_unused_bytes", "Memory that the guest itself has free, if it tells.", "uuid", "name")
	diskReads       = counter("guest_disk_reads_total", "Read requests.", "uuid", "name", "device")
	diskReadBytes   = counter("guest_disk_read_bytes_total", "Bytes read.", "uuid", "name", "device")
	diskWrites      = counter("guest_disk_writes_total", "Write requests.", "uuid", "name", "device")
	diskWriteBytes  = counter("guest_disk_written_bytes_total", "Bytes written.", "uuid", "name", "device")
	diskCapacity    = gauge("guest_disk_capacity_bytes", "Size that the guest sees.", "uuid", "name", "device")
	diskAllocated   = gauge("guest_disk_allocated_bytes", "Space that the host has given.", "uuid", "name", "device")
	nicReceived     = counter("guest_network_received_bytes_total", "Bytes that the guest received.", "uuid", "name", "device")
	nicReceivedPkts = counter("guest_network_received_packets_total", "Packets that the guest received.", "uuid", "name", "device")
	nicReceiveErrs  = counter("guest_network_receive_errors_total", "Receive errors and drops.", "uuid", "name", "device")
	nicSent         = counter("guest_network_sent_bytes_total", "Bytes that the guest sent.", "uuid", "name", "device")
	nicSentPkts     = counter("guest_network_sent_packets_total", "Packets that the guest sent.", "uuid", "name", "device")
	nicSendErrs     = counter("guest_network_send_errors_total", "Send errors and drops.", "uuid", "name", "device")
)

// sampler gathers the metrics of one moment.
type sampler struct{ metrics []prometheus.Metric }

func (s *sampler) add(m metric, value float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "�") // names of guests that others made may be anything
	}
	s.metrics = append(s.metrics, prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...))
}

func (s *sampler) guest(g virt.Guest) {
	s.add(guestState, float64(g.State), g.ID, g.Name)
	s.add(guestVCPUs, float64(g.VCPUs), g.ID, g.Name)
	s.add(guestCPU, g.CPUTime.Seconds(), g.ID, g.Name)
	s.add(guestMemory, float64(g.BalloonKiB)*1024, g.ID, g.Name)
	s.add(guestResident, float64(g.ResidentKiB)*1024, g.ID, g.Name)
	s.add(guestUnused, float64(g.UnusedKiB)*1024, g.ID, g.Name)
	for _, d := range g.Disks {
		s.add(diskReads, float64(d.ReadRequests), g.ID, g.Name, d.Target)
		s.add(diskReadBytes, float64(d.ReadBytes), g.ID, g.Name, d.Target)
		s.add(diskWrites, float64(d.WriteRequests), g.ID, g.Name, d.Target)
		s.add(diskWriteBytes, float64(d.WriteBytes), g.ID, g.Name, d.Target)
		s.add(diskCapacity, float64(d.CapacityBytes), g.ID, g.Name, d.Target)
		s.add(diskAllocated, float64(d.AllocatedBytes), g.ID, g.Name, d.Target)
	}
	for _, n := range g.NICs {
		s.add(nicReceived, float64(n.RxBytes), g.ID, g.Name, n.Target)
		s.add(nicReceivedPkts, float64(n.RxPackets), g.ID, g.Name, n.Target)
		s.add(nicReceiveErrs, float64(n.RxErrors+n.RxDrops), g.ID, g.Name, n.Target)
		s.add(nicSent, float64(n.TxBytes), g.ID, g.Name, n.Target)
		s.add(nicSentPkts, float64(n.TxPackets), g.ID, g.Name, n.Target)
		s.add(nicSendErrs, float64(n.TxErrors+n.TxDrops), g.ID, g.Name, n.Target)
	}
}

func (s *sampler) node(n compute.Node) {
	s.add(nodeVCPUs, float64(n.CPUs))
	s.add(nodeVCPUsUsed, float64(n.CPUsUsed))
	s.add(nodeMemory, float64(n.MemoryMiB)*(1<<20))
	s.add(nodeMemoryUsed, float64(n.MemoryMiBUsed)*(1<<20))
	s.add(nodeDisk, float64(n.DiskGiB)*(1<<30))
	s.add(nodeDiskUsed, float64(n.DiskGiBUsed)*(1<<30))
	s.add(nodeServers, float64(n.Servers))
	s.add(nodeRunning, float64(n.RunningServers))
}
