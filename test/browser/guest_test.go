package browser

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"compute-agent/console"
	"compute-agent/console/pages"
	"compute-agent/test/guest"
)

// startGuest boots the tiny guest in a QEMU without libvirt, with all three kinds of console on sockets in a directory.
func startGuest(t *testing.T) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "console") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	boot := filepath.Dir(guest.Image(t))
	qemu := exec.Command("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "q35,accel=tcg", "-m", "192", "-display", "none", "-vga", "std",
		"-kernel", filepath.Join(boot, "vmlinuz"), "-initrd", filepath.Join(boot, "initrd"), "-append", "console=ttyS0 quiet",
		"-vnc", "unix:"+filepath.Join(dir, console.VNC),
		"-spice", "unix=on,disable-ticketing=on,addr="+filepath.Join(dir, console.SPICE),
		"-chardev", "socket,id=s0,server=on,wait=off,path="+filepath.Join(dir, console.Serial), "-device", "isa-serial,chardev=s0",
		"-chardev", "socket,id=s1,server=on,wait=off,path="+filepath.Join(dir, "second"), "-device", "isa-serial,chardev=s1",
		"-S", "-qmp", "stdio") // stopped until it is spoken to, by when the sockets are there
	in, err := qemu.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := qemu.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	qemu.Stderr = os.Stderr
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = qemu.Process.Kill()
		_ = qemu.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatalf("QEMU does not greet: %v", err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if _, err := io.WriteString(in, `{"execute": "qmp_capabilities"} {"execute": "cont"}`); err != nil {
		t.Fatal(err)
	}
	return dir
}

// host serves pages and consoles of one guest as an agent does, with tokens that the test gives out.
type host struct {
	*testing.T
	dir    string // where the guest's sockets are
	server *httptest.Server
	pages  http.Handler

	mu    sync.Mutex
	proxy *console.Proxy
	given map[string]given
}

type given struct {
	grant console.Grant
	ended chan struct{}
}

func startHost(t *testing.T, guest string) *host {
	t.Helper()
	h := &host{T: t, dir: guest, pages: pages.Handler(pages.Options{})}
	h.start()
	h.server = httptest.NewServer(h)
	t.Cleanup(h.server.Close)
	t.Cleanup(h.stop)
	return h
}

// start begins to serve consoles, and knows no token of before.
func (h *host) start() {
	proxy, err := console.NewProxy(console.Options{Authorizer: h, Log: slog.New(slog.NewTextHandler(h.Output(), nil))})
	if err != nil {
		h.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proxy, h.given = proxy, map[string]given{}
}

// stop ends all consoles, as an agent does that stops.
func (h *host) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.current().Shutdown(ctx); err != nil {
		h.Errorf("stop the proxy: %v", err)
	}
}

func (h *host) current() *console.Proxy {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proxy
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if console.IsWebSocket(r) {
		h.current().ServeHTTP(w, r)
		return
	}
	h.pages.ServeHTTP(w, r)
}

// token gives out a token for a socket of the guest.
func (h *host) token(protocol, socket string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	token := rand.Text()
	h.given[token] = given{
		console.Grant{
			ServerID: "tiny", Protocol: protocol, Network: "unix", Address: filepath.Join(h.dir, socket),
			TokenID: token[:8], Expires: time.Now().Add(time.Hour),
		},
		make(chan struct{}),
	}
	return token
}

// revoke ends what is open by a token, and the token.
func (h *host) revoke(token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.given[token].ended)
	delete(h.given, token)
}

// Authorize implements console.Authorizer.
func (h *host) Authorize(_ context.Context, token string) (console.Grant, <-chan struct{}, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g, ok := h.given[token]
	if !ok {
		return console.Grant{}, nil, nil, console.ErrNoToken
	}
	return g.grant, g.ended, func() {}, nil
}

// vncURL is the form in which Nova gives out addresses of noVNC.
func (h *host) vncURL(token string) string {
	return h.server.URL + "/vnc_auto.html?path=" + url.QueryEscape("?token="+token)
}
