package browser

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"compute-agent/console"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

var screenshots = flag.String("screenshots", "", "`directory` to save pictures of the pages in")

// TestBrowser opens the pages of consoles in Chromium, and uses the consoles of a guest that is really there.
func TestBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a real guest and a browser")
	}
	h := startHost(t, startGuest(t))
	b := startBrowser(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *browser, *host)
	}{
		{"serial", testSerial},
		{"vnc", testVNC},
		{"spice", testSPICE},
		{"no token", testNoToken},
		{"policy", testPolicy},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, b, h) })
	}
}

// terminal waits until xterm.js shows a text.
func (w *tab) terminal(text string) {
	w.Helper()
	w.until("the terminal shows "+text, fmt.Sprintf(`document.querySelector('.xterm-rows').innerText.includes(%q)`, text))
}

// message waits until the page tells why there is no console, in these words.
func (w *tab) message(text string) {
	w.Helper()
	w.until("the message has "+text, fmt.Sprintf(`(document.getElementById('console-message') || {innerText: ''}).innerText.includes(%q)`, text))
}

// logIn logs in to the tiny guest at the prompt that Enter brings.
func (w *tab) logIn() {
	w.Helper()
	w.until("the page is connected", `document.getElementById('state').innerText === 'connected'`)
	w.press("\r")
	w.terminal("tiny login:")
	w.press("root\r")
	w.terminal("Password:")
	w.press("tiny\r")
	w.terminal("tiny# ")
}

func testSerial(t *testing.T, b *browser, h *host) {
	w := b.open(t, h.server.URL+"/serial.html?token="+h.token(console.Serial, "second"))
	w.logIn()
	w.press("echo $((6 * 7)) answers\r")
	w.terminal("42 answers")
	w.capture("console-serial.png")
	w.addressBar()

	h.stop()
	w.message("openstack console url show --serial SERVER")
	h.start()
	w.run("try the old token", chromedp.Click(chromedp.CSS("#again")))
	w.message("the token is unknown")
	w.run("give the new address", chromedp.SendKeys(chromedp.CSS("#address"), "http://elsewhere.example.org/serial.html?token="+h.token(console.Serial, "second")+"\r"))
	w.until("the page is connected again", `document.getElementById('state').innerText === 'connected' && document.getElementById('console-message').hidden`)
	w.press("echo $((7 * 7)) is more\r")
	w.terminal("49 is more")
	w.terminal("42 answers")
	w.reload()
	w.until("the page is connected after a reload", `document.getElementById('state').innerText === 'connected'`)
	w.addressBar()
	w.clean()
}

// screen reads the guest's screen as text, through a serial console: what the canvas shows in pixels.
type screen struct {
	*testing.T
	conn net.Conn
	seen []byte
}

// openScreen logs in to a serial port as a program does.
func openScreen(t *testing.T, h *host) *screen {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	t.Cleanup(cancel)
	address := strings.Replace(h.server.URL, "http:", "ws:", 1) + "/?token=" + h.token(console.Serial, "second")
	c, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{Subprotocols: []string{"binary"}}) //nolint:bodyclose // Dial's comment: there is no need to
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	s := &screen{T: t, conn: websocket.NetConn(ctx, c, websocket.MessageBinary)}
	s.send("\r")
	if s.until(`tiny login: $|tiny# $`) != "tiny# " { // an earlier test may have logged in
		s.send("root\r")
		s.until(`Password: $`)
		s.send("tiny\r")
		s.until(`tiny# $`)
	}
	return s
}

func (s *screen) send(text string) {
	s.Helper()
	if _, err := io.WriteString(s.conn, text); err != nil {
		s.Fatal(err)
	}
}

// until reads until something matches.
func (s *screen) until(pattern string) string {
	s.Helper()
	re := regexp.MustCompile(pattern)
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.Fatal(err)
	}
	for buf := make([]byte, 4096); ; {
		if m := re.FindIndex(s.seen); m != nil {
			text := string(s.seen[m[0]:m[1]])
			s.seen = s.seen[m[1]:]
			return text
		}
		n, err := s.conn.Read(buf)
		if err != nil {
			s.Fatalf("wait for %q: %v; there was %q", pattern, err, s.seen)
		}
		s.seen = bytes.ReplaceAll(append(s.seen, buf[:n]...), []byte("\x1b[6n"), nil) // the shell asks where the cursor is
	}
}

