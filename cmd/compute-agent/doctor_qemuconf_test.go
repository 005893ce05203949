package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestQEMUSettings(t *testing.T) {
	got := parseQEMUSettings("# stdio_handler = \"logd\"\n#vnc_tls = 0\n  vnc_tls=1 # on\nstdio_handler = \"file\"\nuser = '+0'\nlist = [\n \"a\",\n]\n" +
		"vnc_tls_x509_cert_dir = \"/etc/pki/a b#c\"\nnvram = [ \"x = 1\" ]\nbroken = \"\nlast = 7")
	want := qemuSettings{"vnc_tls": "1", "stdio_handler": "file", "user": "+0", "vnc_tls_x509_cert_dir": "/etc/pki/a b#c", "last": "7"}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestDoctorTellsOfLogsWithoutBounds(t *testing.T) {
	p := &patient{root: hostTree(t, map[string]string{"etc/libvirt/qemu.conf": "stdio_handler = \"file\"\n"}), config: newConfig()}
	expect(t, virtlogd(p), statusWarning, "stdio_handler", "nothing bounds", p.config.StateDir, "restart libvirtd")
	p.root = hostTree(t, map[string]string{"etc/libvirt/qemu.conf": "#stdio_handler = \"file\"\nstdio_handler = \"logd\"\n"})
	expect(t, virtlogd(p), statusWarning, "does not answer")
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	a.pem = a.sign(a.cert)
	return a
}

// sign makes a certificate for the authority's own key, since nobody uses it.
func (a authority) sign(c *x509.Certificate) string {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, a.key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (a authority) server(lasts time.Duration) string {
	return a.sign(&x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(lasts), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

func (a authority) client() string {
	return a.sign(&x509.Certificate{SerialNumber: big.NewInt(3), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func TestDoctorHoldsVNCTLSAgainstTheProxy(t *testing.T) {
	mine, other := newAuthority(t), newAuthority(t)
	certs := func(dir, server string) map[string]string {
		return map[string]string{dir + "ca-cert.pem": mine.pem, dir + "server-cert.pem": server, dir + "server-key.pem": ""}
	}
	const conf, on, verified = "etc/libvirt/qemu.conf", "vnc_tls = 1\n", "vnc_tls = 1\nvnc_tls_x509_verify = 1\n"
	good := certs("etc/pki/qemu/", mine.server(time.Hour))
	tree := hostTree(t, map[string]string{"mine": mine.pem, "other": other.pem, "client": mine.client(), "foreign": other.client(), "none": "no certificate"})
	ca := func(name string) string { return filepath.Join(tree, name) }
	for _, c := range []struct {
		name, conf string
		files      map[string]string
		options    consoleOptions
		want       status
		words      []string
	}{
		{"off on both sides", "", nil, consoleOptions{}, statusOK, []string{"in the clear"}},
		{"off, either will do", "vnc_tls = 0\n", nil, consoleOptions{VNCAuthSchemes: []string{"vencrypt", "none"}}, statusOK, nil},
		{"off, and asked for", "", nil, consoleOptions{VNCAuthSchemes: []string{"vencrypt"}}, statusWarning, []string{"no screen", "vnc_tls = 1"}},
		{"on, and left to the viewer", on, good, consoleOptions{}, statusWarning, []string{"vnc_auth_schemes"}},
		{"on, without certificates", on, nil, vencrypt(ca("mine")), statusFailure, []string{"/etc/pki/qemu/ca-cert.pem", "do not start"}},
		{"on", on, good, vencrypt(ca("mine")), statusOK, []string{"trusts"}},
		{"in the directory that is set", on + "vnc_tls_x509_cert_dir = \"/x\"\n", certs("x/", mine.server(time.Hour)), vencrypt(ca("mine")), statusOK, nil},
		{"in the default for all", on + "default_tls_x509_cert_dir = \"/y\"\n", certs("y/", mine.server(time.Hour)), vencrypt(ca("mine")), statusOK, nil},
		{"in VNC's own directory", on + "default_tls_x509_cert_dir = \"/y\"\n", certs("etc/pki/libvirt-vnc/", mine.server(time.Hour)), vencrypt(ca("mine")), statusOK, nil},
		{"of another authority", on, good, vencrypt(ca("other")), statusWarning, []string{"/etc/pki/qemu/server-cert.pem", "vencrypt_ca_certs"}},
		{"of no authority", on, good, vencrypt(ca("none")), statusWarning, []string{"has no certificate"}},
		{"run out", on, certs("etc/pki/qemu/", mine.server(-time.Hour)), vencrypt(ca("mine")), statusWarning, []string{"expired"}},
		{"of another name", on, good, consoleOptions{VNCAuthSchemes: []string{"vencrypt"}, VNCCA: ca("mine"), GuestName: "guests"}, statusWarning, []string{"guests", "console_guest_tls_name"}},
		{"clients need one too", verified, good, vencrypt(ca("mine")), statusWarning, []string{"vencrypt_client_cert"}},
		{"clients need one too, by default", on + "default_tls_x509_verify = 1\n", good, vencrypt(ca("mine")), statusWarning, []string{"vencrypt_client_cert"}},
		{"the client's is good", verified, good, withClient(ca("mine"), ca("client")), statusOK, []string{"both sides"}},
		{"the client's is foreign", verified, good, withClient(ca("mine"), ca("foreign")), statusWarning, []string{"/etc/pki/qemu/ca-cert.pem"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{conf: c.conf}
			maps.Copy(files, c.files)
			root := hostTree(t, files)
			p := &patient{root: root, config: newConfig()}
			c.options.Enabled = true
			p.config.Console = c.options
			expect(t, p.checkVNCTLS(t.Context()), c.want, c.words...)
			p.config.Console.Enabled = false
			expect(t, p.checkVNCTLS(t.Context()), statusOK, "off")
			p.config.Driver = "fake"
			expect(t, p.checkVNCTLS(t.Context()), statusOK, "not used by driver fake")
		})
	}
	p := &patient{root: hostTree(t, map[string]string{conf + "/": ""}), config: newConfig()}
	expect(t, p.checkVNCTLS(t.Context()), statusWarning, conf)
}

func vencrypt(ca string) consoleOptions {
	return consoleOptions{VNCAuthSchemes: []string{"vencrypt"}, VNCCA: ca}
}

func withClient(ca, client string) consoleOptions {
	o := vencrypt(ca)
	o.VNCClientCert = client
	return o
}
