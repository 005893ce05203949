package api

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// notFilters are the parameters of a list that speak of the list.
var notFilters = []string{"fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse"}

// tagFilters tell whether a record's tags are as asked.
var tagFilters = map[string]func(tags, asked []string) bool{
	"tags":         hasAll,
	"tags-any":     hasAny,
	"not-tags":     func(tags, asked []string) bool { return !hasAll(tags, asked) },
	"not-tags-any": func(tags, asked []string) bool { return !hasAny(tags, asked) },
}

func hasAll(tags, asked []string) bool {
	return !slices.ContainsFunc(asked, func(t string) bool { return !slices.Contains(tags, t) })
}

func hasAny(tags, asked []string) bool {
	return slices.ContainsFunc(asked, func(t string) bool { return slices.Contains(tags, t) })
}

// answerList answers a list request: Neutron's filters, order, pages and choice of attributes work on what is shown.
func (r *records) answerList(k *resource) (*answer, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("Malformed query string.")
	}
	filters, err := recordFilters(k, q, r.caller.admin)
	if err != nil {
		return nil, err
	}
	inOrder, err := recordOrder(k, q, r.caller.admin)
	if err != nil {
		return nil, err
	}
	all, err := k.list(r)
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(all, func(v view) bool {
		return !r.sees(k, v) || slices.ContainsFunc(filters, func(f func(view) bool) bool { return !f(v) })
	})
	if r.err != nil {
		return nil, r.err
	}
	inOrder.sort(found)
	return r.answerPage(k, q, found)
}

// recordFilters reads the filters: values of one name are alternatives, names add up. An attribute that the caller does not see is as
// little a filter as one that there is not.
func recordFilters(k *resource, q url.Values, admin bool) ([]func(view) bool, error) {
	var filters []func(view) bool
	var invalid []string
	for _, name := range slices.Sorted(maps.Keys(q)) {
		values := q[name]
		t, known := k.attributes[name]
		asTags, ofTags := tagFilters[name]
		switch {
		case slices.Contains(notFilters, name):
		case ofTags && k.tag != nil:
			asked := strings.Split(strings.Join(values, ","), ",")
			filters = append(filters, func(v view) bool { tags, _ := v["tags"].([]string); return asTags(tags, asked) })
		case name == "fixed_ips" && known:
			f, err := addressFilter(values)
			if err != nil {
				return nil, err
			}
			filters = append(filters, f)
		case !known || t&compound != 0 || (t&adminSees != 0 && !admin):
			invalid = append(invalid, quoted(name))
		default:
			filters = append(filters, func(v view) bool { return matchesAny(v[name], values) })
		}
	}
	if len(invalid) > 0 {
		return nil, badRequest("[%s] is invalid attribute for filtering", strings.Join(invalid, ", "))
	}
	return filters, nil
}

// matchesAny compares an attribute with what is asked for, as text; truth values in any of their spellings.
func matchesAny(value any, asked []string) bool {
	return slices.ContainsFunc(asked, func(want string) bool {
		switch v := value.(type) {
		case bool:
			b, known := parseBool(want)
			return known && b == v
		case []string:
			return slices.Contains(v, want)
		case nil:
			return want == "" || want == "None"
		default:
			return attributeText(v) == want
		}
	})
}

// attributeText is how an attribute's value is written in a query.
func attributeText(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	}
	text, err := json.Marshal(value)
	if err != nil { // only what this package builds is marshalled here
		return ""
	}
	return strings.Trim(string(text), `"`)
}

// addressFilter reads fixed_ips=ip_address=A, subnet_id=S and ip_address_substr=P. Values of one key are alternatives, as in Neutron.
func addressFilter(values []string) (func(view) bool, error) {
	asked := map[string][]string{}
	for _, value := range values {
		key, want, _ := strings.Cut(value, "=")
		if !slices.Contains([]string{"ip_address", "subnet_id", "ip_address_substr"}, key) {
			return nil, badRequest("Invalid input for fixed_ips. Reason: %s is not a valid filter.", quoted(value))
		}
		asked[key] = append(asked[key], want)
	}
	return func(v view) bool {
		ips, _ := v["fixed_ips"].([]fixedIPView)
		for key, wanted := range asked {
			if !slices.ContainsFunc(ips, func(ip fixedIPView) bool { return ip.passes(key, wanted) }) {
				return false
			}
		}
		return true
	}, nil
}

