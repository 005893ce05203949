package pages

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// get asks a handler for a path with headers in the form "Name: value".
func get(h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://console.example.org:6080"+path, nil)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// The vendored files are those of the packages: what scripts/pages left in static.sums.
func TestVendoredFilesAreTheirAuthors(t *testing.T) {
	sums, err := os.Open("static.sums")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sums.Close() }()
	want := map[string]string{}
	for lines := bufio.NewScanner(sums); lines.Scan(); {
		sum, name, _ := strings.Cut(lines.Text(), "  ")
		want[name] = sum
	}
	for name, f := range embeddedFiles(t, "static") {
		sum := sha256.Sum256(f)
		if got := hex.EncodeToString(sum[:]); got != want[name] {
			t.Errorf("%s has the checksum %s, static.sums says %q", name, got, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s is in static.sums and not there", name)
	}
	for _, viewer := range []string{"novnc", "xterm", "spice-html5"} {
		if _, err := embedded.ReadFile("static/" + viewer + "/LICENSE"); err != nil {
			t.Errorf("%s has no licence beside it: %v", viewer, err)
		}
	}
}

func embeddedFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := fs.WalkDir(embedded, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[name], err = embedded.ReadFile(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestAnswers(t *testing.T) {
	h := Handler(Options{})
	for _, c := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/vnc_auto.html?path=%3Ftoken%3Dsecret", 200, "text/html; charset=utf-8"},
		{"GET", "/vnc_lite.html", 200, "text/html; charset=utf-8"},
		{"GET", "/vnc.html", 200, "text/html; charset=utf-8"},
		{"GET", "/spice_auto.html?token=secret", 200, "text/html; charset=utf-8"},
		{"GET", "/serial.html?token=secret", 200, "text/html; charset=utf-8"},
		{"HEAD", "/serial.html", 200, "text/html; charset=utf-8"},
		{"GET", "/page.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/novnc/app/ui.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/novnc/app/images/info.svg", 200, "image/svg+xml"},
		{"GET", "/novnc/package.json", 200, "application/json"},
		{"GET", "/xterm/xterm.mjs", 200, "text/javascript; charset=utf-8"},
		{"GET", "/xterm/xterm.css", 200, "text/css; charset=utf-8"},
		{"GET", "/spice-html5/LICENSE", 200, "text/plain; charset=utf-8"},
		{"GET", "/", 404, ""},
		{"GET", "/novnc", 404, ""},
		{"GET", "/novnc/", 404, ""},
		{"GET", "/novnc/vnc.html", 404, ""},
		{"GET", "/../pages.go", 404, ""},
		{"GET", "/site/page.js", 404, ""},
		{"GET", "//evil.example.org/%2f..", 404, ""},
		{"POST", "/serial.html", 405, ""},
		{"OPTIONS", "/serial.html", 405, ""},
		{"TRACE", "/", 405, ""},
	} {
		r := get(h, c.method, c.path)
		text := r.Body.String()
		if r.Code != c.status || (c.contentType != "" && r.Header().Get("Content-Type") != c.contentType) {
			t.Errorf("%s %s: %d, %s; want %d, %s", c.method, c.path, r.Code, r.Header().Get("Content-Type"), c.status, c.contentType)
		}
		if (text == "") != (c.method == "HEAD") {
			t.Errorf("%s %s: a body of %d bytes", c.method, c.path, len(text))
		}
		checkSecured(t, c.path, r.Header())
	}
}

// checkSecured checks what every answer must have, also a refusal.
func checkSecured(t *testing.T, path string, header http.Header) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Cross-Origin-Resource-Policy": "same-origin",
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; media-src 'self' blob:; " +
			"connect-src 'self' ws://console.example.org:6080 wss://console.example.org:6080; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %s: %q, want %q", path, name, got, want)
		}
	}
	if header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%s: other origins may read it", path)
	}
}

func TestFrameAncestors(t *testing.T) {
	for _, c := range []struct {
		origins []string
		want    string
	}{
		{nil, "'none'"},
		{[]string{"https://dashboard.example.org", "'self'"}, "https://dashboard.example.org 'self'"},
		{[]string{"https://a.example.org; script-src *"}, "'none'"},
		{[]string{"*"}, "'none'"},
	} {
		r := get(Handler(Options{FrameAncestors: c.origins}), "GET", "/serial.html")
		policy := r.Header().Get("Content-Security-Policy")
		if !strings.HasSuffix(policy, "; frame-ancestors "+c.want) {
			t.Errorf("%q: %s", c.origins, policy)
		}
		if framed := c.want != "'none'"; framed == (r.Header().Get("X-Frame-Options") == "DENY") {
			t.Errorf("%q: X-Frame-Options: %q", c.origins, r.Header().Get("X-Frame-Options"))
		}
	}
}

