package console

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// connect opens the guest's console. For VNC with ended security it is past the guest's security handshake, and rfb holds what is to be offered to the
// client.
func (p *Proxy) connect(ctx context.Context, g Grant) (conn net.Conn, offer rfbOffer, err error) {
	switch {
	case g.Protocol == VNC && len(p.options.VNCAuthSchemes) > 0:
		return p.connectVNC(ctx, g)
	case g.Protocol == SPICE && g.Address == "" && g.TLSAddress != "":
		conn, err = dial(ctx, "tcp", g.TLSAddress)
		if err == nil {
			conn, err = p.options.SPICETLS.secure(ctx, conn, g.TLSAddress)
		}
	case g.Protocol == VNC || g.Protocol == SPICE || g.Protocol == Serial:
		conn, err = dial(ctx, g.Network, g.Address)
	default:
		err = fmt.Errorf("protocol %q: want %s, %s or %s", g.Protocol, VNC, SPICE, Serial)
	}
	return conn, rfbNothing, err
}

func (p *Proxy) connectVNC(ctx context.Context, g Grant) (net.Conn, rfbOffer, error) {
	conn, err := dial(ctx, g.Network, g.Address)
	if err != nil {
		return nil, rfbNothing, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	secure := func() (net.Conn, error) { return p.options.VNCTLS.secure(ctx, conn, g.Address) }
	secured, offer, err := rfbGuest(conn, p.options.VNCAuthSchemes, secure)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close() //nolint:errcheck // nothing was agreed
		return nil, rfbNothing, err
	}
	return secured, offer, nil
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "unix":
	default:
		return nil, fmt.Errorf("network %q: want tcp or unix", network)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// secure begins TLS with a guest. It closes conn if that fails.
func (t GuestTLS) secure(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	config, err := t.config(address)
	if err == nil {
		secured := tls.Client(conn, config)
		if err = secured.HandshakeContext(ctx); err == nil {
			return secured, nil
		}
	}
	conn.Close() //nolint:errcheck // nothing was agreed
	return nil, fmt.Errorf("TLS with the guest: %w", err)
}

// config reads the files. address is what is connected to: host:port, or a socket's path, which names no host.
func (t GuestTLS) config(address string) (*tls.Config, error) {
	config := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("server name: not set, and %q has no host", address)
		}
		config.ServerName = host
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, err
		}
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in it", t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, errors.New("a client certificate needs its key, and a key its certificate")
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
