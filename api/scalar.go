package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Nova takes numbers and truth values also as strings. The schemas say where; these types read
// both forms. null leaves the zero value.

type integer int

// UnmarshalJSON reads 5 and "5", and 5.0 and 5e0, which a schema takes for integers, too.
func (i *integer) UnmarshalJSON(data []byte) error {
	s, err := scalar(data)
	if err != nil || s == "" {
		return err
	}
	n, err := strconv.Atoi(s)
	if f, e := strconv.ParseFloat(s, 64); err != nil && e == nil && f == math.Trunc(f) && math.Abs(f) <= math.MaxInt32 {
		n, err = int(f), nil
	}
	*i = integer(n)
	return err
}

type decimal float64

// UnmarshalJSON reads 1.5 and "1.5".
func (d *decimal) UnmarshalJSON(data []byte) error {
	s, err := scalar(data)
	if err != nil || s == "" {
		return err
	}
	f, err := strconv.ParseFloat(s, 64)
	*d = decimal(f)
	return err
}

type boolean bool

// UnmarshalJSON reads true, "True", "on", "1" and the like.
func (b *boolean) UnmarshalJSON(data []byte) error {
	s, err := scalar(data)
	if err != nil {
		return err
	}
	value, ok := parseBool(s)
	if !ok && s != "" {
		return fmt.Errorf("%s is no truth value", quoted(s))
	}
	*b = boolean(value)
	return nil
}

type text string

// UnmarshalJSON reads "5" and 5.
func (t *text) UnmarshalJSON(data []byte) error {
	s, err := scalar(data)
	*t = text(s)
	return err
}

// scalar returns a JSON string's content, or the text of another scalar; null is empty.
func scalar(data []byte) (string, error) {
	data = bytes.TrimSpace(data)
	if bytes.Equal(data, []byte("null")) {
		return "", nil
	}
	if len(data) > 0 && data[0] == '"' {
		var s string
		err := json.Unmarshal(data, &s)
		return s, err
	}
	return string(data), nil
}
