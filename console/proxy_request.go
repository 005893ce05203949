package console

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// IsWebSocket says whether a request asks for a WebSocket, which a Proxy serves, and not for a page.
func IsWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && hasToken(r.Header, "Connection", "upgrade") && hasToken(r.Header, "Upgrade", "websocket")
}

// hasToken looks for a word in a header that is a list.
func hasToken(h http.Header, key, word string) bool {
	for _, token := range listOf(h, key) {
		if strings.EqualFold(token, word) {
			return true
		}
	}
	return false
}

// listOf are the words of a header that is a list.
func listOf(h http.Header, key string) (words []string) {
	for _, line := range h.Values(key) {
		for word := range strings.SplitSeq(line, ",") {
			if word = strings.TrimSpace(word); word != "" {
				words = append(words, word)
			}
		}
	}
	return words
}

const subprotocol = "binary"

// checkSubprotocol lets clients pass that name none, or binary among others. base64 is what noVNC spoke before 2018.
func checkSubprotocol(h http.Header) error {
	offered := listOf(h, "Sec-WebSocket-Protocol")
	if len(offered) == 0 || hasToken(h, "Sec-WebSocket-Protocol", subprotocol) {
		return nil
	}
	return fmt.Errorf("none of the subprotocols %q is spoken here: ask for %q, or for none", offered, subprotocol)
}

// maxToken is longer than any token, and short enough to be hashed at every try.
const maxToken = 255

// tokenOf finds the token of a request where Nova's proxy looks for it: in the query, in the query of the query's path, which is noVNC's way, or in a cookie.
// It is empty if there is none, or none that can be one.
func tokenOf(r *http.Request) string {
	query := r.URL.Query()
	token := query.Get("token")
	if _, inPath, ok := strings.Cut(query.Get("path"), "?"); ok && token == "" {
		values, _ := url.ParseQuery(inPath) // what is well formed counts
		token = values.Get("token")
	}
	if token == "" {
		if cookie, err := r.Cookie("token"); err == nil {
			token = cookie.Value
		}
	}
	if len(token) > maxToken || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return ""
	}
	return token
}

// origin is where a page came from.
type origin struct {
	scheme string // empty in the allowed list: that of the request
	host   string // in lower case; an IP address in its shortest form, without brackets
	port   string // empty in the allowed list: any
}

var defaultPorts = map[string]string{"http": "80", "https": "443"}

// parseOrigin reads an Origin header (RFC 6454, 6.1): one scheme, host and port, and nothing else.
func parseOrigin(text string) (origin, error) {
	u, err := url.Parse(text)
	if err != nil {
		return origin{}, fmt.Errorf("%q is no origin", text)
	}
	port, known := defaultPorts[u.Scheme]
	if bare := (url.URL{Scheme: u.Scheme, Host: u.Host}); !known || u.Host == "" || *u != bare {
		return origin{}, fmt.Errorf("%q is no origin of a web page", text)
	}
	o, err := parseHost(u.Host)
	o.scheme = u.Scheme
	if o.port == "" {
		o.port = port
	}
	return o, err
}

// parseHost reads host, host:port, [address] or [address]:port.
func parseHost(text string) (o origin, err error) {
	o.host = text
	if strings.Contains(text, ":") && !strings.HasSuffix(text, "]") {
		if o.host, o.port, err = net.SplitHostPort(text); err != nil {
			return origin{}, fmt.Errorf("%q is no host and port", text)
		}
	}
	o.host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(o.host, "["), "]"))
	if address, err := netip.ParseAddr(o.host); err == nil {
		o.host = address.String()
	}
	if o.host == "" || strings.ContainsAny(o.host, "*/@[] ") {
		return origin{}, fmt.Errorf("%q is no host", text)
	}
	return o, nil
}

// parseAllowed reads an entry of Options.AllowedOrigins.
func parseAllowed(text string) (origin, error) {
	if strings.Contains(text, "://") {
		return parseOrigin(text)
	}
	return parseHost(text)
}

// allows says whether an entry of the allowed list covers a page's origin, for a request of a scheme.
func (o origin) allows(page origin, scheme string) bool {
	if o.scheme != "" {
		scheme = o.scheme
	}
	return page.scheme == scheme && page.host == o.host && (o.port == "" || o.port == page.port)
}

// checkOrigin keeps pages of other sites from using what a browser knows: a page may connect if it came from the host that it connects to, in the same way,
// or if it is in the allowed list. A request without an Origin is not from a browser.
func checkOrigin(r *http.Request, allowed []origin) error {
	headers := r.Header.Values("Origin")
	if len(headers) == 0 {
		return nil
	}
	if len(headers) > 1 {
		return errors.New("the request has more than one Origin")
	}
	page, err := parseOrigin(headers[0])
	if err != nil {
		return err
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	own, err := parseHost(r.Host)
	if err != nil {
		return fmt.Errorf("host: %w", err)
	}
	own.scheme = scheme
	if own.port == "" {
		own.port = defaultPorts[scheme]
	}
	for _, o := range allowed {
		if o.allows(page, scheme) {
			return nil
		}
	}
	switch {
	case page == own:
		return nil
	case page.host == own.host && page.scheme != own.scheme:
		return fmt.Errorf("the page came by %s, this console is served by %s", page.scheme, scheme)
	}
	return fmt.Errorf("pages of %q may not open consoles here: their host is not %q, and not in the allowed list", headers[0], r.Host)
}
