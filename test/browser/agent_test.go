package browser

import (
	"flag"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

var shell = flag.String("shell", "", "`command` that runs the functions of test/openstack-client/consoles, on an agent with a server one")

// site is an agent with a real server.
type site struct{ *testing.T }

// do runs a function of the script.
func (s site) do(function string) string {
	s.Helper()
	args := append(strings.Fields(*shell), function)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		s.Fatalf("%s: %v\n%s", function, err, out)
	}
	return strings.TrimSpace(string(out))
}

// serialPage is the page of a new serial console, whose URL in Nova's form is a WebSocket's.
func (s site) serialPage() string {
	s.Helper()
	u, err := url.Parse(s.do("url serial one"))
	if err != nil {
		s.Fatal(err)
	}
	u.Scheme, u.Path = "http", "/serial.html"
	return u.String()
}

// TestAgent opens the pages of an agent, with a server of libvirt's, that ends and is killed meanwhile.
func TestAgent(t *testing.T) {
	if *shell == "" {
		t.Skip("test/openstack-client/consoles runs it, with its agent")
	}
	b := startBrowser(t)
	t.Run("serial", func(t *testing.T) { testAgentSerial(b, site{t}) })
	t.Run("vnc", func(t *testing.T) { testAgentVNC(b, site{t}) })
	t.Log("pages of the agent: serial through SIGTERM and SIGKILL, VNC until its token is revoked")
}

func testAgentSerial(b *browser, s site) {
	w := b.open(s.T, s.serialPage())
	w.logIn()
	w.press("answer=$((6 * 7)); echo $answer first\r")
	w.terminal("42 first")
	for _, signal := range []string{"TERM", "KILL"} {
		s.do("again " + signal)
		w.message("openstack console url show --serial SERVER")
		w.run("give the new address", chromedp.SendKeys(chromedp.CSS("#address"), s.serialPage()+"\r"))
		w.until("the page is connected again", `document.getElementById('state').innerText === 'connected' && document.getElementById('console-message').hidden`)
		w.press("echo $answer after " + signal + "\r") // the same shell knows it
		w.terminal("42 after " + signal)
	}
	w.press("exit\r")
	w.terminal("tiny login:")
	w.addressBar()
	w.clean()
}

func testAgentVNC(b *browser, s site) {
	w := b.open(s.T, s.do("url novnc one"))
	canvas := fmt.Sprintf(lit, "#noVNC_container canvas")
	w.until("the canvas shows the screen", canvas+` > 0`)
	before := value[float64](w, canvas)
	w.press("a name that nobody has\r") // at the login prompt, which asks for the password
	w.until("the canvas shows what was typed", fmt.Sprintf(`%s > %g`, canvas, before))
	s.do(`"$agent_binary" console revoke --config "$dir/config.yaml" one`)
	w.message("revoked")
	w.message("openstack console url show --novnc SERVER")
	w.clean()
}
