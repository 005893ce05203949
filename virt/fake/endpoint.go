package fake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"sync"

	"compute-agent/virt"
)

// endpoint is a console of a guest that lives. It takes any number of clients, and hangs up when the guest's process ends.
type endpoint struct {
	console  virt.Console
	listener net.Listener

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// Consoles implements virt.ConsoleFinder. They listen from the first time that somebody asks for them until the guest's process ends: a serial port sends
// back what it gets, a VNC server shows a black screen, a SPICE server takes what it gets and is silent.
func (d *Driver) Consoles(ctx context.Context, id string) ([]virt.Console, error) {
	var found []virt.Console
	err := d.onGuest(ctx, "Consoles", "find consoles of guest", id, func(g *guest) error {
		if !g.alive() {
			return fmt.Errorf("%w: it is %v", virt.ErrInvalidState, g.state)
		}
		if err := g.listen(); err != nil {
			return err
		}
		for _, e := range g.endpoints {
			found = append(found, e.console)
		}
		return nil
	})
	return found, err
}

// CloseConsoles makes the consoles of all guests hang up and listen no more, until somebody asks for them again.
func (h *Hypervisor) CloseConsoles() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.guests {
		g.hangUp()
	}
}

// listen opens the guest's consoles unless they are open; Hypervisor.mu is held.
func (g *guest) listen() error {
	if g.endpoints != nil {
		return nil
	}
	for _, wanted := range g.consoles() {
		e, err := open(wanted)
		if err != nil {
			g.hangUp()
			return err
		}
		g.endpoints = append(g.endpoints, e)
	}
	return nil
}

func (g *guest) hangUp() {
	for _, e := range g.endpoints {
		e.close()
	}
	g.endpoints = nil
}

// consoles are those of the guest's Spec in the order of virt.ConsoleFinder; port 0 is any.
func (g *guest) consoles() (all []virt.Console) {
	for _, kind := range []virt.ConsoleType{virt.ConsoleVNC, virt.ConsoleSPICE} {
		for _, s := range g.spec.Graphics {
			if s.Type == string(kind) {
				all = append(all, virt.Console{Type: kind, Network: "tcp", Address: net.JoinHostPort(reachable(s.Listen), "0")})
			}
		}
	}
	port := 0
	for _, s := range g.spec.Serial {
		c := virt.Console{Type: virt.ConsoleSerial, Port: port, Network: s.Type, Address: s.Path}
		if s.Type == "tcp" {
			c.Address = net.JoinHostPort(reachable(s.Host), strconv.Itoa(s.Port))
		}
		if s.Type != "pty" {
			all = append(all, c)
			port++
		}
	}
	return all
}

// reachable is an address of this machine: guests that are only remembered listen on no other.
func reachable(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return "::1"
	}
	return "127.0.0.1"
}

func open(wanted virt.Console) (*endpoint, error) {
	if wanted.Network == "unix" { // as libvirt does: what an earlier process of the guest left is in the way
		if err := os.Remove(wanted.Address); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("remove socket: %w", err)
		}
	}
	listener, err := net.Listen(wanted.Network, wanted.Address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", virt.ErrBusy, err)
	}
	wanted.Address = listener.Addr().String()
	e := &endpoint{console: wanted, listener: listener, conns: map[net.Conn]struct{}{}}
	go e.accept()
	return e, nil
}

func (e *endpoint) accept() {
	for {
		conn, err := e.listener.Accept()
		if err != nil {
			return
		}
		if e.keep(conn) {
			go e.serve(conn)
		}
	}
}

// keep notes a client, unless the guest has hung up.
func (e *endpoint) keep(conn net.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		_ = conn.Close()
		return false
	}
	e.conns[conn] = struct{}{}
	return true
}

func (e *endpoint) serve(conn net.Conn) {
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.conns, conn)
		_ = conn.Close()
	}()
	switch e.console.Type {
	case virt.ConsoleSerial:
		_, _ = io.Copy(conn, conn) // until one of both hangs up
	case virt.ConsoleVNC:
		if greetViewer(conn) != nil {
			return
		}
		fallthrough
	default:
		_, _ = io.Copy(io.Discard, conn)
	}
}

// close hangs up.
func (e *endpoint) close() {
	_ = e.listener.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for conn := range e.conns {
		_ = conn.Close()
	}
}

// Size of the screen, in pixels.
const screenWidth, screenHeight = 64, 48

// greetViewer is the server's part of RFC 6143, section 7.1 to 7.3: version 3.8, no authentication, a screen of 32 bits per pixel.
func greetViewer(conn net.Conn) error {
	for _, step := range []struct {
		say  string
		hear int // bytes
	}{
		{"RFB 003.008\n", 12},
		{"\x01\x01", 1},         // one security type: None
		{"\x00\x00\x00\x00", 1}, // OK; the viewer says whether it shares the screen
	} {
		if _, err := io.WriteString(conn, step.say); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, make([]byte, step.hear)); err != nil {
			return err
		}
	}
	_, err := io.WriteString(conn, "\x00\x40\x00\x30"+ // screenWidth, screenHeight
		"\x20\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00\x00\x00\x00"+ // 32 bits, depth 24, little-endian, true colour
		"\x00\x00\x00\x04fake")
	return err
}

// Screenshot implements virt.Screenshotter: a screen of one colour.
func (d *Driver) Screenshot(ctx context.Context, id string) ([]byte, error) {
	var out bytes.Buffer
	err := d.onGuest(ctx, "Screenshot", "picture screen of guest", id, func(g *guest) error {
		switch {
		case !g.alive():
			return fmt.Errorf("%w: it is %v", virt.ErrInvalidState, g.state)
		case g.spec.Video == nil || g.spec.Video.Model == "none":
			return fmt.Errorf("%w: the guest has no screen", virt.ErrUnsupported)
		}
		screen := image.NewPaletted(image.Rect(0, 0, screenWidth, screenHeight), color.Palette{color.Black})
		return png.Encode(&out, screen)
	})
	return out.Bytes(), err
}
