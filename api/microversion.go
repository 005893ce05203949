package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// microversion is the second number of a version of a service that has microversions: N of 2.N of the compute API, of 3.N of the block storage API.
type microversion int

// unbounded is later than every microversion.
const unbounded microversion = 1 << 20

// microversions are those that the front door answers as a service's documents say, and how a request names one.
type microversions struct {
	service  string // in the header of all services
	major    int
	min, max microversion
	older    string // a header of before that one; may be empty
}

// The ranges of microversions. A maximum stops where the next one would promise what is not there: 2.90 is about host names that a user
// chooses, 3.68 about images that replace what a volume holds.
var (
	computeMicroversions = &microversions{service: "compute", major: 2, min: 1, max: 89, older: headerNovaVersion}
	volumeMicroversions  = &microversions{service: "volume", major: 3, min: 0, max: 67}
)

// The headers that carry a microversion: the one of all OpenStack services, and Nova's older one.
const (
	headerVersion     = "OpenStack-API-Version"
	headerNovaVersion = "X-OpenStack-Nova-API-Version"
)

// text returns "2.N".
func (m *microversions) text(v microversion) string { return fmt.Sprintf("%d.%d", m.major, v) }

// requested reads what version of the API a request is written in: the new header wins over the old one, and the minimum is what is
// meant when there is none.
func (m *microversions) requested(h http.Header) (microversion, error) {
	asked := ""
	for _, line := range h.Values(headerVersion) {
		for part := range strings.SplitSeq(line, ",") {
			service, version, ok := strings.Cut(strings.TrimSpace(part), " ")
			if ok && strings.EqualFold(service, m.service) {
				asked = strings.TrimSpace(version)
			}
		}
	}
	if asked == "" && m.older != "" {
		asked = strings.TrimSpace(h.Get(m.older))
	}
	switch asked {
	case "":
		return m.min, nil
	case "latest":
		return m.max, nil
	}
	return m.parse(asked)
}

// parse returns the minimum with the error.
func (m *microversions) parse(s string) (microversion, error) {
	major, minor, ok := strings.Cut(s, ".")
	if !ok || !isVersionNumber(major, 4) || !isVersionNumber(minor, 4) {
		return m.min, badRequest("API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", quoted(s))
	}
	n, _ := strconv.Atoi(minor) // at most four digits
	if v := microversion(n); major == strconv.Itoa(m.major) && v >= m.min && v <= m.max {
		return v, nil
	}
	return m.min, faultf(http.StatusNotAcceptable, "Version %s is not supported by the API. Minimum is %s and maximum is %s.", s, m.text(m.min), m.text(m.max))
}

// isVersionNumber tells whether s is a decimal number without leading zeros and not too long.
func isVersionNumber(s string, maxLen int) bool {
	if s == "" || len(s) > maxLen || (len(s) > 1 && s[0] == '0') {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// announce tells the client which version the answer is written in.
func (m *microversions) announce(h http.Header, v microversion) {
	h.Set(headerVersion, m.service+" "+m.text(v))
	h.Add("Vary", headerVersion)
	if m.older != "" {
		h.Set(m.older, m.text(v))
		h.Add("Vary", m.older)
	}
}
