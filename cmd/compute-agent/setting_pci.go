package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"compute-agent/pci"

	"go.yaml.in/yaml/v3"
)

// objects is a list of JSON objects that check accepts; each is kept as its text. One object may stand for a list of
// one, and a text for the object in it.
func objects(field *[]string, check func([]string) error) setting {
	parse := func(s string) ([]string, error) {
		list, err := jsonObjects(s)
		if err == nil {
			err = check(list)
		}
		return list, err
	}
	format := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return "[" + strings.Join(list, ", ") + "]"
	}
	return place[[]string]{field, objectsType, parse, format}
}

// objectsType is the type of settings that may be written as lists of maps in the file.
const objectsType = "objects"

func (k key) structured() bool { return k.value.Type() == objectsType }

var errNotObjects = errors.New("must be a list of JSON objects")

func jsonObjects(text string) ([]string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	if !strings.HasPrefix(text, "[") {
		text = "[" + text + "]"
	}
	var items []json.RawMessage
	if err := json.Unmarshal([]byte(text), &items); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotObjects, err)
	}
	var list []string
	for _, item := range items {
		object, err := jsonObject(item)
		if err != nil {
			return nil, err
		}
		list = append(list, object)
	}
	return list, nil
}

func jsonObject(item json.RawMessage) (string, error) {
	var inner string
	if json.Unmarshal(item, &inner) == nil {
		item = json.RawMessage(inner)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, item); err != nil {
		return "", fmt.Errorf("%w: %w", errNotObjects, err)
	}
	if !strings.HasPrefix(compact.String(), "{") {
		return "", errNotObjects
	}
	return compact.String(), nil
}

func checkDeviceSpecs(list []string) error {
	_, err := pci.ParseSpecs(list)
	return err
}

func checkAliases(list []string) error {
	_, err := pci.ParseAliases(list)
	return err
}

// jsonOf is a YAML list or map as JSON. Values are the texts that the file has: YAML would take a product_id 0443 for an
// octal number.
func jsonOf(n *yaml.Node) (string, error) {
	v, err := plain(n)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(v)
	return string(text), err
}

func plain(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return nil, nil
		}
		return n.Value, nil
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			v, err := plain(item)
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	case yaml.MappingNode:
		object := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			name := n.Content[i].Value
			if _, twice := object[name]; twice {
				return nil, fmt.Errorf("line %d: %s is there twice", n.Content[i].Line, name)
			}
			v, err := plain(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			object[name] = v
		}
		return object, nil
	}
	return nil, fmt.Errorf("line %d: must be a list of maps", n.Line)
}
