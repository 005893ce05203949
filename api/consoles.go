package api

import (
	"net"
	"net/http"
	"strconv"

	"compute-agent/compute"
	"compute-agent/virt"
)

const consoleTokensPath = "/os-console-auth-tokens/"

func (a *api) consoleRoutes() []route {
	return []route{
		{pattern: "POST /servers/{id}/remote-consoles", do: a.createConsole, schema: "remote_console", since: 6},
		// Ours: Nova takes tokens back only with their server.
		{pattern: "DELETE /servers/{id}/remote-consoles", do: a.revokeConsoles, since: 6},
		{pattern: "GET " + consoleTokensPath + "{token}", do: a.showConsoleToken, access: forAdmin},
	}
}

// consoleTypes are the types of consoles that there are, in the words of the API. Nova's others, xvpvnc, rdp-html5 and webmks, are of hypervisors and viewers
// that are not here.
var consoleTypes = map[string]virt.ConsoleType{"novnc": virt.ConsoleVNC, "spice-html5": virt.ConsoleSPICE, "serial": virt.ConsoleSerial}

// protocolTypes are the types that Nova has for each protocol.
var protocolTypes = map[string][]string{
	"vnc": {"novnc", "xvpvnc"}, "spice": {"spice-html5"}, "rdp": {"rdp-html5"}, "serial": {"serial"}, "mks": {"webmks"},
}

// consoleType is the protocol of a type, if both are of what there is. The words are those of Nova's ConsoleTypeInvalid and ConsoleTypeUnavailable.
func consoleType(protocol, name string) (virt.ConsoleType, error) {
	for _, known := range protocolTypes[protocol] {
		if known != name {
			continue
		}
		if t, there := consoleTypes[name]; there {
			return t, nil
		}
		return "", badRequest("type: Unavailable console type %s.", name)
	}
	return "", badRequest("type: Invalid console type %s", name)
}

func (a *api) createConsole(c *call) (*answer, error) {
	var req struct {
		Console struct {
			Protocol, Type string
			Port           int // ours: which of the server's serial ports
		} `json:"remote_console"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	t, err := consoleType(req.Console.Protocol, req.Console.Type)
	if err != nil {
		return nil, err
	}
	if req.Console.Port != 0 && t != virt.ConsoleSerial {
		return nil, badRequest("port: goes with type serial")
	}
	access, err := a.Backend.CreateConsole(c.Context(), s.ID, t, req.Console.Port)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"remote_console": map[string]string{"protocol": req.Console.Protocol, "type": req.Console.Type, "url": access.URL}})
}

// consoleAction is one of the actions that came before remote-consoles.
func consoleAction(name, protocol string) func(*api, *call, compute.Server) (*answer, error) {
	return func(a *api, c *call, s compute.Server) (*answer, error) {
		var req map[string]struct{ Type string }
		if err := c.decode(&req); err != nil {
			return nil, err
		}
		t, err := consoleType(protocol, req[name].Type)
		if err != nil {
			return nil, err
		}
		access, err := a.Backend.CreateConsole(c.Context(), s.ID, t, 0)
		if err != nil {
			return nil, err
		}
		return ok(map[string]any{"console": map[string]string{"type": req[name].Type, "url": access.URL}})
	}
}

func (a *api) revokeConsoles(c *call) (*answer, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	if err := a.Backend.RevokeConsoles(c.Context(), s.ID); err != nil {
		return nil, err
	}
	return status(http.StatusNoContent)
}

// showConsoleToken says where a token leads. Before 2.31 that could be asked only of RDP's, which there are none of.
func (a *api) showConsoleToken(c *call) (*answer, error) {
	if !c.since(31) {
		return nil, badRequest("The requested console type details are not accessible")
	}
	target, err := a.Backend.ConsoleTarget(c.Context(), c.PathValue("token"))
	if err != nil {
		return nil, err
	}
	host, port := consoleAddress(target.Console)
	return ok(map[string]any{"console": map[string]any{
		"instance_uuid": target.ServerID, "host": host, "port": port, "internal_access_path": nil,
	}})
}

// consoleAddress is the host and the port of a console; the path and nothing of a socket.
func consoleAddress(at virt.Console) (host string, port any) {
	address := at.Address
	if address == "" {
		address = at.TLSAddress
	}
	if at.Network == "unix" {
		return address, nil
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return address, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return address, nil
	}
	return host, n
}
