package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// microversion is the second number of a 2.N version of the compute API.
type microversion int

// The range of microversions that this front door answers as Nova documents them. The maximum
// stops where the next one would promise what is not there yet: 2.89 is about volume attachments.
const (
	minMicroversion microversion = 1
	maxMicroversion microversion = 88
)

// String returns "2.N".
func (v microversion) String() string { return "2." + strconv.Itoa(int(v)) }

// The headers that carry a microversion: the one of all OpenStack services, and Nova's older one.
const (
	headerVersion     = "OpenStack-API-Version"
	headerNovaVersion = "X-OpenStack-Nova-API-Version"
)

// requestedMicroversion reads what version of the compute API a request is written in: the new
// header wins over the old one, and the minimum is what is meant when there is none.
func requestedMicroversion(h http.Header) (microversion, error) {
	asked := ""
	for _, line := range h.Values(headerVersion) {
		for part := range strings.SplitSeq(line, ",") {
			service, version, ok := strings.Cut(strings.TrimSpace(part), " ")
			if ok && strings.EqualFold(service, "compute") {
				asked = strings.TrimSpace(version)
			}
		}
	}
	if asked == "" {
		asked = strings.TrimSpace(h.Get(headerNovaVersion))
	}
	switch asked {
	case "":
		return minMicroversion, nil
	case "latest":
		return maxMicroversion, nil
	}
	return parseMicroversion(asked)
}

func parseMicroversion(s string) (microversion, error) {
	major, minor, ok := strings.Cut(s, ".")
	if !ok || !isVersionNumber(major, 4) || !isVersionNumber(minor, 4) {
		return 0, &fault{
			status:  http.StatusBadRequest,
			message: fmt.Sprintf("API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", quoted(s)),
		}
	}
	n, _ := strconv.Atoi(minor) // at most four digits
	if v := microversion(n); major == "2" && v >= minMicroversion && v <= maxMicroversion {
		return v, nil
	}
	return 0, &fault{
		status: http.StatusNotAcceptable,
		message: fmt.Sprintf("Version %s is not supported by the API. Minimum is %s and maximum is %s.",
			s, minMicroversion, maxMicroversion),
	}
}

// isVersionNumber tells whether s is a decimal number without leading zeros and not too long.
func isVersionNumber(s string, maxLen int) bool {
	if s == "" || len(s) > maxLen || (len(s) > 1 && s[0] == '0') {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// announceMicroversion tells the client which version the answer is written in.
func announceMicroversion(h http.Header, v microversion) {
	h.Set(headerVersion, "compute "+v.String())
	h.Set(headerNovaVersion, v.String())
	h.Add("Vary", headerVersion)
	h.Add("Vary", headerNovaVersion)
}
