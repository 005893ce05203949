package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// firstProblem descends to the error that a person would call the mistake: the leaf that comes
// first in the order of fields. A choice between alternatives is one mistake, not one for each.
func firstProblem(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	switch e.ErrorKind.(type) {
	case *kind.OneOf, *kind.AnyOf:
		return e
	}
	if len(e.Causes) == 0 {
		return e
	}
	leaves := make([]*jsonschema.ValidationError, 0, len(e.Causes))
	for _, cause := range e.Causes {
		leaves = append(leaves, firstProblem(cause))
	}
	return slices.MinFunc(leaves, func(a, b *jsonschema.ValidationError) int {
		if c := slices.Compare(a.InstanceLocation, b.InstanceLocation); c != 0 {
			return c
		}
		return strings.Compare(a.SchemaURL+problem(a, nil), b.SchemaURL+problem(b, nil))
	})
}

func explain(e *jsonschema.ValidationError, root any) string {
	value := at(root, e.InstanceLocation)
	if f, ok := e.ErrorKind.(*kind.Format); ok && errors.Is(f.Err, invalidName) {
		return invalidName.Error()
	}
	text := problem(e, value)
	if len(e.InstanceLocation) == 0 {
		return text
	}
	field := e.InstanceLocation[len(e.InstanceLocation)-1]
	if secretField(field) {
		return fmt.Sprintf("Invalid input for field/attribute %s. Its value is not acceptable.", field)
	}
	return fmt.Sprintf("Invalid input for field/attribute %s. Value: %s. %s", field, shown(value, e.InstanceLocation), text)
}

// recordProblem is the sentence about a violated keyword of a record's attribute. Formats have Neutron's words for what a value is not.
func recordProblem(e *jsonschema.ValidationError, root any) string {
	value := at(root, e.InstanceLocation)
	if f, ok := e.ErrorKind.(*kind.Format); ok {
		return shown(value, e.InstanceLocation) + " " + f.Err.Error()
	}
	return problem(e, value)
}

// secretField tells whether a field's value must not be repeated, not even to who sent it: answers
// end up in logs.
func secretField(name string) bool {
	switch strings.ToLower(name) {
	case "adminpass", "password", "token", "user_data":
		return true
	}
	return false
}

// at finds the value that a location names.
func at(value any, location []string) any {
	for _, key := range location {
		switch v := value.(type) {
		case map[string]any:
			value = v[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			value = v[i]
		}
	}
	return value
}

// problem is the sentence about one violated keyword.
func problem(e *jsonschema.ValidationError, value any) string {
	v := shown(value, e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		return fmt.Sprintf("%s is not of type %s", v, quotedList(k.Want))
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties)
		verb := "was"
		if len(k.Properties) > 1 {
			verb = "were"
		}
		return fmt.Sprintf("Additional properties are not allowed (%s %s unexpected)", quotedList(k.Properties), verb)
	case *kind.Required:
		slices.Sort(k.Missing)
		return fmt.Sprintf("%s is a required property", quoted(k.Missing[0]))
	case *kind.MinLength:
		return v + " is too short"
	case *kind.MaxLength:
		return v + " is too long"
	case *kind.MinItems:
		return v + " is too short"
	case *kind.MaxItems:
		return v + " is too long"
	case *kind.MinProperties:
		return v + " does not have enough properties"
	case *kind.MaxProperties:
		return v + " has too many properties"
	case *kind.Pattern:
		return fmt.Sprintf("%s does not match %s", v, quoted(k.Want))
	case *kind.Format:
		return fmt.Sprintf("%s is not a %s", v, quoted(k.Want))
	case *kind.Enum:
		return fmt.Sprintf("%s is not one of %s", v, shown(k.Want, nil))
	case *kind.Minimum:
		return fmt.Sprintf("%s is less than the minimum of %s", v, k.Want.RatString())
	case *kind.Maximum:
		return fmt.Sprintf("%s is greater than the maximum of %s", v, k.Want.RatString())
	case *kind.UniqueItems:
		return v + " has non-unique elements"
	default:
		return v + " is not valid under any of the given schemas"
	}
}

// maxShown is how much of a value that a user sent is repeated to him.
const maxShown = 200

// shown renders a value for a message, shortened, with secrets blotted out.
func shown(value any, location []string) string {
	if len(location) > 0 && secretField(location[len(location)-1]) {
		return "***"
	}
	if s, ok := value.(string); ok {
		return quoted(s)
	}
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // the answer's own encoding does it
	if err := enc.Encode(withoutSecrets(value)); err != nil {
		return "?"
	}
	return shorten(strings.TrimSpace(out.String()))
}

func withoutSecrets(value any) any {
	switch v := value.(type) {
	case map[string]any:
		clean := make(map[string]any, len(v))
		for key, item := range v {
			if clean[key] = withoutSecrets(item); secretField(key) {
				clean[key] = "***"
			}
		}
		return clean
	case []any:
		clean := make([]any, len(v))
		for i, item := range v {
			clean[i] = withoutSecrets(item)
		}
		return clean
	default:
		return value
	}
}

// quoted puts a user's string into a message: in single quotes, control characters escaped.
func quoted(s string) string {
	q := strconv.Quote(shorten(s))
	return "'" + strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`) + "'"
}

func quotedList(list []string) string {
	q := make([]string, len(list))
	for i, s := range list {
		q[i] = quoted(s)
	}
	return strings.Join(q, ", ")
}

func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "..."
}
