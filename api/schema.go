package api

import (
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed schemas/*.json
var schemaFiles embed.FS

// schemas are the schemas by file name without ".json". They are compiled when they are first needed, each for the microversions in
// which it is the same: an agent is asked in few of them, and all together are larger than all else that it remembers.
type schemas struct {
	mu       sync.Mutex
	names    map[string]bool
	forms    map[string][]schemaForm      // oldest first; of those that were needed
	patterns map[string]jsonschema.Regexp // the same few are in many schemas
}

type schemaForm struct {
	since  microversion
	schema *jsonschema.Schema // nil until it is needed
}

const sharedDefinitions = "definitions"

// loadSchemas finds all schemas.
func loadSchemas() (*schemas, error) {
	files, err := schemaFiles.ReadDir("schemas")
	if err != nil {
		return nil, err
	}
	all := &schemas{names: map[string]bool{}, forms: map[string][]schemaForm{}, patterns: map[string]jsonschema.Regexp{}}
	for _, file := range files {
		if name := strings.TrimSuffix(file.Name(), ".json"); name != sharedDefinitions {
			all.names[name] = true
		}
	}
	return all, nil
}

// readWhole reads a schema with the definitions that all have in common.
func readWhole(name string) (map[string]any, error) {
	doc, err := readSchema(name + ".json")
	if err != nil {
		return nil, err
	}
	doc["definitions"], err = readSchema(sharedDefinitions + ".json")
	return doc, err
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

// formsOf are the ranges of microversions in which a schema differs, none of them compiled.
func formsOf(doc map[string]any) []schemaForm {
	changes := map[microversion]bool{0: true}
	findChanges(doc, changes)
	var forms []schemaForm
	for _, v := range slices.Sorted(maps.Keys(changes)) {
		forms = append(forms, schemaForm{since: v})
	}
	return forms
}

func (s *schemas) compile(name string, doc map[string]any, v microversion) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft4)
	c.AssertFormat()
	c.UseRegexpEngine(s.pattern)
	for _, f := range formats {
		c.RegisterFormat(f)
	}
	url := fmt.Sprintf("api:///%s/%d", name, v)
	if err := c.AddResource(url, inVersion(doc, v)); err != nil {
		return nil, err
	}
	return c.Compile(url)
}

// pattern compiles a regular expression, unless another schema has the same.
func (s *schemas) pattern(text string) (jsonschema.Regexp, error) {
	if re := s.patterns[text]; re != nil {
		return re, nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	s.patterns[text] = re
	return re, nil
}

// The schema files say with two keywords of their own in which microversions a property, or an
// item of a list of alternatives, is there; with a third since when it is required; and with a
// fourth since when an object has no other properties than those that it names.
const (
	keywordSince    = "x-since"
	keywordUntil    = "x-until"
	keywordRequired = "x-required-since"
	keywordClosed   = "x-closed-since"
)

var ownKeywords = []string{keywordSince, keywordUntil, keywordRequired, keywordClosed}

// findChanges collects the microversions in which a schema differs from the one before.
func findChanges(value any, changes map[microversion]bool) {
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			n, isNumber := item.(json.Number)
			at, _ := strconv.Atoi(n.String())
			switch {
			case isNumber && (key == keywordSince || key == keywordRequired || key == keywordClosed):
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
			if !slices.Contains(ownKeywords, key) && existsIn(item, v) {
				out[key] = inVersion(item, v)
			}
		}
		if keywordNumber(schema, keywordClosed, unbounded) <= v {
			out["additionalProperties"] = false
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
	since, until := keywordNumber(schema, keywordSince, 0), keywordNumber(schema, keywordUntil, unbounded)
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
		if since := keywordNumber(property, keywordRequired, unbounded); since <= v {
			required = append(required, name)
		}
	}
	if len(required) > 0 {
		out["required"] = required
	}
}

// at returns the form of a schema in a microversion. One that does not compile is a defect of the program.
func (s *schemas) at(name string, v microversion) (*jsonschema.Schema, error) {
	if !s.names[name] {
		return nil, fmt.Errorf("no schema %q", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	form := formAt(s.forms[name], v)
	if form != nil && form.schema != nil {
		return form.schema, nil
	}
	doc, err := readWhole(name)
	if err != nil {
		return nil, err
	}
	if form == nil {
		s.forms[name] = formsOf(doc)
		form = formAt(s.forms[name], v)
	}
	if form.schema, err = s.compile(name, doc, form.since); err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	return form.schema, nil
}

// formAt is the newest form that is not later than v.
func formAt(forms []schemaForm, v microversion) *schemaForm {
	for i := range slices.Backward(forms) {
		if forms[i].since <= v {
			return &forms[i]
		}
	}
	return nil
}

// formats are the formats of Nova's parameter types that a pattern cannot say.
var formats = []*jsonschema.Format{
	{Name: "uuid", Validate: stringFormat(func(s string) error {
		if _, err := uuid.Parse(s); err != nil {
			return errors.New("is not a valid UUID")
		}
		return nil
	})},
	{Name: "address", Validate: stringFormat(func(s string) error {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return errors.New("is not a valid IP address")
		}
		return nil
	})},
	{Name: "cidr", Validate: stringFormat(func(s string) error {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil, p.Addr().Is4In6():
			return errors.New("is not a valid IP subnet")
		case p != p.Masked():
			return fmt.Errorf("isn't a recognized IP subnet cidr, '%s' is recommended", p.Masked())
		}
		return nil
	})},
	{Name: "address_or_cidr", Validate: stringFormat(func(s string) error {
		if p, err := parseCIDR(s); s != "" && (err != nil || p.Addr().Is4In6()) {
			return errors.New("is not a valid CIDR")
		}
		return nil
	})},
	{Name: "mac", Validate: stringFormat(func(s string) error {
		if mac, err := net.ParseMAC(s); err != nil || len(mac) != 6 {
			return errors.New("is not a valid MAC address")
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
func (s *schemas) check(name string, v microversion, value any) error {
	schema, err := s.at(name, v)
	if err != nil {
		return err
	}
	if err = schema.Validate(value); err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	return badRequest("%s", explain(firstProblem(invalid), value))
}

// checkRecord is check in the words of Neutron, which names the attribute and never repeats what is around it.
func (s *schemas) checkRecord(name string, value any) error {
	schema, err := s.at(name, 0)
	if err != nil {
		return err
	}
	if err = schema.Validate(value); err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	e := firstProblem(invalid)
	f := badRequest("Invalid input for %s. Reason: %s.", strings.Join(e.InstanceLocation[:min(1, len(e.InstanceLocation))], ""), recordProblem(e, value))
	return f
}
