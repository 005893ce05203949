package main

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"compute-agent/internal/pattern"
)

// setting is the place of one configuration value: it reads the value from text, under a rule, and
// prints it so that reading it again gives the same value.
type setting interface {
	Set(text string) error // the error is the rule that text breaks
	String() string
	Type() string
}

// place is a setting whose value lives in a field of Config.
type place[T any] struct {
	field  *T
	kind   string
	parse  func(string) (T, error)
	format func(T) string
}

func (p place[T]) Set(text string) error {
	v, err := p.parse(text)
	if err == nil {
		*p.field = v
	}
	return err
}

func (p place[T]) String() string { return p.format(*p.field) }
func (p place[T]) Type() string   { return p.kind }

// text is a string that all the rules accept.
func text(field *string, rules ...func(string) error) setting {
	parse := func(s string) (string, error) {
		for _, rule := range rules {
			if err := rule(s); err != nil {
				return "", err
			}
		}
		return s, nil
	}
	return place[string]{field, "string", parse, func(s string) string { return s }}
}

// choice is one of a few words.
func choice(field *string, words ...string) setting {
	return text(field, func(s string) error {
		if slices.Contains(words, s) {
			return nil
		}
		return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
	})
}

// truth is true or false.
func truth(field *bool) setting {
	parse := func(s string) (bool, error) {
		if s != "true" && s != "false" {
			return false, fmt.Errorf("must be true or false")
		}
		return s == "true", nil
	}
	return place[bool]{field, "bool", parse, strconv.FormatBool}
}

// whole is a whole number between two bounds.
func whole(field *int, low, high int) setting {
	parse := func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("must be a whole number from %d to %d", low, high)
		}
		return n, nil
	}
	return place[int]{field, "int", parse, strconv.Itoa}
}

// number is a number between two bounds.
func number(field *float64, low, high float64) setting {
	parse := func(s string) (float64, error) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f >= low && f <= high) { // the negation refuses NaN
			return 0, fmt.Errorf("must be a number from %g to %g", low, high)
		}
		return f, nil
	}
	return place[float64]{field, "float", parse, formatNumber}
}

// formatNumber keeps a decimal point, so that a reader sees that fractions are allowed.
func formatNumber(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// seconds is a duration, written as a number of seconds as Nova does, or with units (90s, 10m).
func seconds(field *time.Duration, low, high time.Duration) setting {
	parse := func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if f, ferr := strconv.ParseFloat(s, 64); ferr == nil && math.Abs(f) < 1e9 {
			d, err = time.Duration(f*float64(time.Second)), nil
		}
		if err != nil || d < low || d > high {
			return 0, fmt.Errorf("must be a number of seconds from %g to %g, or a duration such as 90s or 10m",
				low.Seconds(), high.Seconds())
		}
		return d, nil
	}
	format := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
	return place[time.Duration]{field, "seconds", parse, format}
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// size is a number of bytes, plain or with a binary unit.
func size(field *int64, low, high int64) setting {
	parse := func(s string) (int64, error) {
		n, ok := parseSize(s)
		if !ok || n < low || n > high {
			return 0, fmt.Errorf("must be a size from %s to %s: bytes, or a whole number with KiB, MiB, GiB or TiB",
				formatSize(low), formatSize(high))
		}
		return n, nil
	}
	return place[int64]{field, "size", parse, formatSize}
}

func parseSize(s string) (int64, bool) {
	unit := int64(1)
	for _, u := range sizeUnits {
		if rest, found := strings.CutSuffix(s, u.name); found {
			s, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > math.MaxInt64/unit || n < 0 {
		return 0, false
	}
	return n * unit, true
}

func formatSize(n int64) string {
	for _, u := range sizeUnits {
		if n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// orEmpty lets a value be empty and otherwise applies the rule.
func orEmpty(rule func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return rule(s)
	}
}

func absolutePath(s string) error {
	if !filepath.IsAbs(s) || filepath.Clean(s) != s {
		return fmt.Errorf("must be an absolute path without . or .. or a slash at its end")
	}
	return nil
}

func hostPort(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("must be host:port with a numeric port, such as 127.0.0.1:8774 or [::1]:8774")
	}
	return nil
}

func ipAddress(s string) error {
	if net.ParseIP(s) == nil {
		return fmt.Errorf("must be an IP address")
	}
	return nil
}

func httpURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(s, "/") {
		return fmt.Errorf("must be an http or https URL with a host, without user, query or a slash at its end")
	}
	return nil
}

// plainWord accepts what is safe in a URL, a YAML file and a header.
func plainWord(s string) error {
	ok := s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
	if !ok {
		return fmt.Errorf("must be 1 to 64 letters, digits, dots, dashes or underscores")
	}
	return nil
}

var guestNameTemplate = pattern.New(`^[A-Za-z0-9_.-]{0,40}%(0[1-9])?[dx][A-Za-z0-9_.-]{0,10}$`)

// guestNames accepts formats of one integer that make names a hypervisor accepts.
func guestNames(s string) error {
	if !guestNameTemplate.MatchString(s) {
		return fmt.Errorf("must be letters, digits, dots, dashes or underscores around one %%d, %%x or %%08x")
	}
	return nil
}

// password accepts what bcrypt looks at whole.
func password(s string) error {
	if len(s) < 8 || len(s) > 72 {
		return fmt.Errorf("must be 8 to 72 bytes long")
	}
	return nil
}
