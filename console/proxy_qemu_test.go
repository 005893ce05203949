package console

import (
	"bytes"
	"crypto/des" //nolint:gosec // what RFB's passwords are made of
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"io"
	"math/big"
	"math/bits"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const guestName = "guest.example.org"

// qemu runs QEMU, with no guest in it, until the test ends, and waits until it listens.
func qemu(t *testing.T, network, address string, args ...string) {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.Command("qemu-system-x86_64", append([]string{"-S", "-nodefaults", "-machine", "none", "-display", "none"}, args...)...)
	cmd.Stderr, cmd.WaitDelay = &said, limit
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	died := make(chan struct{})
	go func() {
		cmd.Wait() //nolint:errcheck // it is killed
		close(died)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have died
		<-died
	})
	eventually(t, "QEMU listens", func() bool {
		select {
		case <-died:
			t.Fatalf("QEMU died: %s", &said)
		default:
		}
		c, err := net.Dial(network, address)
		if err == nil {
			c.Close() //nolint:errcheck // nothing was sent
		}
		return err == nil
	})
}

// certificates makes a certificate authority, and certificates of a server and a client, in the files that QEMU looks for.
func certificates(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	caKey := issue(t, dir, "ca", ca, ca, nil)
	leaf := func(serial int64, name string, usage x509.ExtKeyUsage) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{usage}, BasicConstraintsValid: true,
		}
	}
	issue(t, dir, "server", leaf(2, guestName, x509.ExtKeyUsageServerAuth), ca, caKey)
	issue(t, dir, "client", leaf(3, "proxy.example.org", x509.ExtKeyUsageClientAuth), ca, caKey)
	return dir
}

// issue writes NAME-cert.pem and NAME-key.pem. Without a signer it signs itself.
func issue(t *testing.T, dir, name string, cert, parent *x509.Certificate, signer *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"-cert.pem": {Type: "CERTIFICATE", Bytes: der}, "-key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

func guestTLS(dir string) GuestTLS {
	return GuestTLS{CAFile: dir + "/ca-cert.pem", CertFile: dir + "/client-cert.pem", KeyFile: dir + "/client-key.pem", ServerName: guestName}
}

const password = "secret"

// TestProxyVNC speaks RFB with a real QEMU, through the proxy, as a viewer does.
func TestProxyVNC(t *testing.T) {
	dir := certificates(t)
	secret := []string{"-object", "secret,id=password,data=" + password}
	creds := []string{"-object", "tls-creds-x509,id=tls,endpoint=server,verify-peer=on,dir=" + dir}
	for _, test := range []struct {
		name    string
		vnc     string // options of -vnc
		args    []string
		schemes []string
		offered byte // to the viewer
	}{
		{"passed through without security", "", nil, nil, rfbTypeNone},
		{"passed through with a password", ",password-secret=password", secret, nil, rfbTypeVNC},
		{"ended without security", "", nil, []string{SchemeVeNCrypt, SchemeNone}, rfbTypeNone},
		{"x509none", ",tls-creds=tls", creds, []string{SchemeVeNCrypt, SchemeNone}, rfbTypeNone},
		{"x509vnc", ",tls-creds=tls,password-secret=password", append(creds, secret...), []string{SchemeVeNCrypt}, rfbTypeVNC},
	} {
		t.Run(test.name, func(t *testing.T) {
			socket := t.TempDir() + "/vnc"
			qemu(t, "unix", socket, append(test.args, "-vnc", "unix:"+socket+test.vnc)...)
			g := grantOf(VNC, &net.UnixAddr{Name: socket, Net: "unix"})
			r := newRig(t, g, Options{VNCAuthSchemes: test.schemes, VNCTLS: guestTLS(dir)})
			if name := view(t, r.open(), test.offered); !strings.Contains(name, "QEMU") {
				t.Errorf("the desktop's name is %q", name)
			}
		})
	}
}

// TestProxyVNCRefuses: guests that are not who they should be, or that do not offer what is configured.
func TestProxyVNCRefuses(t *testing.T) {
	dir, other := certificates(t), certificates(t)
	plain, secured := t.TempDir()+"/vnc", t.TempDir()+"/vnc"
	qemu(t, "unix", plain, "-vnc", "unix:"+plain)
	qemu(t, "unix", secured, "-object", "tls-creds-x509,id=tls,endpoint=server,verify-peer=on,dir="+dir, "-vnc", "unix:"+secured+",tls-creds=tls")
	right := guestTLS(dir)
	unnamed, misnamed, strange, anonymous := right, right, right, right
	unnamed.ServerName, misnamed.ServerName, strange.CAFile = "", "other.example.org", other+"/ca-cert.pem"
	anonymous.CertFile, anonymous.KeyFile = "", ""
	for name, test := range map[string]struct {
		socket  string
		schemes []string
		tls     GuestTLS
	}{
		"guest without TLS":            {plain, []string{SchemeVeNCrypt}, right},
		"guest with TLS only":          {secured, []string{SchemeNone}, right},
		"certificate of another name":  {secured, []string{SchemeVeNCrypt}, misnamed},
		"certificate with no name set": {secured, []string{SchemeVeNCrypt}, unnamed},
		"unknown authority":            {secured, []string{SchemeVeNCrypt}, strange},
		"proxy without a certificate":  {secured, []string{SchemeVeNCrypt}, anonymous},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, grantOf(VNC, &net.UnixAddr{Name: test.socket, Net: "unix"}), Options{VNCAuthSchemes: test.schemes, VNCTLS: test.tls})
			refusedCode(t, r, "/?token=right", nil, CloseUnreachable, "cannot be reached")
		})
	}
}

