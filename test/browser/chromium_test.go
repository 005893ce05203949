// Package browser holds the tests of consoles in a real browser: Debian's Chromium, without a window.
package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience is how long a test waits for what must happen, on a machine that does much else.
const patience = 120 * time.Second

// browser is one Chromium, which all tests share.
type browser struct{ ctx context.Context }

func startBrowser(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("/usr/bin/chromium"),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // Chromium's own does not let root in
		chromedp.DisableGPU,
		chromedp.Flag("disable-dev-shm-usage", true), // containers have little of it
		chromedp.WindowSize(1000, 700),
		chromedp.Env("XDG_CONFIG_HOME="+t.TempDir(), "XDG_CACHE_HOME="+t.TempDir()),
	)
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewContext(allocator)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return &browser{ctx}
}

// tab is a page that is watched: what it loads, and from where, what its policy forbids, and what its scripts throw.
type tab struct {
	*testing.T
	ctx  context.Context
	host string // the only one that it may load from

	mu         sync.Mutex
	requests   int      // to the host
	elsewhere  []string // addresses of other hosts
	exceptions []string
}

// open opens a page in a tab of its own.
func (b *browser) open(t *testing.T, address string) *tab {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(b.ctx)
	t.Cleanup(cancel)
	w := &tab{T: t, ctx: ctx, host: u.Host}
	if err := chromedp.Listen(ctx, w.note); err != nil { // opens the tab, whose life is that of this context
		t.Fatalf("open a tab: %v", err)
	}
	w.run("open "+u.Path, chromedp.Func(watch), chromedp.Navigate(address))
	return w
}

// collectViolations runs before the scripts of every page.
const collectViolations = `window.violations = [];
addEventListener('securitypolicyviolation', (e) => window.violations.push(e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sourceFile + ':' + e.lineNumber));`

// watch asks the browser to tell what tab.note notes.
func watch(ctx context.Context, t *chromedp.Target) error {
	_, err := cdp.Call(ctx, t, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: collectViolations})
	if err == nil {
		_, err = cdp.Call(ctx, t, network.Enable, network.EnableParams{})
	}
	if err == nil {
		_, err = cdp.Call(ctx, t, runtime.Enable, cdp.Empty{})
	}
	return err
}

func (w *tab) note(event any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch event := event.(type) {
	case *network.EventRequestWillBeSent:
		w.noteRequest(event.Request.URL)
	case *network.EventWebSocketCreated:
		w.noteRequest(event.URL)
	case *runtime.EventExceptionThrown:
		w.exceptions = append(w.exceptions, exception(event.ExceptionDetails))
	}
}

func exception(e *runtime.ExceptionDetails) string {
	text := fmt.Sprintf("%s:%d: %s", e.URL, e.LineNumber+1, e.Text)
	if e.Exception != nil {
		text += " " + e.Exception.Description
	}
	return text
}

func (w *tab) noteRequest(address string) {
	switch u, err := url.Parse(address); {
	case err != nil:
		w.elsewhere = append(w.elsewhere, address)
	case u.Scheme == "data" || u.Scheme == "blob": // in the page itself
	case u.Host == w.host:
		w.requests++
	default:
		w.elsewhere = append(w.elsewhere, address)
	}
}

// run does something within the time that there is for it.
func (w *tab) run(what string, actions ...chromedp.Action[chromedp.Void]) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		w.Fatalf("%s: %v\n%s", what, err, w.shown())
	}
}

// until waits until an expression of JavaScript is true.
func (w *tab) until(what, expression string) {
	w.Helper()
	w.run("wait until "+what, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(100*time.Millisecond),
		chromedp.WithPollingTimeout(patience)))
}

// get is what an action gives.
func get[T any](w *tab, what string, action chromedp.Action[T]) T {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
	return v
}

// value is what an expression of JavaScript gives.
func value[T any](w *tab, expression string) T {
	w.Helper()
	return get(w, expression, chromedp.Evaluate[T](expression))
}

// shown is the text of the page, for a test that fails.
func (w *tab) shown() string {
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	if err != nil {
		return "(the page does not say what it shows: " + err.Error() + ")"
	}
	return text
}

// press types text, key by key, into what has the focus. Unlike chromedp.KeyEvent it leaves it to the browser whether a key that goes down types its character:
// a terminal that takes the key itself forbids that.
func (w *tab) press(text string) {
	w.Helper()
	w.run("type", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		for _, r := range text {
			if err := pressKey(ctx, t, r); err != nil {
				return err
			}
		}
		return nil
	}))
}

func pressKey(ctx context.Context, t *chromedp.Target, r rune) error {
	events := kb.Encode(r)
	down, up := *events[0], *events[len(events)-1]
	down.Text = string(r)
	if _, err := cdp.Call(ctx, t, input.DispatchKeyEvent, down); err != nil {
		return err
	}
	_, err := cdp.Call(ctx, t, input.DispatchKeyEvent, up)
	return err
}

// clean checks that the page loaded from its own host only, and did nothing that its policy forbids.
func (w *tab) clean() {
	w.Helper()
	violations := value[[]string](w, `window.violations`)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.requests < 3 {
		w.Errorf("only %d requests: the test does not see them", w.requests)
	}
	if len(w.elsewhere)+len(violations)+len(w.exceptions) > 0 {
		w.Errorf("requests to elsewhere: %q\npolicy violations: %q\nexceptions: %q", w.elsewhere, violations, w.exceptions)
	}
	w.Logf("%d requests, %d to elsewhere, %d policy violations, %d exceptions", w.requests, len(w.elsewhere), len(violations), len(w.exceptions))
}

// capture saves a picture of the page if the test is asked for it.
func (w *tab) capture(name string) {
	w.Helper()
	if *screenshots == "" {
		return
	}
	picture := get(w, "take a picture", chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(*screenshots, name), picture, 0o644); err != nil {
		w.Fatal(err)
	}
}

// addressBar is what the browser shows.
func (w *tab) addressBar() string {
	w.Helper()
	address := value[string](w, `location.href`)
	if strings.Contains(address, "token") {
		w.Errorf("the token is in the address bar: %s", address)
	}
	return address
}

// reload is what F5 does.
func (w *tab) reload() {
	w.Helper()
	w.run("reload", chromedp.Reload())
}
