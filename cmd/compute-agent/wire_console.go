package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"compute-agent/compute"
	"compute-agent/console/pages"
	"compute-agent/virt"
)

// consoles is what serves consoles: the listener with its certificate, and the service that knows the tokens.
type consoles struct {
	listener    net.Listener // nil when consoles are off
	certificate *tls.Certificate
	service     *compute.ConsoleService
	url         string // under which clients reach them; empty when they are off
}

// listenConsoles takes the address and reads the certificate; nobody is served yet.
func (a *agent) listenConsoles(ctx context.Context, c *Config) (err error) {
	if !c.Console.Enabled {
		return nil
	}
	a.consoles.certificate, err = loadPair("console_tls_cert and console_tls_key", c.Console.TLSCert, c.Console.TLSKey)
	if err != nil {
		return exitError{exitUsage, err}
	}
	a.consoles.listener, err = a.listenOn(ctx, "console_listen", c.Console.Listen)
	if err == nil {
		a.consoles.url = c.Console.baseURL(a.consoles.listener.Addr())
	}
	return err
}

// openConsoles makes the service of tokens.
func (a *agent) openConsoles(c *Config) *compute.ConsoleService {
	finder, _ := a.driver.(virt.ConsoleFinder)
	a.consoles.service = compute.NewConsoleService(compute.ConsoleOptions{
		Store: a.store, Finder: finder, BaseURL: a.consoles.url, Disabled: !c.Console.Enabled,
		Lifetime: c.Console.TokenTTL, PerServer: c.Console.TokensPerServer, Logger: a.log,
	})
	a.onClose(func() error { a.consoles.service.Close(); return nil })
	return a.consoles.service
}

// serveConsoles serves the pages and the WebSockets.
func (a *agent) serveConsoles(c *Config) {
	if a.consoles.listener == nil {
		return
	}
	a.consoles.service.Start()
	a.serveHTTP(a.consoles.listener, pages.Handler(pages.Options{FrameAncestors: c.Console.FrameAncestors}), a.consoles.certificate)
	if a.consoles.certificate == nil && !loopbackOnly(c.Console.Listen) {
		a.log.Warn("consoles can be reached from other hosts without TLS: what is typed crosses the network in the clear", "console_listen", c.Console.Listen)
	}
}

// loadPair returns nil if no certificate is configured; keys names the keys of the configuration.
func loadPair(keys, cert, key string) (*tls.Certificate, error) {
	if cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keys, err)
	}
	return &pair, nil
}
