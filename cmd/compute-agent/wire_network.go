package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"compute-agent/compute"
	"compute-agent/internal/command"
	"compute-agent/network"
	"compute-agent/network/fabric"
	"compute-agent/network/metadata"
)

// networksDir holds the files of DHCP servers, in the state directory.
const networksDir = "networks"

// metadataSource is the manager, which is made after what asks it. Nobody asks before it has started.
type metadataSource struct{ manager *compute.Manager }

// Documents implements metadata.Source.
func (s *metadataSource) Documents(ctx context.Context, who metadata.Asker) (metadata.Documents, error) {
	return s.manager.Documents(ctx, who)
}

// KeepPassword implements metadata.Source.
func (s *metadataSource) KeepPassword(ctx context.Context, who metadata.Asker, password string) error {
	return s.manager.KeepPassword(ctx, who, password)
}

// openNetworks makes the network service and what makes the host ready for it; nothing of the host is touched yet. Without networks there
// is only the service, whose records stay what they are.
func (a *agent) openNetworks(c *Config) (*compute.NetworkService, *compute.HostNetwork, *metadataSource, error) {
	source := &metadataSource{}
	site, siteErr := c.Network.site()
	provider, providerErr := c.Network.provider()
	if err := errors.Join(siteErr, providerErr); err != nil {
		return nil, nil, nil, exitError{exitUsage, err}
	}
	if !c.networked() {
		return compute.NewNetworkService(compute.NetworkOptions{Store: a.store, Provider: provider, Logger: a.log}), nil, source, nil
	}
	options := fabricOptions(c, a.log)
	options.Metadata = source
	f, err := fabric.Open(options)
	if err != nil {
		return nil, nil, nil, errors.Join(errors.New("networks cannot be served (networks: false does without)"), err)
	}
	a.onClose(func() error { f.Close(); return nil })
	a.fabric = f
	hostNetwork := compute.NewHostNetwork(a.store, f, site, a.log)
	a.onClose(func() error { hostNetwork.Close(); return nil })
	service := compute.NewNetworkService(compute.NetworkOptions{Store: a.store, Provider: provider, Changed: hostNetwork.SyncSoon, Logger: a.log})
	return service, hostNetwork, source, nil
}

func fabricOptions(c *Config, log *slog.Logger) fabric.Options {
	return fabric.Options{
		Host: network.Host{Proc: "/proc", Netns: network.Netns, State: c.RunDir, Run: command.Exec{}}, Runner: command.Exec{}, Variant: c.Network.variant(),
		Dir: filepath.Join(c.StateDir, networksDir), Logger: log,
	}
}

// networked says whether the agent has networks. Guests that are only remembered have no use for any.
func (c *Config) networked() bool { return c.Network.Enabled && c.Driver != "fake" }
