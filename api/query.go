package api

import (
	"maps"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxLimit is the longest page of a list: Nova's [api]max_limit.
const maxLimit = 1000

// maxPattern is how long a regular expression of a user may be, and maxProgram how many steps it may
// compile to. Go's expressions take time linear in the text, but also in their steps, of which a
// repetition ({0,1000}) has one for each round.
const (
	maxPattern = 255
	maxProgram = 1000
)

// query reads the parameters of a list request. The first thing that is wrong is kept in err.
type query struct {
	values url.Values
	err    error
	// strictStatus is whether an unknown status is refused rather than matched by nothing: since 2.38.
	strictStatus bool
}

// newQuery parses a request's parameters. When known is given and strict is true, a parameter
// that is not in it is refused, as Nova does from microversion 2.75 on.
func newQuery(c *call, strict bool, known []string) *query {
	q := &query{}
	q.values, q.err = url.ParseQuery(c.URL.RawQuery)
	if q.err != nil {
		q.err = badRequest("Malformed query string.")
		return q
	}
	for _, name := range slices.Sorted(maps.Keys(q.values)) {
		if strict && !slices.Contains(known, name) {
			q.err = badRequest("Additional properties are not allowed (%s was unexpected)", quoted(name))
			return q
		}
	}
	return q
}

// fail keeps the first error.
func (q *query) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

func (q *query) refuse(name, value, why string) {
	q.fail(badRequest("Invalid input for query parameters %s. Value: %s. %s", name, shorten(value), why))
}

func (q *query) has(name string) bool { return q.values.Has(name) }

// text returns the last value of a parameter, as Nova takes it when there are several.
func (q *query) text(name string) string {
	list := q.values[name]
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

// number returns a count that is not negative; otherwise if it is not given.
func (q *query) number(name string, otherwise int) int {
	s := q.text(name)
	if !q.has(name) {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		q.refuse(name, s, quoted(s)+" does not match '^[0-9]*$'")
		return otherwise
	}
	return n
}

// boolean returns what Nova's bool_from_string makes of a parameter; otherwise if it is not given
// or no truth value.
func (q *query) boolean(name string, otherwise bool) bool {
	if b, ok := parseBool(q.text(name)); ok {
		return b
	}
	return otherwise
}

// parseBool knows the words that oslo's strutils.bool_from_string knows.
func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "1", "t", "true", "on", "y", "yes":
		return true, true
	case "0", "f", "false", "off", "n", "no":
		return false, true
	}
	return false, false
}

// pattern compiles a regular expression that matches anywhere and in any case, as MySQL's REGEXP
// does under Nova; nil if it is not given.
func (q *query) pattern(name string) *regexp.Regexp {
	s := q.text(name)
	if s == "" {
		return nil
	}
	if len(s) > maxPattern {
		q.refuse(name, s, "It is too long")
		return nil
	}
	tree, err := syntax.Parse("(?i)"+s, syntax.Perl)
	if err != nil {
		q.refuse(name, s, quoted(s)+" is not a 'regex'")
		return nil
	}
	if program, err := syntax.Compile(tree.Simplify()); err != nil || len(program.Inst) > maxProgram {
		q.refuse(name, s, "It repeats too much")
		return nil
	}
	return regexp.MustCompile("(?i)" + s)
}

// instant reads an ISO 8601 time; zero if it is not given.
func (q *query) instant(name string) time.Time {
	s := q.text(name)
	if s == "" {
		return time.Time{}
	}
	t, err := parseInstant(s)
	if err != nil {
		q.refuse(name, s, quoted(s)+" is not a 'date-time'")
	}
	return t
}

// parseInstant reads the forms of ISO 8601 that clients send. Without a zone it is UTC.
func parseInstant(s string) (t time.Time, err error) {
	s = strings.Replace(s, " ", "T", 1)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02"} {
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, err
}

// page is the part of a list that a request asks for.
type page struct {
	limit  int
	marker string
}

func (q *query) page() page {
	limit := q.number("limit", maxLimit)
	return page{limit: min(limit, maxLimit), marker: q.text("marker")}
}

// cut returns the items after the marker, at most limit of them, and whether more follow. A
// marker that is not in the list is refused.
func cut[T any](items []T, p page, id func(T) string) (part []T, more bool, err error) {
	if p.marker != "" {
		i := slices.IndexFunc(items, func(item T) bool { return id(item) == p.marker })
		if i < 0 {
			return nil, false, badRequest("marker [%s] not found", shorten(p.marker))
		}
		items = items[i+1:]
	}
	if len(items) > p.limit {
		return items[:p.limit], true, nil
	}
	return items, false, nil
}

// order is how a list is sorted: by several keys, each up or down.
type order[T any] struct {
	keys []func(a, b T) int
}

// sorting reads sort_key and sort_dir, newest first if nothing is asked. Unknown keys are refused.
func sorting[T any](q *query, known map[string]func(a, b T) int, otherwise ...string) order[T] {
	return ordering(q, known, "desc", otherwise)
}

// sortingUp is sorting, smallest first if nothing is asked.
func sortingUp[T any](q *query, known map[string]func(a, b T) int, otherwise ...string) order[T] {
	return ordering(q, known, "asc", otherwise)
}

// ordering pairs keys with directions: a direction that is missing is the first one's.
func ordering[T any](q *query, known map[string]func(a, b T) int, dir string, otherwise []string) order[T] {
	var o order[T]
	keys, dirs := q.values["sort_key"], q.values["sort_dir"]
	if len(keys) == 0 {
		keys = otherwise
	}
	if len(dirs) > len(keys) {
		q.fail(badRequest("Sort direction size exceeds sort key size"))
		return o
	}
	if len(dirs) > 0 {
		dir = dirs[0]
	}
	for i, key := range keys {
		compare, ok := known[key]
		if !ok {
			q.refuse("sort_key", key, quoted(key)+" is not one of the keys to sort by")
			return o
		}
		if i < len(dirs) {
			o.add(q, dirs[i], compare)
		} else {
			o.add(q, dir, compare)
		}
	}
	return o
}

func (o *order[T]) add(q *query, dir string, compare func(a, b T) int) {
	switch strings.ToLower(dir) {
	case "asc":
		o.keys = append(o.keys, compare)
	case "desc":
		o.keys = append(o.keys, func(a, b T) int { return compare(b, a) })
	default:
		q.refuse("sort_dir", dir, quoted(dir)+" is not one of 'asc', 'desc'")
	}
}

func (o order[T]) sort(items []T) {
	slices.SortStableFunc(items, func(a, b T) int {
		for _, compare := range o.keys {
			if c := compare(a, b); c != 0 {
				return c
			}
		}
		return 0
	})
}

// nextLinks is the link to the next page, under the key that Nova gives it.
func nextLinks(c *call, last string) []link {
	q := c.URL.Query()
	q.Set("marker", last)
	return []link{{Rel: "next", Href: c.base + c.URL.Path + "?" + q.Encode()}}
}

// link is how all services point at things.
type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}
