package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"regexp"
	"time"

	"compute-agent/console/pages"
)

// consoleOptions is what an operator can choose about consoles.
type consoleOptions struct {
	Enabled         bool
	Listen          string
	BaseURL         string
	TLSCert, TLSKey string
	Origins         []string
	FrameAncestors  []string
	TokenTTL        time.Duration

	TokensPerServer int
	Connections     int
	PerServer       int
	PerToken        int
	Idle            time.Duration
	Session         time.Duration

	VNCAuthSchemes        []string
	VNCCA                 string
	VNCClientCert, VNCKey string
	SPICECA               string
	GuestName             string
}

func (o *consoleOptions) keys() []key {
	return []key{
		{name: "console_enabled", initial: "true", value: truth(&o.Enabled),
			doc: "Whether the agent serves consoles: the pages with viewers, and the WebSockets to screens and serial ports of guests. Nova:\n" +
				"[vnc]enabled, [spice]enabled, [serial_console]enabled; which of them guests have is said by vnc_listen, spice_listen and hw:serial_port_count."},
		{name: "console_listen", initial: "127.0.0.1:6080", value: text(&o.Listen, hostPort),
			doc: "Address of the pages and WebSockets. Beyond loopback, give it a certificate. Nova: [vnc]novncproxy_host and novncproxy_port."},
		{name: "console_base_url", initial: "", value: text(&o.BaseURL, orEmpty(httpURL)),
			doc: "URL under which clients reach them. Empty: made from console_listen. Nova: [vnc]novncproxy_base_url, [spice]html5proxy_base_url,\n" +
				"[serial_console]base_url; the page's name and the token are added here, and serial consoles get ws for http and wss for https."},
		{name: "console_tls_cert", initial: "", value: text(&o.TLSCert, orEmpty(absolutePath)),
			doc: "File with the certificate chain of the pages in PEM. Together with console_tls_key it turns TLS on, and plain HTTP off. Nova: [DEFAULT]cert."},
		{name: "console_tls_key", initial: "", value: text(&o.TLSKey, orEmpty(absolutePath)),
			doc: "File with that certificate's private key in PEM. Nova: [DEFAULT]key."},
		{name: "console_allowed_origins", initial: "", value: list(&o.Origins, webOrigin),
			doc: "Hosts whose pages may open consoles, besides the one that a page came from, with commas between them: a host, host:port or a whole\n" +
				"origin such as https://dashboard.example.org. Nova: [console]allowed_origins."},
		{name: "console_frame_ancestors", initial: "", value: list(&o.FrameAncestors, pages.CheckFrameAncestor),
			doc: "Origins whose pages may show a console in a frame, as dashboards do, with commas between them: https://dashboard.example.org. Empty: none."},
		{name: "console_token_ttl", initial: "600", value: seconds(&o.TokenTTL, time.Second, 24*time.Hour),
			doc: "Seconds in which a console's URL can be opened. Connections last longer. Nova: [consoleauth]token_ttl."},
		{name: "console_tokens_per_server", initial: "64", value: whole(&o.TokensPerServer, 1, 1e6),
			doc: "URLs that a server has at a time; the oldest goes for a new one."},
		{name: "console_max_connections", initial: "1000", value: whole(&o.Connections, 1, 1e6),
			doc: "Connections to consoles at a time."},
		{name: "console_max_connections_per_server", initial: "40", value: whole(&o.PerServer, 1, 1e6),
			doc: "Those of one server."},
		{name: "console_max_connections_per_token", initial: "20", value: whole(&o.PerToken, 1, 1e6),
			doc: "Those of one URL. SPICE takes one for each of its channels."},
		{name: "console_idle_timeout", initial: "3600", value: seconds(&o.Idle, 0, 30*24*time.Hour),
			doc: "Seconds after which a connection ends that carries nothing. 0: it does not."},
		{name: "console_session_timeout", initial: "86400", value: seconds(&o.Session, 0, 365*24*time.Hour),
			doc: "Seconds after which any connection ends. 0: it does not."},
		{name: "vnc_auth_schemes", initial: "", value: list(&o.VNCAuthSchemes, authScheme),
			doc: "How the proxy shows itself to the guests' VNC servers: none, vencrypt, in the order of preference with commas between them. Empty: it\n" +
				"leaves that to the viewer. Nova: [vnc]auth_schemes."},
		{name: "vencrypt_ca_certs", initial: "", value: text(&o.VNCCA, orEmpty(absolutePath)),
			doc: "File with the authority's certificates for vencrypt, in PEM. Empty: the host's. Nova: [vnc]vencrypt_ca_certs."},
		{name: "vencrypt_client_cert", initial: "", value: text(&o.VNCClientCert, orEmpty(absolutePath)),
			doc: "File with the proxy's own certificate for vencrypt, in PEM. Empty: none. Nova: [vnc]vencrypt_client_cert."},
		{name: "vencrypt_client_key", initial: "", value: text(&o.VNCKey, orEmpty(absolutePath)),
			doc: "File with that certificate's key, in PEM. Nova: [vnc]vencrypt_client_key."},
		{name: "spice_ca_certs", initial: "", value: text(&o.SPICECA, orEmpty(absolutePath)),
			doc: "File with the authority's certificates for SPICE over TLS (spice_require_secure), in PEM. Empty: the host's."},
		{name: "console_guest_tls_name", initial: "", value: text(&o.GuestName, orEmpty(plainWord)),
			doc: "Name in the certificates of the guests' VNC and SPICE servers. Empty: the address that they listen on."},
	}
}

var originText = regexp.MustCompile(`^(https?://)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

func webOrigin(s string) error {
	if !originText.MatchString(s) {
		return errors.New("must be hosts such as dashboard.example.org, host:port, or origins such as https://dashboard.example.org")
	}
	return nil
}

func authScheme(s string) error {
	if s != "none" && s != "vencrypt" {
		return errors.New("must be none, vencrypt, or both with a comma between them")
	}
	return nil
}

// check applies the rules that join keys.
func (o *consoleOptions) check(rule func(broken bool, text string)) {
	rule((o.TLSCert == "") != (o.TLSKey == ""), "console_tls_cert and console_tls_key: give both or neither")
	rule((o.VNCClientCert == "") != (o.VNCKey == ""), "vencrypt_client_cert and vencrypt_client_key: give both or neither")
	rule(o.PerServer > o.Connections, fmt.Sprintf("console_max_connections_per_server: must be at most console_max_connections, %d, not %d", o.Connections, o.PerServer))
	rule(o.PerToken > o.PerServer, fmt.Sprintf("console_max_connections_per_token: must be at most console_max_connections_per_server, %d, not %d", o.PerServer, o.PerToken))
}

// baseURL is where clients reach consoles that are served at addr.
func (o *consoleOptions) baseURL(addr net.Addr) string {
	return cmp.Or(o.BaseURL, urlOf(addr, o.TLSCert != ""))
}
