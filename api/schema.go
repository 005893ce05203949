package api

import (
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

//go:embed schemas/*.json
var schemaFiles embed.FS

// schemas are the compiled schemas by file name without ".json", each in the forms that it has in
// different microversions, oldest first.
type schemas map[string][]schemaForm

type schemaForm struct {
	since  microversion
	schema *jsonschema.Schema
}

// loadSchemas compiles all files. One that does not compile is a defect of the program. The file
// definitions.json holds what the others have in common.
func loadSchemas() (schemas, error) {
	files, err := schemaFiles.ReadDir("schemas")
	if err != nil {
		return nil, err
	}
	shared, err := readSchema("definitions.json")
	if err != nil {
		return nil, err
	}
	all := schemas{}
	for _, file := range files {
		if file.Name() == "definitions.json" {
			continue
		}
		doc, err := readSchema(file.Name())
		if err != nil {
			return nil, err
		}
		doc["definitions"] = shared
		name := strings.TrimSuffix(file.Name(), ".json")
		if all[name], err = compileForms(name, doc); err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
	}
	return all, nil
}

func readSchema(file string) (map[string]any, error) {
	data, err := schemaFiles.ReadFile("schemas/" + file)
	if err != nil {
		return nil, err
	}
	doc, err := parseJSON(data)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", file, err)
	}
	object, ok := doc.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("schema %s is not an object", file)
	}
	return object, nil
}

// compileForms compiles a schema once for each range of microversions in which it differs.
func compileForms(name string, doc map[string]any) ([]schemaForm, error) {
	changes := map[microversion]bool{0: true}
	findChanges(doc, changes)
	var forms []schemaForm
	for _, v := range slices.Sorted(maps.Keys(changes)) {
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft4)
		c.AssertFormat()
		for _, f := range formats {
			c.RegisterFormat(f)
		}
		url := fmt.Sprintf("api:///%s/%s", name, v)
		if err := c.AddResource(url, inVersion(doc, v)); err != nil {
			return nil, err
		}
		schema, err := c.Compile(url)
		if err != nil {
			return nil, err
		}
		forms = append(forms, schemaForm{since: v, schema: schema})
	}
	return forms, nil
}

// The schema files say with two keywords of their own in which microversions a property, or an
// item of a list of alternatives, is there; and with a third since when it is required.
const (
	keywordSince    = "x-since"
	keywordUntil    = "x-until"
	keywordRequired = "x-required-since"
)

// findChanges collects the microversions in which a schema differs from the one before.
func findChanges(value any, changes map[microversion]bool) {
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			n, isNumber := item.(json.Number)
			at, _ := strconv.Atoi(n.String())
			switch {
			case isNumber && (key == keywordSince || key == keywordRequired):
				changes[microversion(at)] = true
			case isNumber && key == keywordUntil:
				changes[microversion(at+1)] = true
			default:
				findChanges(item, changes)
			}
		}
	case []any:
		for _, item := range v {
			findChanges(item, changes)
		}
	}
}

// inVersion is a schema as it is in one microversion.
func inVersion(value any, v microversion) any {
	switch schema := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(schema))
		for key, item := range schema {
			if key != keywordSince && key != keywordUntil && key != keywordRequired && existsIn(item, v) {
				out[key] = inVersion(item, v)
			}
		}
		addRequired(out, schema, v)
		return out
	case []any:
		out := []any{}
		for _, item := range schema {
			if existsIn(item, v) {
				out = append(out, inVersion(item, v))
			}
		}
		return out
	default:
		return value
	}
}

func existsIn(value any, v microversion) bool {
	schema, ok := value.(map[string]any)
	if !ok {
		return true
	}
	since, until := keywordNumber(schema, keywordSince, 0), keywordNumber(schema, keywordUntil, maxMicroversion)
	return since <= v && v <= until
}

func keywordNumber(schema map[string]any, keyword string, otherwise microversion) microversion {
	n, ok := schema[keyword].(json.Number)
	if !ok {
		return otherwise
	}
	i, err := strconv.Atoi(n.String())
	if err != nil {
		return otherwise
	}
	return microversion(i)
}

// addRequired adds to an object's required list the properties that became so by v.
func addRequired(out, schema map[string]any, v microversion) {
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		return
	}
	required, _ := out["required"].([]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		property, _ := properties[name].(map[string]any)
		if since := keywordNumber(property, keywordRequired, maxMicroversion+1); since <= v {
			required = append(required, name)
		}
	}
	if len(required) > 0 {
		out["required"] = required
	}
}

// at returns the form of a schema in a microversion.
func (s schemas) at(name string, v microversion) *jsonschema.Schema {
	var found *jsonschema.Schema
	for _, form := range s[name] {
		if form.since <= v {
			found = form.schema
		}
	}
	return found
}

// formats are the formats of Nova's parameter types that a pattern cannot say.
var formats = []*jsonschema.Format{
	{Name: "uuid", Validate: stringFormat(func(s string) error {
		if _, err := uuid.Parse(s); err != nil {
			return errors.New("not a UUID")
		}
		return nil
	})},
	{Name: "base64", Validate: stringFormat(func(s string) error {
		_, err := base64.StdEncoding.DecodeString(s)
		return err
	})},
	{Name: "name", Validate: stringFormat(func(s string) error {
		if !printable(s, "") || s != strings.TrimFunc(s, unicode.IsSpace) || s == "" {
			return invalidName
		}
		return nil
	})},
	{Name: "description", Validate: stringFormat(func(s string) error {
		if !printable(s, "\n\r\t") {
			return errors.New("has control characters")
		}
		return nil
	})},
	{Name: "keypair_name", Validate: stringFormat(func(s string) error {
		if s == "" || s != strings.TrimSpace(s) || strings.ContainsFunc(s, notInKeypairName) {
			return errors.New("Only expected characters: [a-zA-Z0-9_ -] and at least one character that is not a space")
		}
		return nil
	})},
}

// invalidName is what Nova says of a name that it refuses.
var invalidName = errors.New("An invalid 'name' value was provided. The name must be: printable characters. " + //nolint:staticcheck,revive // the API's own sentence
	"Can not start or end with whitespace.")

func stringFormat(check func(string) error) func(any) error {
	return func(v any) error {
		s, ok := v.(string)
		if !ok {
			return nil // the type keyword speaks of other types
		}
		return check(s)
	}
}

// printable tells whether s holds only characters that can be seen, spaces, and those of also.
func printable(s, also string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r) && !strings.ContainsRune(also, r)
	})
}

func notInKeypairName(r rune) bool {
	return r > unicode.MaxASCII || (!unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" _-", r))
}

// check validates a parsed request against the named schema. The error says which field is wrong
// in the words in which Nova says it (nova.api.validation.validators).
func (s schemas) check(name string, v microversion, value any) error {
	schema := s.at(name, v)
	if schema == nil {
		return fmt.Errorf("no schema %q", name)
	}
	err := schema.Validate(value)
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	return badRequest("%s", explain(firstProblem(invalid), value))
}

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

// secretField tells whether a field's value must not be repeated, not even to who sent it: answers
// end up in logs.
func secretField(name string) bool {
	switch strings.ToLower(name) {
	case "adminpass", "password", "user_data":
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
