package domaindiff

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Element is an XML element without what XML itself does not count: name spaces' prefixes, the order of
// attributes, white space around text, comments.
type Element struct {
	Name     string
	Attrs    map[string]string
	Text     string
	Children []*Element
}

// ParseElement reads one element with all that is in it.
func ParseElement(text string) (*Element, error) {
	root := &Element{}
	open := []*Element{root}
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read XML: %w", err)
		}
		last := open[len(open)-1]
		switch t := token.(type) {
		case xml.StartElement:
			child := newElement(t)
			last.Children = append(last.Children, child)
			open = append(open, child)
		case xml.EndElement:
			last.Text = strings.TrimSpace(last.Text)
			open = open[:len(open)-1]
		case xml.CharData:
			last.Text += string(t)
		}
	}
	if len(root.Children) != 1 {
		return nil, fmt.Errorf("read XML: %d elements, not one", len(root.Children))
	}
	return root.Children[0], nil
}

func newElement(t xml.StartElement) *Element {
	e := &Element{Name: t.Name.Local, Attrs: map[string]string{}}
	for _, a := range t.Attr {
		e.Attrs[a.Name.Local] = a.Value
	}
	return e
}

// String is the element as text in which order does not matter: equal elements have equal texts.
func (e *Element) String() string {
	var b strings.Builder
	b.WriteString("<" + e.Name)
	for _, name := range slices.Sorted(maps.Keys(e.Attrs)) {
		fmt.Fprintf(&b, " %s=%q", name, e.Attrs[name])
	}
	if e.Text == "" && len(e.Children) == 0 {
		return b.String() + "/>"
	}
	b.WriteString(">" + e.Text + strings.Join(slices.Sorted(slices.Values(texts(e.Children))), "") + "</" + e.Name + ">")
	return b.String()
}

func texts(list []*Element) []string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = e.String()
	}
	return out
}

func (e *Element) clone() *Element {
	c := &Element{Name: e.Name, Attrs: maps.Clone(e.Attrs), Text: e.Text}
	for _, child := range e.Children {
		c.Children = append(c.Children, child.clone())
	}
	return c
}

// child is the first child of that name, nil for none.
func (e *Element) child(name string) *Element {
	for _, c := range e.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}