// shows waits until the guest's screen shows a text.
func (s *screen) shows(text string) {
	s.Helper()
	s.send("until grep -q '" + text + "' /dev/vcs1; do sleep 1; done; echo screen-$((0))-shows\r")
	s.until(`screen-0-shows\r\n`)
	s.until(`tiny# $`)
}

// lit is the share of the canvas that is not dark.
const lit = `(() => {
	const c = document.querySelector(%q);
	if (!c || !c.width) return 0;
	const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
	let n = 0;
	for (let i = 0; i < p.length; i += 4) n += p[i] + p[i + 1] + p[i + 2] > 200;
	return n * 4 / p.length;
})()`

func testVNC(t *testing.T, b *browser, h *host) {
	s := openScreen(t, h)
	s.shows("login:")
	token := h.token(console.VNC, console.VNC)
	w := b.open(t, h.vncURL(token))
	canvas := fmt.Sprintf(lit, "#noVNC_container canvas")
	w.until("noVNC has connected", `document.documentElement.classList.contains('noVNC_connected')`)
	w.until("the canvas shows the screen", canvas+` > 0`)
	w.addressBar()

	w.press("root\r")
	s.shows("Password:")
	w.press("tiny\r")
	s.shows("tiny#")
	w.press("clear\r")
	w.until("the canvas is nearly empty", canvas+` < 0.02`)
	w.press("cat /proc/cpuinfo\r")
	s.shows("flags")
	w.until("the canvas shows a command's output", canvas+` > 0.05`)
	w.capture("console-vnc.png")

	w.reload()
	w.until("noVNC has connected after a reload", `document.documentElement.classList.contains('noVNC_connected')`)
	w.until("the canvas shows the same", canvas+` > 0.05`)
	w.addressBar()

	h.revoke(token)
	w.message("openstack console url show --novnc SERVER")
	w.message("revoked")
	w.clean()
}

func testSPICE(t *testing.T, b *browser, h *host) {
	w := b.open(t, h.server.URL+"/spice_auto.html?token="+h.token(console.SPICE, console.SPICE))
	w.until("the canvas shows the screen", fmt.Sprintf(lit, "#spice-screen canvas")+` > 0.001`)
	w.addressBar()
	h.stop()
	w.message("openstack console url show --spice SERVER")
	h.start()
	w.clean()
}

// A token that is unknown, or is gone, or opens another kind of console; and none at all.
func testNoToken(t *testing.T, b *browser, h *host) {
	gone := h.token(console.VNC, console.VNC)
	h.revoke(gone)
	const unknown, none = "the token is unknown, has expired, or was revoked", "has no token in it"
	for _, c := range []struct{ name, address, message string }{
		{"vnc revoked", h.vncURL(gone), unknown},
		{"vnc unknown", h.vncURL("guessed"), unknown},
		{"serial unknown", h.server.URL + "/serial.html?token=guessed", unknown},
		{"spice unknown", h.server.URL + "/spice_auto.html?token=guessed", unknown},
		{"serial with a token for vnc", h.server.URL + "/serial.html?token=" + h.token(console.VNC, console.VNC), "another console"},
		{"vnc none", h.server.URL + "/vnc_auto.html", none},
		{"serial none", h.server.URL + "/serial.html", none},
		{"spice none", h.server.URL + "/spice_auto.html", none},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := b.open(t, c.address)
			w.message(c.message)
			w.message("Ask for a new address")
			w.clean()
		})
	}
}

// What the other tests count is really seen, and the policy stops it: a script, a style and a picture that were put into the page, and a WebSocket to elsewhere.
func testPolicy(t *testing.T, b *browser, h *host) {
	w := b.open(t, h.server.URL+"/serial.html?token="+h.token(console.Serial, "second"))
	w.run("do what the policy forbids", chromedp.Evaluate[chromedp.Void](`
		const script = document.createElement('script');
		script.textContent = 'window.ran = true';
		document.body.append(script);
		document.body.insertAdjacentHTML('beforeend', '<p style="color: red"></p>');
		new Image().src = 'http://elsewhere.invalid/picture.png';
		try { new WebSocket('ws://elsewhere.invalid/'); } catch (e) { }
	`))
	w.until("four violations", `['script-src', 'style-src', 'img-src', 'connect-src'].every((d) => window.violations.some((v) => v.startsWith(d)))`)
	if value[bool](w, `window.ran === true`) {
		t.Error("a script in the page's text ran")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Logf("violations seen and stopped: %d; addresses elsewhere: %q", 4, w.elsewhere)
}
