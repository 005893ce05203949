package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// qemuConf is where libvirt's QEMU driver has its settings.
const qemuConf = "/etc/libvirt/qemu.conf"

// qemuSettings are texts and numbers of qemu.conf by their keys; lists are not among them.
type qemuSettings map[string]string

// qemuSetting is a line of libvirt's format (virconf): a key, =, and a number or a text in quotes of either kind.
var qemuSetting = regexp.MustCompile(`(?m)^[ \t]*([A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:"([^"\n]*)"|'([^'\n]*)'|(-?[0-9]+))`)

func parseQEMUSettings(text string) qemuSettings {
	s := qemuSettings{}
	for _, m := range qemuSetting.FindAllStringSubmatch(text, -1) {
		s[m[1]] = m[2] + m[3] + m[4]
	}
	return s
}

// on says whether a key is set to anything but 0, or else one that it falls back to.
func (s qemuSettings) on(keys ...string) bool {
	for _, k := range keys {
		if v, there := s[k]; there {
			return v != "0"
		}
	}
	return false
}

// qemuSettings are empty where there is no file: all is as libvirt has it by default.
func (p *patient) qemuSettings() (qemuSettings, error) {
	text, err := os.ReadFile(p.path(qemuConf))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return parseQEMUSettings(string(text)), err
}

// vncCertificates is where libvirt has QEMU find the certificates of VNC: its own directory comes before that for all only where it is set or there.
func (p *patient) vncCertificates(s qemuSettings) string {
	const own = "/etc/pki/libvirt-vnc"
	if dir := s["vnc_tls_x509_cert_dir"]; dir != "" {
		return dir
	}
	if _, err := os.Stat(p.path(own)); err == nil {
		return own
	}
	return cmp.Or(s["default_tls_x509_cert_dir"], "/etc/pki/qemu")
}

// checkVNCTLS holds how libvirt has QEMU serve VNC against how the proxy of consoles comes to it.
func (p *patient) checkVNCTLS(context.Context) verdict {
	o := &p.config.Console
	switch {
	case p.config.Driver != "libvirt":
		return ok("not used by driver %s", p.config.Driver)
	case !o.Enabled || p.config.VNCListen == "":
		return ok("off")
	}
	s, err := p.qemuSettings()
	if err != nil {
		return warning("Run as root.", "%v", err)
	}
	vencrypt := slices.Contains(o.VNCAuthSchemes, "vencrypt")
	switch {
	case !s.on("vnc_tls") && vencrypt && !slices.Contains(o.VNCAuthSchemes, "none"):
		return warning("Set vnc_tls = 1 there and restart libvirtd, or let vnc_auth_schemes have none.",
			"vnc_auth_schemes has vencrypt alone, and vnc_tls is off in %s: no screen of a guest can be opened", qemuConf)
	case !s.on("vnc_tls"):
		return ok("off in %s: the proxy reaches guests on %s in the clear", qemuConf, p.config.VNCListen)
	case !vencrypt:
		return warning("Set vnc_auth_schemes to vencrypt, and vencrypt_ca_certs.",
			"vnc_tls is on in %s, and vnc_auth_schemes has no vencrypt: guests offer nothing else, and the viewer in the browser cannot do it", qemuConf)
	}
	return p.checkVNCCertificates(s)
}

func (p *patient) checkVNCCertificates(s qemuSettings) verdict {
	o, dir := &p.config.Console, p.vncCertificates(s)
	for _, name := range []string{"ca-cert.pem", "server-cert.pem", "server-key.pem"} {
		if _, err := os.Stat(p.path(dir, name)); err != nil {
			return failure("Put ca-cert.pem, server-cert.pem and server-key.pem there (vnc_tls_x509_cert_dir), or set vnc_tls = 0.",
				"vnc_tls is on in %s, and guests with a screen do not start: %v", qemuConf, err)
		}
	}
	err := trusts(o.VNCCA, p.path(dir, "server-cert.pem"), cmp.Or(o.GuestName, p.config.VNCListen), x509.ExtKeyUsageServerAuth)
	if err != nil {
		return warning("Set vencrypt_ca_certs to the authority of that certificate, and console_guest_tls_name to a name in it.",
			"the proxy will refuse the guests' %s: %v", filepath.Join(dir, "server-cert.pem"), err)
	}
	if !s.on("vnc_tls_x509_verify", "default_tls_x509_verify") {
		return ok("on, with certificates that the proxy trusts")
	}
	if o.VNCClientCert == "" {
		return warning("Set vencrypt_client_cert and vencrypt_client_key.", "guests let in only who has a certificate (vnc_tls_x509_verify), and the proxy has none")
	}
	if err := trusts(p.path(dir, "ca-cert.pem"), o.VNCClientCert, "", x509.ExtKeyUsageClientAuth); err != nil {
		return warning("Have vencrypt_client_cert made by that authority.", "guests will refuse the proxy's certificate by %s: %v", filepath.Join(dir, "ca-cert.pem"), err)
	}
	return ok("on, with certificates that both sides trust")
}

// trusts checks a chain of certificates as who has the authority's would; without an authority the host's are asked, without a name none is looked for.
func trusts(authority, chain, name string, usage x509.ExtKeyUsage) error {
	o := x509.VerifyOptions{DNSName: name, CurrentTime: time.Now(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}}
	if authority != "" {
		certs, err := readCertificates(authority)
		if err != nil {
			return err
		}
		o.Roots = x509.NewCertPool()
		for _, c := range certs {
			o.Roots.AddCert(c)
		}
	}
	certs, err := readCertificates(chain)
	if err != nil {
		return err
	}
	for _, c := range certs[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err = certs[0].Verify(o)
	return err
}

// readCertificates returns one at least.
func readCertificates(path string) (certs []*x509.Certificate, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: has no certificate", path)
	}
	return certs, nil
}

// boundless says whether QEMU writes console logs itself, whatever their size.
func (p *patient) boundless() bool {
	s, err := p.qemuSettings()
	return err == nil && s["stdio_handler"] == "file"
}
