package store

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"

	"compute-agent/virt"
)

func scanDefinition(r row) (spec virt.Spec, err error) {
	var text []byte
	if err := r.Scan(&text); err != nil {
		return spec, err
	}
	return spec, decode(text, &spec)
}

// Definition implements compute.Reader.
func (r reader) Definition(serverID string) (virt.Spec, error) {
	return get(r, "definition of server "+serverID, scanDefinition, "SELECT spec FROM definitions WHERE server_id = ?", serverID)
}

// PutDefinition implements compute.Writer. ErrNotFound if there is no such server.
func (w writer) PutDefinition(serverID string, spec virt.Spec) error {
	subject := "definition of server " + serverID
	text, err := encode(sparse(reflect.ValueOf(spec)))
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	_, err = w.exec(`INSERT INTO definitions (server_id, spec) VALUES (?, ?)
		ON CONFLICT (server_id) DO UPDATE SET spec = excluded.spec`, serverID, text)
	if isDangling(err) {
		return missing("server " + serverID)
	}
	return explain(subject, err)
}

// sparse is a value without the fields that say nothing, which are most of a Spec's: a fifth is left.
func sparse(v reflect.Value) any {
	switch v.Interface().(type) {
	case json.Marshaler, encoding.TextMarshaler:
		return v.Interface()
	}
	switch v.Kind() {
	case reflect.Pointer: // not nil: that says nothing
		return sparse(v.Elem())
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = sparse(v.Index(i))
		}
		return list
	case reflect.Struct:
		fields := map[string]any{}
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				fields[v.Type().Field(i).Name] = sparse(f)
			}
		}
		return fields
	default:
		return v.Interface()
	}
}
