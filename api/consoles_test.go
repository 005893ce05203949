package api_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"compute-agent/compute"
	"compute-agent/internal/golden"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

// screens says where the consoles of the fake driver's guests are.
type screens struct {
	driver *fake.Driver
	list   []virt.Console
}

func (s *screens) Consoles(ctx context.Context, id string) ([]virt.Console, error) {
	g, err := s.driver.Guest(ctx, id)
	if err == nil && g.State != virt.PowerRunning && g.State != virt.PowerPaused {
		err = fmt.Errorf("%w: it is stopped", virt.ErrInvalidState)
	}
	return s.list, err
}

// consoleSite is a site with bob's server "server", which has a screen by VNC and SPICE and two serial ports, and eve's "hers".
func consoleSite(t *testing.T) *conversation {
	t.Helper()
	s := newSite(t)
	s.screens.list = []virt.Console{
		{Type: virt.ConsoleVNC, Network: "tcp", Address: "127.0.0.1:5900"},
		{Type: virt.ConsoleSPICE, Network: "tcp", TLSAddress: "[::1]:5901"},
		{Type: virt.ConsoleSerial, Network: "tcp", Address: "127.0.0.1:10000"},
		{Type: virt.ConsoleSerial, Port: 1, Network: "unix", Address: "/run/serial1"},
	}
	s.addFlavor("1")
	c := s.conversation()
	c.base, c.ids["image"] = "/compute/v2.1", s.addImage(admin, "tiny", "public")
	c.ids["server"], c.ids["hers"] = s.addServer(bob, "web", c.ids["image"], "1"), s.addServer(eve, "hers", c.ids["image"], "1")
	return c
}

var tokenInURL = regexp.MustCompile(`(token(?:=|%3D))([A-Za-z0-9_-]{43})`)

// at sends requests in a microversion; the last token of a URL is {token}.
func (c *conversation) at(version string, steps ...step) {
	c.t.Helper()
	for _, st := range steps {
		r := c.send(request{as: st.as, method: st.method, path: c.base + c.fill(st.path), body: c.fill(st.body), version: version})
		if m := tokenInURL.FindStringSubmatch(r.body); m != nil {
			c.ids["token"] = m[2]
		}
		fmt.Fprintf(&c.out, "%s %s %s %s %s\n%d %s\n\n", version, st.as, st.method, st.path, st.body, r.status, strings.TrimSpace(c.told(r.body)))
	}
}

func remote(protocol, name string) string {
	return fmt.Sprintf(`{"remote_console": {"protocol": %q, "type": %q}}`, protocol, name)
}

