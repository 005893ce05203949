package virttest

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"compute-agent/virt"
)

var finderPromises = group{"Consoles", []promise{
	{"returns the ways in to a running guest, in the order vnc, spice, serial ports", findConsoles, finder},
	{"none for a guest that has none", findNone, finder},
	{"a guest that was made again is reached where its new Spec says, and not where the old one did", findRemade, finder},
	{"a guest that started again is reached, and one that stopped is not", findRestarted, finder},
	{"a serial port answers what is written to it", serialAnswers, bootableFinder},
	{"ErrInvalidState if it is stopped", func(e *env) {
		_, err := e.consoles(e.stopped().ID)
		e.fails(err, virt.ErrInvalidState)
	}, finder},
	{"ErrNotFound if there is none", missingGuest(func(e *env, id string) error {
		_, err := e.consoles(id)
		return err
	}), finder},
}}

func (e *env) consoles(id string) ([]virt.Console, error) {
	return e.Driver.(virt.ConsoleFinder).Consoles(e.within(), id)
}

// found returns the consoles of a guest, and checks that they are of these kinds.
func (e *env) found(id string, want ...virt.ConsoleType) []virt.Console {
	e.Helper()
	all, err := e.consoles(id)
	e.ok(err)
	var kinds []virt.ConsoleType
	ports := 0
	for _, c := range all {
		kinds = append(kinds, c.Type)
		if c.Type == virt.ConsoleSerial {
			if c.Port != ports {
				e.Errorf("serial port %d is called %d", ports, c.Port)
			}
			ports++
		}
	}
	if len(kinds) != len(want) || string(joined(kinds)) != string(joined(want)) {
		e.Fatalf("consoles are %q, want %q", kinds, want)
	}
	return all
}

func joined(kinds []virt.ConsoleType) (text []byte) {
	for _, k := range kinds {
		text = append(append(text, k...), ' ')
	}
	return text
}

// withSerial gives a Spec serial ports on sockets of these names beside its first disk, and the console log to the first.
func (e *env) withSerial(s virt.Spec, names ...string) virt.Spec {
	log := s.Serial[0]
	s.Serial = nil
	for i, name := range names {
		port := virt.SerialPort{Type: "unix", Path: filepath.Join(filepath.Dir(s.Disks[0].Source.File), name)}
		if i == 0 {
			port.Log, port.AppendLog = log.Log, log.AppendLog
		}
		s.Serial = append(s.Serial, port)
		e.Cleanup(func() { _ = os.Remove(port.Path) })
	}
	return s
}

func withScreen(s virt.Spec) virt.Spec {
	s.Graphics = append(s.Graphics, virt.Graphics{Type: "vnc", Listen: "127.0.0.1"})
	s.Video = &virt.Video{Model: "vga"}
	return s
}

// dial connects to a console.
func (e *env) dial(c virt.Console) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(e.within(), c.Network, c.Address)
	if err == nil {
		e.Cleanup(func() { _ = conn.Close() })
		e.ok(conn.SetDeadline(time.Now().Add(e.Patience)))
	}
	return conn, err
}

func (e *env) reached(c virt.Console) net.Conn {
	e.Helper()
	conn, err := e.dial(c)
	e.ok(err)
	return conn
}

func (e *env) unreachable(c virt.Console) {
	e.Helper()
	if _, err := e.dial(c); err == nil {
		e.Errorf("%s at %s is still there", c.Type, c.Address)
	} else if errors.Is(err, context.DeadlineExceeded) {
		e.Errorf("%s at %s: %v", c.Type, c.Address, err)
	}
}

func findConsoles(e *env) {
	s := e.create(withScreen(e.withSerial(e.spec(), "port0", "port1")))
	for range 2 { // created, running
		all := e.found(s.ID, virt.ConsoleVNC, virt.ConsoleSerial, virt.ConsoleSerial)
		greeting := make([]byte, 12)
		if _, err := io.ReadFull(e.reached(all[0]), greeting); err != nil || !strings.HasPrefix(string(greeting), "RFB 003.") {
			e.Errorf("the screen says %q, %v", greeting, err)
		}
		for i, c := range all[1:] {
			if c.Network != "unix" || c.Address != s.Serial[i].Path {
				e.Errorf("serial port %d is at %s %s, want %s", i, c.Network, c.Address, s.Serial[i].Path)
			}
			_ = e.reached(c).Close()
		}
		e.ok(e.Driver.Start(e.within(), s.ID))
	}
}

