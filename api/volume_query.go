package api

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// listing is how a kind of records of the block storage API is listed: what it may be sorted and filtered by.
type listing[T any] struct {
	missing string // of the fault for a marker that is not in the list, with a %s
	id      func(T) string
	project func(T) string
	// filters compare a field, as text, with what is asked for. adminFilters are those that are for administrators only, added the
	// microversions that a filter is known since.
	filters, adminFilters map[string]func(T) string
	added                 map[string]microversion
	metadata              func(T) map[string]string // nil when there is none
	created, updated      func(T) time.Time
	order                 map[string]func(a, b T) int
}

// Since these microversions a list refuses filters that it does not know, knows name~=part, counts, and compares times.
const (
	sinceStrictFilters microversion = 31
	sinceLikeFilters   microversion = 34
	sinceCounts        microversion = 45
	sinceTimeFilters   microversion = 60
)

// notVolumeFilters are the parameters of a list that speak of the list.
var notVolumeFilters = []string{"all_tenants", "limit", "marker", "offset", "sort", "sort_key", "sort_dir", "with_count"}

// part is what a list request asks for, with the link to what follows and, if it was asked for, how many there are in all.
type part[T any] struct {
	items []T
	links []link
	count *int
}

// find answers a list request. Only an administrator sees other projects' records, and only when asking for them.
func (l listing[T]) find(c *call, all []T) (part[T], error) {
	q, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return part[T]{}, badRequest("Malformed query string.")
	}
	return l.findWith(c, q, all)
}

// findWith is find with parameters of which some have been answered already.
func (l listing[T]) findWith(c *call, q url.Values, all []T) (part[T], error) {
	found, err := l.matching(c, q, all)
	if err != nil {
		return part[T]{}, err
	}
	inOrder, err := l.sorting(q)
	if err != nil {
		return part[T]{}, err
	}
	inOrder.sort(found)
	return l.cut(c, q, found)
}

// matching are the records that a request may see and that its filters let pass.
func (l listing[T]) matching(c *call, q url.Values, all []T) ([]T, error) {
	keep, err := l.predicates(c, q)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(item T) bool {
		return slices.ContainsFunc(keep, func(passes func(T) bool) bool { return !passes(item) })
	}), nil
}

// predicates reads the filters of a request.
func (l listing[T]) predicates(c *call, q url.Values) ([]func(T) bool, error) {
	everyone, _ := parseBool(q.Get("all_tenants"))
	keep := []func(T) bool{func(item T) bool {
		return (c.caller.admin && everyone) || l.project == nil || l.project(item) == c.caller.ProjectID
	}}
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if slices.Contains(notVolumeFilters, name) {
			continue
		}
		passes, known, err := l.predicate(c, name, q.Get(name))
		switch {
		case err != nil:
			return nil, err
		case !known:
			unknown = append(unknown, name)
		default:
			keep = append(keep, passes)
		}
	}
	if len(unknown) > 0 && c.since(sinceStrictFilters) {
		return nil, badRequest("Invalid filters %s are found in query options.", shorten(strings.Join(unknown, ",")))
	}
	return keep, nil
}

// predicate reads one filter. One that the microversion does not have yet is as unknown as one that there is not.
func (l listing[T]) predicate(c *call, name, value string) (passes func(T) bool, known bool, err error) {
	name, like := strings.CutSuffix(name, "~")
	if c.version < l.added[name] || (like && !c.since(sinceLikeFilters)) {
		return nil, false, nil
	}
	field := l.filters[name]
	if field == nil && c.caller.admin {
		field = l.adminFilters[name]
	}
	switch {
	case name == "metadata" && l.metadata != nil && !like:
		passes, err = metadataFilter(value, l.metadata)
	case name == "created_at" && l.created != nil && c.since(sinceTimeFilters):
		passes, err = instantFilter(name, value, l.created)
	case name == "updated_at" && l.updated != nil && c.since(sinceTimeFilters):
		passes, err = instantFilter(name, value, l.updated)
	case field == nil:
		return nil, false, nil
	case like:
		passes = func(item T) bool { return strings.Contains(strings.ToLower(field(item)), strings.ToLower(value)) }
	default:
		passes = func(item T) bool { return sameText(field(item), value) }
	}
	return passes, true, err
}

// sameText compares a field with what is asked for; truth values in any of their spellings.
func sameText(field, want string) bool {
	if b, isBool := parseBool(want); isBool && (field == "true" || field == "false") {
		return field == strconv.FormatBool(b)
	}
	return field == want
}

// metadataFilter reads {'key': 'value'}: a record passes that has all of them.
func metadataFilter[T any](value string, of func(T) map[string]string) (func(T) bool, error) {
	want, err := parsePairs(value)
	if err != nil {
		return nil, badRequest("Invalid input for query parameters metadata. Value: %s. %s", shorten(value), err.Error())
	}
	return func(item T) bool {
		have := of(item)
		for key, value := range want {
			if got, there := have[key]; !there || got != value {
				return false
			}
		}
		return true
	}, nil
}

// parsePairs reads a dictionary of texts in the notation of Python, in which Cinder's client sends it. JSON's is the same.
func parsePairs(s string) (map[string]string, error) {
	pairs := map[string]string{}
	rest, opened := strings.CutPrefix(strings.TrimSpace(s), "{")
	rest, closed := strings.CutSuffix(rest, "}")
	if !opened || !closed {
		return nil, fmt.Errorf("it is not of the form {'key': 'value'}")
	}
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		key, after, err := cutQuoted(rest)
		if err != nil {
			return nil, err
		}
		after, ok := strings.CutPrefix(strings.TrimSpace(after), ":")
		if !ok {
			return nil, fmt.Errorf("a key has no value")
		}
		if pairs[key], rest, err = cutQuoted(strings.TrimSpace(after)); err != nil {
			return nil, err
		}
		if rest = strings.TrimSpace(rest); rest != "" {
			if rest, ok = strings.CutPrefix(rest, ","); !ok {
				return nil, fmt.Errorf("there is no comma between two pairs")
			}
		}
	}
	return pairs, nil
}

