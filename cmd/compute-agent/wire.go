package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"compute-agent/api"
	"compute-agent/blockdev/attach"
	"compute-agent/compute"
	"compute-agent/identity"
	"compute-agent/image"
	"compute-agent/internal/command"
	"compute-agent/network/fabric"
	"compute-agent/numa"
	"compute-agent/pci"
	"compute-agent/store"
	"compute-agent/virt"
	"compute-agent/virt/fake"
	"compute-agent/virt/libvirt"
)

// connectLimit is how long the first connection to libvirt may take: on a cold cache libvirtd
// looks at every emulator of the host before it answers.
const connectLimit = 2 * time.Minute

// The state directory holds these.
const (
	databaseFile = "agent.db"
	lockFile     = "lock"
	instancesDir = "instances"
	imagesDir    = "images"
)

// agent is everything that a running agent holds.
type agent struct {
	log     *slog.Logger
	store   *store.Store
	driver  virt.Driver
	manager *compute.Manager
	volumes *attach.Host
	fabric  *fabric.Fabric // nil without networks

	consoles consoles

	url        string // under which clients reach the API
	metricsURL string // empty if there are no metrics

	servers []*http.Server
	stops   []func(context.Context) error // of what goes on after its request
	failed  chan error                    // a server that ended though nobody asked it to
	closers []func() error
}

// backend joins the parts of the core to what the API asks for.
type backend struct {
	*compute.Manager
	*compute.Library
	*compute.Catalog
	*compute.NetworkService
	*compute.VolumeService
	*compute.ConsoleService
}

var _ api.Backend = backend{}