// The Host header is a client's word: only a name or an address comes into the policy.
func TestPolicyTakesNoOtherHost(t *testing.T) {
	for host, taken := range map[string]bool{
		"console.example.org": true, "192.0.2.1:6080": true, "[2001:db8::1]:6080": true,
		"": false, "a b": false, "x; script-src *": false, "x,y": false, "x'": false,
	} {
		if got := strings.Contains(policy(host, noAncestors), " ws://"); got != taken {
			t.Errorf("host %q: in the policy %v", host, got)
		}
	}
}

func TestCaching(t *testing.T) {
	h := Handler(Options{})
	if r := get(h, "GET", "/serial.html"); r.Header().Get("Cache-Control") != "no-store" || r.Header().Get("ETag") != "" {
		t.Errorf("a page is kept: %v", r.Header())
	}
	first := get(h, "GET", "/xterm/xterm.mjs", "Accept-Encoding: gzip, br")
	if first.Header().Get("Cache-Control") != "no-cache" || first.Header().Get("ETag") == "" {
		t.Fatalf("a script is not kept: %v", first.Header())
	}
	again := get(h, "GET", "/xterm/xterm.mjs", "Accept-Encoding: gzip, br", "If-None-Match: "+first.Header().Get("ETag"))
	if again.Code != http.StatusNotModified || again.Body.String() != "" {
		t.Errorf("asked again: %d", again.Code)
	}
	if plain := get(h, "GET", "/xterm/xterm.mjs"); plain.Header().Get("ETag") == first.Header().Get("ETag") {
		t.Error("two encodings have one tag")
	}
}

func TestGzip(t *testing.T) {
	h := Handler(Options{})
	plain := get(h, "GET", "/xterm/xterm.mjs").Body.String()
	for accepted, want := range map[string]string{"gzip": "gzip", "deflate, gzip": "gzip", "gzip;q=0": "", "br": "", "": ""} {
		r := get(h, "GET", "/xterm/xterm.mjs", "Accept-Encoding: "+accepted)
		if got := r.Header().Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: Content-Encoding %q", accepted, got)
		}
		text := r.Body.String()
		if want == "gzip" {
			text = unzip(t, text)
		}
		if text != plain {
			t.Errorf("Accept-Encoding %q: another text", accepted)
		}
	}
	if r := get(h, "GET", "/xterm/xterm.mjs", "Accept-Encoding: gzip", "Range: bytes=0-9"); r.Code != 206 || r.Body.String() != plain[:10] {
		t.Errorf("a range: %d", r.Code)
	}
}

func unzip(t *testing.T, text string) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

var (
	comment    = regexp.MustCompile(`(?s)<!--.*?-->`)
	scriptText = regexp.MustCompile(`(?s)<script[^>]*>\s*[^<\s]`)
	inlined    = regexp.MustCompile(`(?i)<style|\son\w+=|\sstyle=|javascript:`)
	reference  = regexp.MustCompile(`(?:href|src)="([^"]+)"`)
	basePath   = regexp.MustCompile(`<base href="([^"]+)">`)
)

// The policy would break pages with scripts or styles in their text, and what a page names must be served.
func TestPagesHoldToThePolicy(t *testing.T) {
	h := Handler(Options{})
	for _, name := range []string{"vnc_auto.html", "vnc_lite.html", "vnc.html", "spice_auto.html", "serial.html"} {
		page := comment.ReplaceAllString(get(h, "GET", "/"+name).Body.String(), "")
		if found := scriptText.FindString(page) + inlined.FindString(page); found != "" {
			t.Errorf("%s has a script or a style in its text: %q", name, found)
		}
		base := "/"
		if m := basePath.FindStringSubmatch(page); m != nil {
			base += m[1]
		}
		references := reference.FindAllStringSubmatch(basePath.ReplaceAllString(page, ""), -1)
		if len(references) < 4 {
			t.Errorf("%s loads only %d files: the test does not see them", name, len(references))
		}
		for _, m := range references {
			if strings.HasPrefix(m[1], "data:") {
				continue
			}
			if r := get(h, "GET", path.Join(base, m[1])); r.Code != 200 {
				t.Errorf("%s loads %s: %d", name, m[1], r.Code)
			}
		}
	}
}
