package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"compute-agent/compute"
	"compute-agent/console"
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

// serveConsoles serves the pages, and the WebSockets to guests.
func (a *agent) serveConsoles(c *Config) error {
	if a.consoles.listener == nil {
		return nil
	}
	proxy, err := console.NewProxy(c.Console.proxy(a.consoles.service, a.log))
	if err != nil {
		return exitError{exitUsage, err}
	}
	a.consoles.service.Start()
	a.stops = append(a.stops, proxy.Shutdown)
	viewers := pages.Handler(pages.Options{FrameAncestors: c.Console.FrameAncestors})
	a.serveHTTP(a.consoles.listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if console.IsWebSocket(r) {
			proxy.ServeHTTP(w, r)
			return
		}
		viewers.ServeHTTP(w, r)
	}), a.consoles.certificate)
	if a.consoles.certificate == nil && !loopbackOnly(c.Console.Listen) {
		a.log.Warn("consoles can be reached from other hosts without TLS: what is typed crosses the network in the clear", "console_listen", c.Console.Listen)
	}
	return nil
}

// proxy is what the proxy goes by.
func (o *consoleOptions) proxy(authorizer console.Authorizer, log *slog.Logger) console.Options {
	return console.Options{
		Authorizer: authorizer, Log: log, AllowedOrigins: o.Origins, RequireTLS: o.TLSCert != "", VNCAuthSchemes: o.VNCAuthSchemes,
		VNCTLS:   console.GuestTLS{CAFile: o.VNCCA, CertFile: o.VNCClientCert, KeyFile: o.VNCKey, ServerName: o.GuestName},
		SPICETLS: console.GuestTLS{CAFile: o.SPICECA, ServerName: o.GuestName},
		Limits: console.Limits{
			Connections: o.Connections, ConnectionsPerServer: o.PerServer, ConnectionsPerToken: o.PerToken,
			Idle: orForever(o.Idle), Total: orForever(o.Session),
		},
	}
}

// orForever says no limit as the proxy understands it, for which zero is the default.
func orForever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
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
