package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

// SetMetadata implements virt.MetadataSetter.
func (d *Driver) SetMetadata(ctx context.Context, id string, m virt.Metadata) error {
	const op = "set metadata of guest"
	if err := m.Validate(); err != nil {
		return failure(op, id, err)
	}
	text, err := novaMetadata(m)
	if err == nil {
		text, err = withoutPrefixes(text)
	}
	if err != nil {
		return failure(op, id, err)
	}
	return d.change(ctx, op, id, func(dom *lv.Domain) (virt.EventKind, error) { return noEvent, setMetadata(dom, text) })
}

// withoutPrefixes takes the namespace out of an element: libvirt puts it in, and refuses one that is there.
func withoutPrefixes(element string) (string, error) {
	var out strings.Builder
	in, to := xml.NewDecoder(strings.NewReader(element)), xml.NewEncoder(&out)
	for {
		token, err := in.RawToken()
		if errors.Is(err, io.EOF) {
			err = to.Flush()
			return out.String(), err
		}
		if err != nil {
			return "", err
		}
		switch t := token.(type) {
		case xml.StartElement:
			t.Name.Space = ""
			t.Attr = slices.DeleteFunc(t.Attr, func(a xml.Attr) bool { return a.Name.Space == "xmlns" })
			token = t
		case xml.EndElement:
			t.Name.Space = ""
			token = t
		}
		if err := to.EncodeToken(token); err != nil {
			return "", err
		}
	}
}

// setMetadata leaves the metadata of others alone, which is in other namespaces.
func setMetadata(dom *lv.Domain, text string) error {
	defined, err := dom.IsPersistent()
	if err != nil {
		return err
	}
	state, _, err := dom.GetState()
	if err != nil {
		return err
	}
	var where lv.DomainModificationImpact
	if defined {
		where |= lv.DOMAIN_AFFECT_CONFIG
	}
	if hasProcess(state) {
		where |= lv.DOMAIN_AFFECT_LIVE
	}
	return dom.SetMetadata(lv.DOMAIN_METADATA_ELEMENT, text, "nova", novaNamespace, where)
}
