package router_test

import (
	"fmt"
	"testing"

	"compute-agent/internal/command"
	"compute-agent/network/firewall"
	"compute-agent/network/router"
)

// BenchmarkApply is what a router with 100 floating IPs costs: all of it, nothing that changes, and one floating IP that moves.
func BenchmarkApply(b *testing.B) {
	c := newCloud(b)
	for n := range 100 {
		c.router.FloatingIPs = append(c.router.FloatingIPs, floating(fmt.Sprintf("203.0.113.%d", 10+n), fmt.Sprintf("10.0.0.%d", 10+n)))
	}
	empty := router.Router{ID: "r1", Namespace: c.ns.name, Outside: qg}
	rs := routers(b, command.Exec{}, firewall.VariantDefault)
	b.Run("full", func(b *testing.B) {
		for b.Loop() {
			apply(b, rs, c.router)
			b.StopTimer()
			apply(b, rs, empty)
			b.StartTimer()
		}
	})
	apply(b, rs, c.router)
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			apply(b, rs, c.router)
		}
	})
	b.Run("one moves", func(b *testing.B) {
		n := byte(0)
		for b.Loop() {
			n++
			c.router.FloatingIPs[50].Fixed = addr(fmt.Sprintf("10.0.1.%d", 1+n%200))
			apply(b, rs, c.router)
		}
	})
}
