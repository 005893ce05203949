package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readYAML sets the keys that a file names. Each error names the file, the line and the key.
func (c *Config) readYAML(path string, data []byte) error {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more than one YAML document", path)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: must be lines of key: value", path, root.Line)
	}
	known := map[string]key{}
	for _, k := range c.keys() {
		known[k.name] = k
	}
	var errs []error
	seen := map[string]int{}
	for i := 0; i < len(root.Content); i += 2 {
		name, value := root.Content[i], root.Content[i+1]
		where := fmt.Sprintf("%s:%d", path, name.Line)
		k, ok := known[name.Value]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s: %s: no such key", where, name.Value))
		case seen[k.name] != 0:
			errs = append(errs, fmt.Errorf("%s: %s: is also on line %d", where, k.name, seen[k.name]))
		case value.Kind != yaml.ScalarNode && k.structured():
			text, err := jsonOf(value)
			if err == nil {
				err = k.value.Set(text) // without the text in the error: it is not what the file has
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", where, k.name, err))
			}
			c.origin[k.name] = where
		case value.Kind != yaml.ScalarNode:
			errs = append(errs, fmt.Errorf("%s: %s: must be a single value", where, k.name))
		case value.Tag == "!!null":
			errs = append(errs, fmt.Errorf("%s: %s: has no value; for an empty one write \"\"", where, k.name))
		default:
			errs = append(errs, c.set(k, value.Value, where))
		}
		seen[name.Value] = name.Line
	}
	return errors.Join(errs...)
}

// printEffective writes the configuration as a file that could be read again, but for secrets,
// with the origin of each value.
func (c *Config) printEffective(w io.Writer) error {
	var b strings.Builder
	for _, s := range c.sections() {
		fmt.Fprintf(&b, "# %s\n", s.title)
		for _, k := range s.keys {
			value := scalar(k)
			if k.secret && k.value.String() != "" {
				value = `"********"`
			}
			line := k.name + ": " + value
			fmt.Fprintf(&b, "%-44s # %s\n", line, c.origin[k.name])
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printDefaults writes the documented default file: every key is there, commented out, so that a
// later version's better default takes effect where the operator chose nothing.
func printDefaults(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Configuration of compute-agent. The lines that begin with #key: are the defaults.\n" +
		"# Each key is also a flag (--key-name) and an environment variable (" + envPrefix + "KEY_NAME);\n" +
		"# flags win over the environment, the environment over this file. `compute-agent config` prints\n" +
		"# the values in effect and where each comes from.\n")
	for _, s := range newConfig().sections() {
		fmt.Fprintf(&b, "\n## %s\n", s.title)
		for _, k := range s.keys {
			fmt.Fprintf(&b, "\n# %s\n#%s: %s\n", strings.ReplaceAll(k.doc, "\n", "\n# "), k.name, scalar(k))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// scalar is a key's value in YAML.
func scalar(k key) string {
	value := k.value.String()
	if k.value.Type() != "string" && !k.structured() {
		return value
	}
	if value == "" {
		return `""`
	}
	out, err := yaml.Marshal(value)
	if err != nil {
		return fmt.Sprintf("%q", value)
	}
	return strings.TrimSuffix(string(out), "\n")
}