func (ip fixedIPView) passes(key string, wanted []string) bool {
	return slices.ContainsFunc(wanted, func(want string) bool {
		switch key {
		case "subnet_id":
			return ip.SubnetID == want
		case "ip_address":
			return ip.Address == want
		default:
			return strings.Contains(ip.Address, want)
		}
	})
}

// recordOrder reads sort_key and sort_dir, which come in pairs. Without them a list is in the order of creation.
func recordOrder(k *resource, q url.Values, admin bool) (order[view], error) {
	var o order[view]
	keys, dirs := notEmpty(q["sort_key"]), notEmpty(q["sort_dir"])
	if len(keys) != len(dirs) {
		return o, badRequest("The number of sort_keys and sort_dirs must be same")
	}
	read := &query{}
	for i, key := range keys {
		t, known := k.attributes[key]
		if !known || t&(compound|unseen) != 0 || (t&adminSees != 0 && !admin) {
			return o, badRequest("[%s] is invalid attribute for sort_keys", quoted(key))
		}
		if dirs[i] != "asc" && dirs[i] != "desc" {
			return o, badRequest("[%s] is invalid value for sort_dirs, valid value is 'asc' and 'desc'", quoted(dirs[i]))
		}
		o.add(read, dirs[i], func(a, b view) int { return compareAttributes(a[key], b[key]) })
	}
	return o, read.err
}

// compareAttributes puts what is not set first.
func compareAttributes(a, b any) int {
	if x, ok := a.(int); ok {
		if y, ok := b.(int); ok {
			return cmp.Compare(x, y)
		}
	}
	if a == nil || b == nil {
		return cmp.Compare(given(a), given(b))
	}
	return strings.Compare(attributeText(a), attributeText(b))
}

func given(value any) int {
	if value == nil {
		return 0
	}
	return 1
}

// answerPage cuts the page that is asked for out of a list. There is no limit unless one is given.
func (r *records) answerPage(k *resource, q url.Values, found []view) (*answer, error) {
	limit, err := strconv.Atoi(cmp.Or(q.Get("limit"), "0"))
	if err != nil || limit < 0 {
		return nil, badRequest("Bad limit request: Limit must be an integer 0 or greater and not %s.", quoted(q.Get("limit")))
	}
	back := strings.EqualFold(q.Get("page_reverse"), "true")
	body := map[string]any{}
	if limit > 0 {
		if found, err = recordPage(k, found, q.Get("marker"), limit, back); err != nil {
			return nil, err
		}
		body[k.plural+"_links"] = r.pageLinks(q, found, limit, back)
	}
	views := make([]any, len(found))
	for i, v := range found {
		views[i] = r.shown(k, v, q["fields"])
	}
	body[k.plural] = views
	return ok(body)
}

// recordPage is what follows the marker, or with back what is before it.
func recordPage(k *resource, all []view, marker string, limit int, back bool) ([]view, error) {
	first, end := 0, len(all)
	if marker != "" {
		at := slices.IndexFunc(all, func(v view) bool { return v["id"] == marker })
		if at < 0 {
			return nil, k.none(marker)
		}
		first, end = at+1, at
	}
	if back {
		return all[max(0, end-limit):end], nil
	}
	return all[first:min(first+limit, len(all))], nil
}

// pageLinks are as Neutron makes them: a full page has a next one.
func (r *records) pageLinks(q url.Values, page []view, limit int, back bool) []link {
	links := []link{}
	add := func(rel string, last view, reverse bool) {
		to := maps.Clone(q)
		to.Del("marker")
		to.Del("page_reverse")
		if id, ok := last["id"].(string); ok {
			to.Set("marker", id)
		}
		if reverse {
			to.Set("page_reverse", "True")
		}
		links = append(links, link{Rel: rel, Href: r.base + r.URL.Path + "?" + to.Encode()})
	}
	var head, tail view
	if len(page) > 0 {
		head, tail = page[0], page[len(page)-1]
	}
	if len(page) >= limit || back {
		add("next", tail, false)
	}
	if len(page) >= limit || !back {
		add("previous", head, true)
	}
	return links
}