// startAgent opens everything, in the order in which one thing needs another: what can fail for a
// wrong configuration comes before anything is done to a guest. What was opened before an error is
// closed again.
func startAgent(ctx context.Context, c *Config, log *slog.Logger, r *reporter) (_ *agent, err error) {
	a := &agent{log: log, failed: make(chan error, 3)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	certificate, err := loadPair("tls_cert and tls_key", c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	images, err := a.openState(c)
	if err != nil {
		return nil, exitError{exitState, err}
	}
	apiListener, metricsListener, err := a.listen(ctx, c)
	if err != nil {
		return nil, err
	}
	a.url = c.publicURL(apiListener.Addr())
	if err := a.listenConsoles(ctx, c); err != nil {
		return nil, err
	}
	if err := a.openDriver(ctx, c); err != nil {
		return nil, err
	}
	r.watch(a.store, a.driver)

	operations := newOperationMetrics()
	core, err := a.newCore(ctx, c, images, operations)
	if err != nil {
		return nil, err
	}
	id := identity.New(identity.Options{Store: a.store, TokenLifetime: c.TokenExpiry})
	if err := (access{c, a.url}).settle(ctx, id, log); err != nil {
		return nil, exitError{exitState, err}
	}
	if err := a.startManager(ctx, core); err != nil {
		return nil, err
	}
	front, err := a.newFront(ctx, c, core, id)
	if err != nil {
		return nil, err
	}
	a.serveHTTP(apiListener, front, certificate)
	if err := a.serveConsoles(c); err != nil {
		return nil, err
	}
	if metricsListener != nil {
		a.metricsURL = "http://" + metricsListener.Addr().String() + "/metrics"
		source := guestSource{guests: a.driver.Guests, node: a.manager.Node}
		a.serveHTTP(metricsListener, newMetricsHandler(operations, source, log, networkMetrics(a.fabric)...), nil)
	}
	if certificate == nil && !loopbackOnly(c.Listen) {
		log.Warn("the API can be reached from other hosts without TLS: passwords cross the network in the clear", "listen", c.Listen)
	}
	return a, nil
}

// openState takes the state directory: nothing else of the host is touched before its lock is held.
func (a *agent) openState(c *Config) (*image.Store, error) {
	db, err := openStore(c)
	if err != nil {
		return nil, err
	}
	a.store = db
	a.onClose(db.Close)
	return image.OpenStore(filepath.Join(c.StateDir, imagesDir), image.Options{MaxSize: c.ImageMaxSize, Runner: command.Exec{}})
}

// openStore makes the state directory if it is not there, and opens its database.
func openStore(c *Config) (*store.Store, error) {
	// QEMU's user has to pass through to the disks; files that must not be read have modes that say so.
	if err := os.MkdirAll(c.StateDir, 0o711); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	return store.Open(filepath.Join(c.StateDir, databaseFile))
}

// listen takes the addresses; nobody is served before all else is ready.
func (a *agent) listen(ctx context.Context, c *Config) (api, metrics net.Listener, err error) {
	if api, err = a.listenOn(ctx, "listen", c.Listen); err != nil {
		return nil, nil, err
	}
	if c.MetricsListen != "" {
		metrics, err = a.listenOn(ctx, "metrics_listen", c.MetricsListen)
	}
	return api, metrics, err
}

func (a *agent) listenOn(ctx context.Context, key, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	a.onClose(func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return l, nil
}

func (a *agent) openDriver(ctx context.Context, c *Config) error {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	driver, err := openDriver(ctx, c, a.log)
	if err != nil {
		return err
	}
	a.driver = driver
	a.onClose(driver.Close)
	return nil
}

// openDriver is the only place that knows which drivers there are.
func openDriver(ctx context.Context, c *Config, log *slog.Logger) (virt.Driver, error) {
	if c.Driver == "fake" {
		hostname, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		return fake.New(fake.Options{Hostname: hostname}), nil
	}
	return libvirt.Open(ctx, libvirt.Options{URI: c.LibvirtURI, VirtType: c.VirtType, Logger: log})
}

// newCore makes the parts of the core; nothing runs yet.
func (a *agent) newCore(ctx context.Context, c *Config, blobs *image.Store, operations *operationMetrics) (backend, error) {
	library := compute.NewLibrary(a.store, blobs, nil, a.log)
	if err := library.Sweep(ctx); err != nil {
		return backend{}, fmt.Errorf("images: %w", err)
	}
	disks, err := compute.NewFileDisks(filepath.Join(c.StateDir, instancesDir), filepath.Join(c.StateDir, imagesDir), c.ephemeral(), command.Exec{})
	if err != nil {
		return backend{}, err
	}
	nodeID, err := compute.LoadNodeID(c.StateDir)
	if err != nil {
		return backend{}, err
	}
	limits, err := capacity(c)
	if err != nil {
		return backend{}, exitError{exitUsage, err}
	}
	guests, err := guestOptions(c)
	if err != nil {
		return backend{}, exitError{exitUsage, err}
	}
	networks, hostNetwork, metadata, err := a.openNetworks(c)
	if err != nil {
		return backend{}, err
	}
	volumeHost, err := a.openVolumeHost(ctx, c)
	if err != nil {
		return backend{}, err
	}
	a.volumes = volumeHost
	consoleService := a.openConsoles(c)
	var manager *compute.Manager
	volumes, err := a.openVolumes(c, volumeHost, library, func(ctx context.Context, serverID, volumeID string) error {
		return manager.ExtendAttached(ctx, serverID, volumeID)
	})
	if err != nil {
		return backend{}, err
	}
	manager, err = compute.New(compute.Options{
		Store: a.store, Driver: a.driver, Disks: disks, Blobs: library, Networks: networks, HostNetwork: hostNetwork,
		Volumes: volumes, VolumeService: volumes, VolumeHost: volumeHost, Consoles: consoleService,
		NodeID:          nodeID,
		Version:         readBuild().Version,
		Capacity:        limits,
		Guests:          guests,
		Policy:          compute.PowerPolicy(c.PowerSyncPolicy),
		HardwareChanges: compute.HardwarePolicy(c.HardwareChanges),
		MaxBuilds:       c.MaxConcurrentBuilds,
		ShutdownTimeout: max(c.ShutdownTimeout, time.Nanosecond), // zero would be the manager's default
		ShutdownRetry:   c.ShutdownRetryInterval,
		DetachAttempts:  c.DetachAttempts,
		DetachTimeout:   c.DetachTimeout,
		AuditInterval:   c.PowerSyncInterval,
		Logger:          a.log,
		Observe:         operations.observe,
	})
	metadata.manager = manager
	return backend{manager, library, compute.NewCatalog(a.store, nil), networks, volumes, consoleService}, err
}

func capacity(c *Config) (compute.Capacity, error) {
	reserved, reservedErr := numa.ParseReservedPages(c.ReservedHugePages)
	specs, specsErr := pci.ParseSpecs(c.PCIDeviceSpecs)
	aliases, aliasesErr := pci.ParseAliases(c.PCIAliases)
	return compute.Capacity{
		CPUAllocationRatio:    c.CPURatio,
		RAMAllocationRatio:    c.RAMRatio,
		DiskAllocationRatio:   c.DiskRatio,
		ReservedHostCPUs:      c.ReservedCPUs,
		ReservedHostMemoryMiB: c.ReservedMemoryMiB,
		ReservedHostDiskMiB:   c.ReservedDiskMiB,
		NUMA:                  numa.Config{SharedSet: c.CPUSharedSet, DedicatedSet: c.CPUDedicatedSet, Reserved: reserved},
		PackCells:             c.PackNUMACells,
		FileBackedMiB:         c.Hardware.FileBackedMiB,
		PCI:                   compute.PCIConfig{Specs: specs, Aliases: aliases},
	}, errors.Join(reservedErr, specsErr, aliasesErr)
}

// ephemeral is the file system of ephemeral disks; empty leaves it to the guest's operating system.
func (c *Config) ephemeral() image.FileSystem {
	if c.EphemeralFormat == "auto" {
		return ""
	}
	return image.FileSystem(c.EphemeralFormat)
}

func (a *agent) startManager(ctx context.Context, core backend) error {
	err := core.Manager.Start(ctx)
	if _, wrong := errors.AsType[*numa.Error](err); wrong {
		return exitError{exitUsage, err}
	}
	if _, wrong := errors.AsType[*pci.Error](err); wrong {
		return exitError{exitUsage, err}
	}
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	// It may ask the manager at once to go on with an extension.
	if err := core.VolumeService.Start(ctx); err != nil {
		return err
	}
	a.manager = core.Manager
	a.cleanVolumes(a.volumes)
	return nil
}

func (a *agent) newFront(ctx context.Context, c *Config, core backend, id *identity.Service) (http.Handler, error) {
	host, err := a.driver.Host(ctx)
	if err != nil {
		return nil, err
	}
	limits := api.Limits{RequestsPerSecond: c.RequestRate, ImageBytes: c.ImageMaxSize}
	if c.RequestRate == 0 {
		limits.RequestsPerSecond = -1
	}
	return api.New(api.Options{
		Backend: core, Identity: id, Logger: a.log, Hostname: host.Hostname, PublicURL: c.PublicURL, Limits: limits,
	})
}

// serveHTTP serves a handler. There is no limit on a whole request: an image's upload may take hours
// while it moves, and the API sets deadlines by itself.
func (a *agent) serveHTTP(l net.Listener, h http.Handler, certificate *tls.Certificate) {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug), // broken clients
	}
	if certificate != nil {
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
	}
	a.servers = append(a.servers, srv)
	go func() {
		var err error
		if certificate != nil {
			err = srv.ServeTLS(l, "", "")
		} else {
			err = srv.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			a.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
	}()
}

// status is a line for people.
func (a *agent) status() string {
	text := "API on " + a.url
	if a.metricsURL != "" {
		text += ", metrics on " + a.metricsURL
	}
	if a.consoles.url != "" {
		text += ", consoles on " + a.consoles.url
	}
	return text
}

// stop ends the agent: no more requests, then the operations, which have until ctx ends, then
// everything that was opened.
func (a *agent) stop(ctx context.Context) error {
	stops := slices.Clone(a.stops)
	for _, srv := range a.servers {
		stops = append(stops, func(ctx context.Context) error { return shutdown(ctx, srv) })
	}
	done := make(chan error, len(stops))
	for _, stop := range stops {
		go func() { done <- stop(ctx) }()
	}
	err := a.manager.Close(ctx)
	for range stops {
		err = errors.Join(err, <-done)
	}
	return errors.Join(err, a.close())
}

// shutdown lets requests end until ctx does, and then breaks the rest: an upload, say.
func shutdown(ctx context.Context, srv *http.Server) error {
	err := srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return srv.Close()
	}
	return err
}

func (a *agent) onClose(fn func() error) { a.closers = append(a.closers, fn) }

// close closes what was opened, the last first.
func (a *agent) close() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	a.closers = nil
	return errors.Join(errs...)
}
