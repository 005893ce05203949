package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
)

// checkConsoles looks at the address of consoles, at the certificates, and at who can reach the guests' own servers past the tokens.
func (p *patient) checkConsoles(ctx context.Context) verdict {
	o := &p.config.Console
	if open := openScreens(p.config); open != "" {
		return warning("Let the guests' servers listen on loopback alone: the proxy is on this host.",
			"%s: screens without a password can be reached from other hosts past the tokens of consoles", open)
	}
	if !o.Enabled {
		return ok("off")
	}
	if _, err := loadPair("console_tls_cert and console_tls_key", o.TLSCert, o.TLSKey); err != nil {
		return failure("Mend the files.", "%v", err)
	}
	if err := o.readable(); err != nil {
		return failure("Mend the files.", "%v", err)
	}
	v := p.checkAddress(ctx, o.Listen)
	if v.Status == statusOK && o.TLSCert == "" && !loopbackOnly(o.Listen) {
		return warning("Set console_tls_cert and console_tls_key, or put a proxy with TLS before it.",
			"%s can be reached from other hosts, and what is typed would cross the network in the clear", o.Listen)
	}
	return v
}

// readable reads the files for TLS with guests.
func (o *consoleOptions) readable() error {
	var errs []error
	for _, path := range []string{o.VNCCA, o.SPICECA} {
		if path != "" {
			_, err := os.ReadFile(path)
			errs = append(errs, err)
		}
	}
	_, err := loadPair("vencrypt_client_cert and vencrypt_client_key", o.VNCClientCert, o.VNCKey)
	return errors.Join(append(errs, err)...)
}

// openScreens names the key that lets others than this host reach screens; empty if none does.
func openScreens(c *Config) string {
	for key, address := range map[string]string{"vnc_listen": c.VNCListen, "spice_listen": c.Hardware.SPICEListen} {
		if address == "" {
			continue
		}
		ip, err := netip.ParseAddr(address)
		if err == nil && !ip.IsLoopback() {
			return key + " " + ip.String()
		}
	}
	return ""
}
