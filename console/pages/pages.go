// Package pages serves the pages that show consoles in a browser: noVNC, xterm.js and spice-html5, unchanged, out of the program itself. What is added to them
// is in site/: the token is taken out of the address bar, and a person is told why a console ended. The pages load nothing from elsewhere.
package pages

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Options say how the pages are served.
type Options struct {
	// FrameAncestors are the origins whose pages may show these in a frame, such as https://dashboard.example.org. None: no page may.
	FrameAncestors []string
}

// The viewers are in static/ as their authors publish them (scripts/pages); what is ours is in site/.
//
//go:embed static site
var embedded embed.FS

// file is what a path of the pages is answered with.
type file struct {
	text        []byte
	contentType string
	etag        string
	page        bool                  // HTML, whose address has a token in it
	zipped      func() ([]byte, bool) // false if that saves nothing
}

// Handler serves the pages: vnc_auto.html (and vnc_lite.html, the same), vnc.html, spice_auto.html, serial.html, and what they load. The names and the
// parameters in their addresses are those that Nova's proxies have. It answers GET and HEAD, and lists nothing.
func Handler(o Options) http.Handler {
	return &handler{files: allFiles(), ancestors: ancestors(o.FrameAncestors)}
}

type handler struct {
	files     map[string]*file // by path, without the first slash
	ancestors string           // the sources of frame-ancestors
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.secure(w.Header(), r.Host)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the pages of consoles can only be read", http.StatusMethodNotAllowed)
		return
	}
	f, ok := h.files[strings.TrimPrefix(r.URL.Path, "/")]
	if !ok {
		http.Error(w, "there is no such page", http.StatusNotFound)
		return
	}
	f.serve(w, r)
}

// secure sets what binds a browser, for every answer.
func (h *handler) secure(header http.Header, host string) {
	header.Set("Content-Security-Policy", policy(host, h.ancestors))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer") // the address has a token in it
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if h.ancestors == noAncestors {
		header.Set("X-Frame-Options", "DENY")
	}
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.contentType)
	text, etag := f.text, f.etag
	header.Set("Vary", "Accept-Encoding")
	if acceptsGzip(r) {
		if zipped, smaller := f.zipped(); smaller {
			header.Set("Content-Encoding", "gzip")
			text, etag = zipped, etag+"-gzip"
		}
	}
	if !f.page {
		header.Set("Cache-Control", "no-cache") // kept, and asked for again with the tag: another version of the agent has other files
		header.Set("ETag", `"`+etag+`"`)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
}

// acceptsGzip says whether a client takes gzip. One that asks for a range or refuses it by a weight gets the plain text.
func acceptsGzip(r *http.Request) bool {
	if r.Header.Get("Range") != "" {
		return false
	}
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(part) == "gzip" {
			return true
		}
	}
	return false
}

const noAncestors = "'none'"

// origin is a source of frame-ancestors that cannot become another directive.
var origin = regexp.MustCompile(`^https?://[A-Za-z0-9.*\[\]:-]+$`)

// CheckFrameAncestor says what is wrong with an origin that may show the pages in a frame.
func CheckFrameAncestor(s string) error {
	if s == "'self'" || origin.MatchString(s) {
		return nil
	}
	return fmt.Errorf("%q is no origin such as https://dashboard.example.org", s)
}

func ancestors(origins []string) string {
	var good []string
	for _, s := range origins {
		if CheckFrameAncestor(s) == nil {
			good = append(good, s)
		}
	}
	if len(good) == 0 {
		return noAncestors
	}
	return strings.Join(good, " ")
}

// hostname is a Host header that may stand in the policy: a name or an address with its port.
var hostname = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?$|^\[[0-9A-Fa-f:.]+\](:[0-9]+)?$`)

// policy is the content security policy: scripts and styles only from here and none in the pages' text; WebSockets only to here. Pictures of noVNC and of
// spice-html5 are data: addresses, sound and films of the latter blob: ones.
func policy(host, ancestors string) string {
	connect := "'self'"
	if hostname.MatchString(host) { // 'self' has not always meant WebSockets too
		connect += " ws://" + host + " wss://" + host
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; media-src 'self' blob:; " +
		"connect-src " + connect + "; base-uri 'self'; form-action 'none'; frame-ancestors " + ancestors
}

// allFiles are the files by the paths that they are served at: what is ours at the root, viewers below their names.
var allFiles = sync.OnceValue(func() map[string]*file {
	files := map[string]*file{}
	for _, dir := range []string{"site", "static"} {
		err := fs.WalkDir(embedded, dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := embedded.ReadFile(name)
			files[strings.TrimPrefix(name, dir+"/")] = newFile(name, text)
			return err
		})
		if err != nil {
			panic("pages: " + err.Error()) // of the program itself
		}
	}
	addNoVNC(files)
	return files
})

// addNoVNC puts noVNC's page at the root under the names that Nova gives out, with its files and what we add before its own scripts.
func addNoVNC(files map[string]*file) {
	const upstream = "novnc/vnc.html"
	page := bytes.Replace(files[upstream].text, []byte("<head>"), []byte("<head>\n    <base href=\"novnc/\">\n"+
		"    <link rel=\"stylesheet\" href=\"../page.css\">\n    <script src=\"../page.js\"></script>\n    <script src=\"../vnc.js\"></script>"), 1)
	delete(files, upstream)
	for _, name := range []string{"vnc.html", "vnc_auto.html", "vnc_lite.html"} {
		files[name] = newFile(name, page)
	}
}

func newFile(name string, text []byte) *file {
	sum := sha256.Sum256(text)
	return &file{
		text: text, contentType: contentType(name), page: path.Ext(name) == ".html", etag: hex.EncodeToString(sum[:16]),
		zipped: sync.OnceValues(func() ([]byte, bool) { return compress(text) }),
	}
}

// compress is done at the first request: most agents are never asked for most files.
func compress(text []byte) (zipped []byte, smaller bool) {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is one
	_, _ = w.Write(text)                                  // a Buffer takes all
	_ = w.Close()
	return b.Bytes(), b.Len() < len(text)*9/10
}

// contentTypes are those of the files that there are; a host's own table of types does not matter.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".mjs":  "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".json": "application/json",
	".svg":  "image/svg+xml",
	".png":  "image/png",
	".woff": "font/woff",
	".mp3":  "audio/mpeg",
	".oga":  "audio/ogg",
}

// contentType of a file; licences and other texts have names without a type.
func contentType(name string) string {
	if t, ok := contentTypes[path.Ext(name)]; ok {
		return t
	}
	return "text/plain; charset=utf-8"
}
