package libvirt

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// Consoles implements virt.ConsoleFinder. It reads the live domain, so it also knows the consoles of guests that others made.
func (d *Driver) Consoles(ctx context.Context, id string) ([]virt.Console, error) {
	domain, err := d.live(ctx, "find consoles of guest", id)
	if err != nil {
		return nil, err
	}
	return Consoles(domain), nil
}

// live reads the domain of a guest that has a process.
func (d *Driver) live(ctx context.Context, op, id string) (*libvirtxml.Domain, error) {
	result := make(chan *libvirtxml.Domain, 1)
	err := d.run(ctx, op, id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.domain(ctx, id, func(dom *lv.Domain) error {
			domain, err := domainOf(dom)
			if err == nil && domain.ID == nil { // a stopped domain's description is its definition, and has no number
				err = fmt.Errorf("%w: it is stopped", virt.ErrInvalidState)
			}
			result <- &domain
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return <-result, nil
}

// Consoles lists the ways in that a live domain says it has, in the order of virt.ConsoleFinder.
func Consoles(domain *libvirtxml.Domain) []virt.Console {
	if domain.Devices == nil {
		return nil
	}
	var vnc, spice, serial []virt.Console
	for _, g := range domain.Devices.Graphics {
		if g.VNC != nil {
			vnc = append(vnc, vncConsole(g.VNC)...)
		}
		if g.Spice != nil {
			spice = append(spice, spiceConsole(g.Spice)...)
		}
	}
	for i := range domain.Devices.Serials {
		if c, listens := serialConsole(domain.Devices.Serials[i].Source); listens {
			c.Port = len(serial)
			serial = append(serial, c)
		}
	}
	return append(append(vnc, spice...), serial...)
}

func vncConsole(g *libvirtxml.DomainGraphicVNC) []virt.Console {
	host, socket := listener(g.Listeners, g.Listen)
	switch socket = cmp.Or(g.Socket, socket); {
	case socket != "":
		return []virt.Console{{Type: virt.ConsoleVNC, Network: "unix", Address: socket}}
	case g.Port > 0:
		return []virt.Console{{Type: virt.ConsoleVNC, Network: "tcp", Address: hostPort(host, g.Port)}}
	}
	return nil
}

func spiceConsole(g *libvirtxml.DomainGraphicSpice) []virt.Console {
	host, socket := listener(g.Listeners, g.Listen)
	if socket != "" {
		return []virt.Console{{Type: virt.ConsoleSPICE, Network: "unix", Address: socket}}
	}
	c := virt.Console{Type: virt.ConsoleSPICE}
	if g.Port > 0 {
		c.Network, c.Address = "tcp", hostPort(host, g.Port)
	}
	if g.TLSPort > 0 {
		c.TLSAddress = hostPort(host, g.TLSPort)
	}
	if c.Address == "" && c.TLSAddress == "" {
		return nil
	}
	return []virt.Console{c}
}

// listener is where a graphics server listens: at an address, or at a socket.
func listener(listeners []libvirtxml.DomainGraphicListener, address string) (host, socket string) {
	for _, l := range listeners {
		switch {
		case l.Socket != nil && l.Socket.Socket != "":
			return "", l.Socket.Socket
		case l.Address != nil:
			address = cmp.Or(l.Address.Address, address)
		case l.Network != nil:
			address = cmp.Or(l.Network.Address, address)
		}
	}
	return address, ""
}

// serialConsole is a serial port that waits for a client. A pseudo terminal is none, nor is a port that itself connects to somewhere.
func serialConsole(source *libvirtxml.DomainChardevSource) (c virt.Console, listens bool) {
	c.Type = virt.ConsoleSerial
	switch {
	case source == nil:
	case source.UNIX != nil && source.UNIX.Mode == "bind" && source.UNIX.Path != "":
		c.Network, c.Address, listens = "unix", source.UNIX.Path, true
	case source.TCP != nil && source.TCP.Mode == "bind":
		port, err := strconv.Atoi(source.TCP.Service)
		c.Network, c.Address, listens = "tcp", hostPort(source.TCP.Host, port), err == nil && port > 0
	}
	return c, listens
}

// hostPort is what reaches a server from its own host: one that listens everywhere is on loopback too.
func hostPort(host string, port int) string {
	switch ip := net.ParseIP(host); {
	case host == "":
		host = "127.0.0.1" // QEMU's default
	case ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