// TestProxyVNCClients: clients that do not speak as they should.
func TestProxyVNCClients(t *testing.T) {
	at := guest(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.WriteString(c, rfbVersion+"\x01\x01\x00\x00\x00\x00"); io.Copy(io.Discard, c) }) //nolint:errcheck // the client tells
	for sent, reason := range map[string]string{"RFB 003.003\n": "the client speaks", "GET / HTTP/1": "the client speaks", rfbVersion + "\x02": "not offered"} {
		c := newRig(t, grantOf(VNC, at), Options{VNCAuthSchemes: []string{SchemeNone}}).open()
		if err := c.Write(t.Context(), websocket.MessageBinary, []byte(sent)); err != nil {
			t.Fatal(err)
		}
		wantClosed(t, c, int(websocket.StatusProtocolError), reason)
	}
	t.Run("silent", func(t *testing.T) {
		r := newRig(t, grantOf(VNC, at), Options{VNCAuthSchemes: []string{SchemeNone}, Limits: Limits{Handshake: time.Second}})
		c := r.open()
		eventually(t, "the proxy gives up", func() bool { _, _, err := c.Read(t.Context()); return err != nil })
	})
}

// view is a viewer: it agrees on security, as far as it must by what is offered, and asks for the screen. It returns the desktop's name.
func view(t *testing.T, ws *websocket.Conn, offered byte) string {
	t.Helper()
	c := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	take := func(n int) []byte {
		t.Helper()
		p := make([]byte, n)
		if _, err := io.ReadFull(c, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	send := func(p ...byte) {
		t.Helper()
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if version := take(12); string(version) != rfbVersion {
		t.Fatalf("version %q", version)
	}
	send([]byte(rfbVersion)...)
	if types := take(2); types[0] != 1 || types[1] != offered {
		t.Fatalf("security types %d, want only %d", types, offered)
	}
	send(offered)
	if offered == rfbTypeVNC {
		send(answer(take(16))...)
	}
	if result := take(4); !bytes.Equal(result, make([]byte, 4)) {
		t.Fatalf("security result %d", result)
	}
	send(1) // shared
	init := take(24)
	width, height := binary.BigEndian.Uint16(init), binary.BigEndian.Uint16(init[2:])
	name := take(int(binary.BigEndian.Uint32(init[20:])))
	send(append([]byte{3, 0, 0, 0, 0, 0}, init[:4]...)...)
	update := take(16)
	if update[0] != 0 || binary.BigEndian.Uint16(update[8:]) != width || binary.BigEndian.Uint16(update[10:]) != height {
		t.Errorf("update %d of a screen of %d x %d", update, width, height)
	}
	take(int(width) * int(height) * int(init[4]) / 8)
	return string(name)
}

// answer encrypts a challenge with the password (RFC 6143, 7.2.2), whose bytes have their bits reversed.
func answer(challenge []byte) []byte {
	key := make([]byte, 8)
	copy(key, password)
	for i := range key {
		key[i] = bits.Reverse8(key[i])
	}
	block, _ := des.NewCipher(key) //nolint:gosec // as above; the key has the right size
	out := make([]byte, 16)
	block.Encrypt(out, challenge)
	block.Encrypt(out[8:], challenge[8:])
	return out
}

// TestProxySPICE links to the main channel of a real QEMU, as spice-html5 does.
func TestProxySPICE(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		socket := t.TempDir() + "/spice"
		qemu(t, "unix", socket, "-spice", "unix=on,disable-ticketing=on,addr="+socket)
		link(t, newRig(t, grantOf(SPICE, &net.UnixAddr{Name: socket, Net: "unix"}), Options{}).open())
	})
	t.Run("several channels", func(t *testing.T) {
		r := newRig(t, grantOf(SPICE, echo(t, "tcp", "127.0.0.1:0")), Options{})
		for range 6 {
			exchange(t, r.open(), websocket.MessageBinary, "channel")
		}
	})
	t.Run("TLS only", func(t *testing.T) {
		dir := certificates(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().(*net.TCPAddr)
		l.Close() //nolint:errcheck // its port is wanted
		qemu(t, "tcp", address.String(), "-spice", "disable-ticketing=on,addr=127.0.0.1,x509-dir="+dir+",tls-port="+address.String()[len("127.0.0.1:"):])
		g := grantOf(SPICE, address)
		g.Address, g.TLSAddress = "", g.Address
		link(t, newRig(t, g, Options{SPICETLS: guestTLS(dir)}).open())
		refusedCode(t, newRig(t, g, Options{SPICETLS: GuestTLS{CAFile: dir + "/ca-cert.pem"}}), "/?token=right", nil, CloseUnreachable, "cannot be reached")
	})
}

// link sends SPICE's first message and wants an answer without an error.
func link(t *testing.T, ws *websocket.Conn) {
	t.Helper()
	c := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	message := []byte("REDQ")
	for _, n := range []uint32{2, 2, 18} { // version 2.2, and what follows
		message = binary.LittleEndian.AppendUint32(message, n)
	}
	message = append(message, 0, 0, 0, 0, 1, 0)             // a new session's main channel
	message = append(message, make([]byte, 8)...)           // no capabilities
	message = binary.LittleEndian.AppendUint32(message, 18) // which would be behind
	if _, err := c.Write(message); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 20)
	if _, err := io.ReadFull(c, reply); err != nil {
		t.Fatal(err)
	}
	if string(reply[:4]) != "REDQ" || binary.LittleEndian.Uint32(reply[16:]) != 0 {
		t.Errorf("reply %q", reply)
	}
}