// Consoles in the shapes of Nova's documented samples, and what is refused.
func TestConsoles(t *testing.T) {
	c := consoleSite(t)
	const path, act = "/servers/{server}/remote-consoles", "/servers/{server}/action"
	c.at("2.1",
		step{bob, "POST", act, `{"os-getVNCConsole": {"type": "novnc"}}`, ""},
		step{bob, "POST", act, `{"os-getSPICEConsole": {"type": "spice-html5"}}`, ""},
		step{bob, "POST", act, `{"os-getSerialConsole": {"type": "serial"}}`, ""},
		step{bob, "POST", act, `{"os-getVNCConsole": {"type": "xvpvnc"}}`, ""},
		step{bob, "POST", act, `{"os-getVNCConsole": {"type": "serial"}}`, ""},
		step{bob, "POST", act, `{"os-getVNCConsole": {}}`, ""},
		step{bob, "POST", act, `{"os-getRDPConsole": {"type": "rdp-html5"}}`, ""},
		step{bob, "POST", path, remote("vnc", "novnc"), ""},
		step{admin, "GET", "/os-console-auth-tokens/{token}", "", ""},
	)
	c.at("2.5", step{bob, "POST", act, `{"os-getSerialConsole": {"type": "serial"}}`, ""})
	c.at("2.6",
		step{bob, "POST", act, `{"os-getSerialConsole": {"type": "serial"}}`, ""},
		step{bob, "POST", act, `{"os-getRDPConsole": {"type": "rdp-html5"}}`, ""},
		step{bob, "POST", path, remote("vnc", "novnc"), ""},
		step{bob, "POST", path, remote("spice", "spice-html5"), ""},
		step{bob, "POST", path, remote("serial", "serial"), ""},
		step{admin, "POST", path, remote("vnc", "novnc"), ""},
		step{bob, "POST", path, remote("vnc", "xvpvnc"), ""},
		step{bob, "POST", path, remote("rdp", "rdp-html5"), ""},
		step{bob, "POST", path, remote("vnc", "serial"), ""},
		step{bob, "POST", path, remote("mks", "webmks"), ""},
		step{bob, "POST", path, remote("telnet", "novnc"), ""},
		step{bob, "POST", path, `{"remote_console": {"protocol": "vnc", "type": "novnc", "host": "192.0.2.1"}}`, ""},
		step{bob, "POST", path, `{"remote_console": {"protocol": "vnc"}}`, ""},
		step{bob, "POST", path, `{"remote_console": {"protocol": "vnc", "type": "novnc", "port": 1}}`, ""},
		step{bob, "POST", path, `{"remote_console": {"protocol": "serial", "type": "serial", "port": 2}}`, ""},
		step{bob, "POST", path, `{"remote_console": {"protocol": "serial", "type": "serial", "port": -1}}`, ""},
		step{eve, "POST", path, remote("vnc", "novnc"), ""},
		step{bob, "POST", "/servers/00000000-0000-4000-8000-000000000000/remote-consoles", remote("vnc", "novnc"), ""},
	)
	c.at("2.8",
		step{bob, "POST", path, remote("mks", "webmks"), ""},
		step{bob, "POST", path, remote("serial", "serial"), ""},
	)
	c.at("2.30", step{admin, "GET", "/os-console-auth-tokens/{token}", "", ""})
	c.at("2.31",
		step{admin, "GET", "/os-console-auth-tokens/{token}", "", ""},
		step{bob, "GET", "/os-console-auth-tokens/{token}", "", ""},
		step{admin, "GET", "/os-console-auth-tokens/unknown", "", ""},
		step{bob, "POST", path, `{"remote_console": {"protocol": "serial", "type": "serial", "port": 1}}`, ""},
		step{admin, "GET", "/os-console-auth-tokens/{token}", "", ""},
		step{bob, "POST", path, remote("spice", "spice-html5"), ""},
		step{admin, "GET", "/os-console-auth-tokens/{token}", "", ""},
		step{eve, "DELETE", path, "", ""},
		step{admin, "GET", "/os-console-auth-tokens/{token}", "", ""},
		step{bob, "DELETE", path, "", ""},
		step{admin, "GET", "/os-console-auth-tokens/{token}", "", ""},
	)
	c.screens.list = c.screens.list[:1] // a guest without a serial port
	c.at("2.8", step{bob, "POST", path, remote("serial", "serial"), ""})
	c.act(bob, c.ids["server"], `{"os-stop": null}`)
	c.settle(c.ids["server"])
	c.at("2.8",
		step{bob, "POST", path, remote("vnc", "novnc"), ""},
		step{admin, "GET", "/servers/{server}/diagnostics", "", ""},
	)
	golden.Assert(t, "testdata/consoles.golden", c.out.String())
}

// No token is in the log, nor in the database.
func TestConsoleTokensAreSecret(t *testing.T) {
	c := consoleSite(t)
	c.at("2.31", step{bob, "POST", "/servers/{server}/remote-consoles", remote("vnc", "novnc"), ""},
		step{admin, "GET", "/os-console-auth-tokens/{token}", "", ""})
	c.want(403, request{as: bob, path: "/compute/v2.1/os-console-auth-tokens/" + c.ids["token"], version: "2.31"})
	token := c.ids["token"]
	if token == "" {
		t.Fatal("no token")
	}
	if strings.Contains(c.log.String(), token) {
		t.Errorf("the log has the token:\n%s", c.log.String())
	}
	c.must(c.store.View(t.Context(), func(tx compute.Reader) error {
		all, err := tx.ConsoleTokens(c.ids["server"])
		if err == nil && len(all) != 1 || strings.Contains(fmt.Sprintf("%+v", all), token) {
			t.Errorf("the store has %+v", all)
		}
		return err
	}))
}