// cutQuoted reads a text in single or double quotes, with backslashes before quotes and backslashes, and returns what follows.
func cutQuoted(s string) (text, after string, err error) {
	s = strings.TrimPrefix(s, "u") // Python 2's
	if s == "" || (s[0] != '\'' && s[0] != '"') {
		return "", "", fmt.Errorf("keys and values are texts in quotes")
	}
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return out.String(), s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s):
			i++
			out.WriteByte(s[i])
		default:
			out.WriteByte(s[i])
		}
	}
	return "", "", fmt.Errorf("a text has no end")
}

// timeComparisons are the words before the time of a filter.
var timeComparisons = map[string]func(int) bool{
	"gt": func(c int) bool { return c > 0 }, "gte": func(c int) bool { return c >= 0 }, "eq": func(c int) bool { return c == 0 },
	"neq": func(c int) bool { return c != 0 }, "lt": func(c int) bool { return c < 0 }, "lte": func(c int) bool { return c <= 0 },
}

// instantFilter reads gt:2025-01-01T00:00:00,lte:2026-01-01T00:00:00.
func instantFilter[T any](name, value string, of func(T) time.Time) (func(T) bool, error) {
	var keep []func(time.Time) bool
	for unit := range strings.SplitSeq(value, ",") {
		word, at, _ := strings.Cut(unit, ":")
		compare, known := timeComparisons[word]
		if !known {
			return nil, badRequest("Invalid %s operator", shorten(word))
		}
		want, err := parseInstant(at)
		if err != nil {
			return nil, badRequest("%s has invalid value %s.", name, quoted(at))
		}
		keep = append(keep, func(t time.Time) bool { return compare(t.Compare(want)) })
	}
	return func(item T) bool {
		return !slices.ContainsFunc(keep, func(passes func(time.Time) bool) bool { return !passes(of(item)) })
	}, nil
}

// sorting reads sort=name:asc,size, or the older sort_key and sort_dir. Without them the newest come first.
func (l listing[T]) sorting(q url.Values) (order[T], error) {
	var o order[T]
	if q.Has("sort") && (q.Has("sort_key") || q.Has("sort_dir")) {
		return o, badRequest("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.")
	}
	asked := q.Get("sort")
	if !q.Has("sort") {
		asked = firstOf(q, "sort_key", "created_at") + ":" + firstOf(q, "sort_dir", "desc")
	}
	for unit := range strings.SplitSeq(asked, ",") {
		key, dir, given := strings.Cut(strings.TrimSpace(unit), ":")
		if !given {
			dir = "desc"
		}
		compare, known := l.order[strings.TrimSpace(key)]
		if !known {
			return o, badRequest("Invalid input received: Sort key supplied is invalid: %s", shorten(key))
		}
		if dir != "asc" && dir != "desc" {
			return o, badRequest("Invalid input received: Unknown sort direction, must be 'desc' or 'asc'.")
		}
		o.add(&query{}, dir, compare)
	}
	return o, nil
}

func firstOf(q url.Values, name, otherwise string) string {
	if q.Has(name) {
		return q.Get(name)
	}
	return otherwise
}

// cut is the page that a request asks for.
func (l listing[T]) cut(c *call, q url.Values, found []T) (p part[T], err error) {
	limit, err := listNumber(q, "limit", maxLimit)
	if err != nil {
		return p, err
	}
	offset, err := listNumber(q, "offset", 0)
	if err != nil {
		return p, err
	}
	if counted, _ := parseBool(q.Get("with_count")); counted && c.since(sinceCounts) {
		p.count = new(int)
		*p.count = len(found)
	}
	rest := found
	if marker := q.Get("marker"); marker != "" {
		i := slices.IndexFunc(found, func(item T) bool { return l.id(item) == marker })
		if i < 0 {
			return p, notFound(l.missing, shorten(marker))
		}
		rest = found[i+1:]
	}
	rest = rest[min(offset, len(rest)):]
	p.items = rest[:min(limit, maxLimit, len(rest))]
	if n := len(p.items); n > 0 && n < len(rest) {
		p.links = nextVolumeLinks(c, l.id(p.items[n-1]))
	}
	return p, nil
}

func listNumber(q url.Values, name string, otherwise int) (int, error) {
	if !q.Has(name) {
		return otherwise, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	switch {
	case err != nil:
		return 0, badRequest("%s param must be an integer", name)
	case n < 0:
		return 0, badRequest("%s param must be positive", name)
	}
	return n, nil
}

func nextVolumeLinks(c *call, last string) []link {
	to := c.URL.Query()
	to.Set("marker", last)
	to.Del("offset")
	path := strings.TrimPrefix(c.URL.Path, volumePath)
	return []link{{Rel: "next", Href: volumeLink(c, path) + "?" + to.Encode()}}
}

// answer renders a part of a list under the names that Cinder gives it.
func (p part[T]) answer(key, linksKey string, show func(T) view) (*answer, error) {
	body := map[string]any{key: listOf(p.items, show)}
	if len(p.links) > 0 {
		body[linksKey] = p.links
	}
	if p.count != nil {
		body["count"] = *p.count
	}
	return ok(body)
}
