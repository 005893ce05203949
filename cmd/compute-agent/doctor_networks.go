package main

import (
	"context"
	"strings"

	"compute-agent/network"
)

// madeNetworks names the links and namespaces of this host that bear an agent's mark.
func (p *patient) madeNetworks(ctx context.Context) (links, namespaces []string, err error) {
	return network.Host{Proc: p.path("proc"), Netns: p.path(network.Netns)}.Made(ctx)
}

// checkNetworks looks for links and namespaces that nobody looks after: guests use them, but no ended DHCP server is started again, and
// what no record asks for stays.
func (p *patient) checkNetworks(ctx context.Context) verdict {
	links, namespaces, err := p.made(ctx)
	switch {
	case err != nil:
		return warning("Run as root.", "they cannot be read: %v", err)
	case len(links)+len(namespaces) == 0:
		return ok("none of the agent's")
	case p.agentRuns():
		return ok("%d links and %d namespaces of the agent's, which looks after them", len(links), len(namespaces))
	}
	const most = 5
	all := append(namespaces, links...)
	return warning("Start the agent: it takes away what its networks do not need. To take all away, run: compute-agent network clear.",
		"%d links and %d namespaces that no agent looks after: %s", len(links), len(namespaces), strings.Join(all[:min(len(all), most)], ", "))
}