func findNone(e *env) {
	e.found(e.running().ID) // its one serial port is a pseudo terminal
}

func findRemade(e *env) {
	s := e.create(e.withSerial(e.spec(), "port0"))
	before := e.found(s.ID, virt.ConsoleSerial)[0]
	conn := e.reached(before)
	e.ok(e.Driver.Remake(e.within(), e.withSerial(s, "port0-again")))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		e.Errorf("the client of the old guest reads %d bytes, %v", n, err)
	}
	after := e.found(s.ID, virt.ConsoleSerial)[0]
	if after.Address == before.Address {
		e.Errorf("it is found at %s, as before", after.Address)
	}
	e.unreachable(before)
	e.reached(after)
}

func findRestarted(e *env) {
	s := e.create(withScreen(e.withSerial(e.spec(), "port0")))
	for range 2 {
		e.ok(e.Driver.Start(e.within(), s.ID))
		all := e.found(s.ID, virt.ConsoleVNC, virt.ConsoleSerial)
		for _, c := range all {
			_ = e.reached(c).Close()
		}
		e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
		e.unreachable(all[1]) // the screen's port may be another guest's by now
	}
}

// serialAnswers types a name until it comes back, as a system does that shows what is typed.
func serialAnswers(e *env) {
	s := e.create(e.adopt(e.withSerial(e.BootableSpec(e), "port0", "port1")))
	e.ok(e.Driver.Start(e.within(), s.ID))
	const name = "virttest"
	for _, c := range e.found(s.ID, virt.ConsoleSerial, virt.ConsoleSerial) {
		conn := e.reached(c)
		heard := make(chan error, 1)
		go func() { heard <- hear(conn, name) }()
		again := time.NewTicker(time.Second) // what is typed while it boots is lost
		defer again.Stop()
		for answered := false; !answered; {
			_, err := io.WriteString(conn, name+"\r")
			e.ok(err)
			select {
			case err := <-heard:
				e.ok(err)
				answered = true
			case <-again.C:
			}
		}
	}
}

// hear reads until a text comes.
func hear(conn io.Reader, text string) error {
	var all []byte
	chunk := make([]byte, 1024)
	for !bytes.Contains(all, []byte(text)) {
		n, err := conn.Read(chunk)
		if err != nil {
			return err
		}
		all = append(all, chunk[:n]...)
	}
	return nil
}

var screenshotPromises = group{"Screenshot", []promise{
	{"returns what the first screen of a running guest shows, as a PNG", screenshot, screenshotter},
	{"ErrUnsupported if it has no screen", func(e *env) {
		_, err := e.screenshot(e.running().ID)
		e.fails(err, virt.ErrUnsupported)
	}, screenshotter},
	{"ErrInvalidState if it is stopped", func(e *env) {
		s := e.create(withScreen(e.spec()))
		e.ok(e.Driver.Stop(e.within(), s.ID, virt.StopOptions{}))
		_, err := e.screenshot(s.ID)
		e.fails(err, virt.ErrInvalidState)
	}, screenshotter},
	{"ErrNotFound if there is none", missingGuest(func(e *env, id string) error {
		_, err := e.screenshot(id)
		return err
	}), screenshotter},
}}

func (e *env) screenshot(id string) ([]byte, error) {
	return e.Driver.(virt.Screenshotter).Screenshot(e.within(), id)
}

func screenshot(e *env) {
	s := e.create(withScreen(e.spec()))
	e.ok(e.Driver.Start(e.within(), s.ID))
	picture, err := e.screenshot(s.ID)
	e.ok(err)
	screen, err := png.Decode(bytes.NewReader(picture))
	e.ok(err)
	if size := screen.Bounds().Size(); size.X < 1 || size.Y < 1 {
		e.Errorf("the picture is %v", size)
	}
}
