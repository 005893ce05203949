package api_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"compute-agent/compute"
	"compute-agent/virt"
)

// A list of 1,000 servers with details, from the store to the bytes of the answer.
func BenchmarkListServersDetail(b *testing.B) {
	s := newSite(b)
	s.addServers(1000)
	for _, version := range []string{"2.1", "2.88"} {
		b.Run(version, func(b *testing.B) {
			token := s.token(bob)
			bytes := 0
			for b.Loop() {
				r := httptest.NewRequest("GET", "/compute/v2.1/servers/detail", nil)
				r.Header.Set("X-Auth-Token", token)
				r.Header.Set("OpenStack-API-Version", "compute "+version)
				w := httptest.NewRecorder()
				s.server.Config.Handler.ServeHTTP(w, r)
				if w.Code != 200 || w.Body.Len() < 500_000 {
					b.Fatalf("%d, %d bytes", w.Code, w.Body.Len())
				}
				bytes = w.Body.Len()
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/list")
			b.ReportMetric(float64(bytes), "bytes")
		})
	}
}

// addServers puts built servers into the store, past the manager.
func (s *site) addServers(n int) {
	s.t.Helper()
	now := time.Now()
	s.must(s.store.Update(s.t.Context(), func(w compute.Writer) error {
		for i := range n {
			_, err := w.InsertServer(compute.Server{
				ID: uuid.NewString(), Name: fmt.Sprintf("server-%d", i), UserID: "bob-id", ProjectID: "builders-id",
				VM: compute.Active, Power: virt.PowerRunning, ImageID: uuid.NewString(),
				Flavor:   compute.Flavor{ID: "1", Name: "m1.small", VCPUs: 1, MemoryMiB: 2048, DiskGiB: 20, ExtraSpecs: map[string]string{"hw:cpu_policy": "shared"}},
				Image:    compute.ImageRef{Name: "debian", Checksum: "00", Format: "qcow2", Properties: map[string]string{"os_distro": "debian"}},
				Metadata: map[string]string{"role": "web", "tier": "1"},
				Created:  now, Updated: now, Launched: now,
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
}
