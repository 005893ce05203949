package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep a request's JSON may nest; the deepest legal one needs six.
const maxDepth = 32

// maxBody is how large a request may be that is not an image's data.
const maxBody = 1 << 20

// maxNumber is how many characters a number may have, and maxExponent how many of them after its e.
// The schemas compare numbers exactly, which takes 1e999999 a long time.
const (
	maxNumber   = 64
	maxExponent = 4
)

// parseJSON reads one JSON value and nothing after it. Beyond what encoding/json checks it refuses
// text that is not UTF-8, a key that an object has twice, nesting deeper than maxDepth and numbers
// beyond all fields. Numbers are json.Number.
func parseJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, badRequest("Malformed request body: it is not UTF-8.")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	value, err := parseValue(dec, 0)
	if err != nil {
		return nil, malformed(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("Malformed request body: there is text after the JSON value.")
	}
	return value, nil
}

func malformed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badRequest("Malformed request body: the JSON text ends too early.")
	}
	return badRequest("Malformed request body: %s.", err.Error())
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested deeper than %d levels", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return parseObject(dec, depth)
	case json.Delim('['):
		return parseArray(dec, depth)
	}
	if number, ok := token.(json.Number); ok && isExtreme(number.String()) {
		return nil, fmt.Errorf("the number %s is out of range", shorten(number.String()))
	}
	return token, nil
}

func isExtreme(number string) bool {
	_, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	return len(number) > maxNumber || len(exponent) > maxExponent
}

func parseObject(dec *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := token.(string) // the decoder yields nothing else before a colon
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("the key %s is there twice", quoted(key))
		}
		if object[key], err = parseValue(dec, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token()
	return object, err
}

func parseArray(dec *json.Decoder, depth int) (any, error) {
	array := []any{}
	for dec.More() {
		value, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err := dec.Token()
	return array, err
}
