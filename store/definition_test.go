package store_test

import (
	"errors"
	"reflect"
	"testing"

	"compute-agent/compute"
	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

func TestDefinitions(t *testing.T) {
	s := open(t)
	insert(t, s, fullServer("a"))
	second := virt.Spec{ID: "a", Machine: "pc-q35-7.2"}
	update(t, s, func(w compute.Writer) error {
		_, err := w.Definition("a")
		wantError(t, "before there is one", err, compute.ErrNotFound)
		wantError(t, "of no server", w.PutDefinition("none", second), compute.ErrNotFound)
		return w.PutDefinition("a", fullDefinition("a"))
	})
	update(t, s, func(w compute.Writer) error {
		got, err := w.Definition("a")
		want(t, got, err, fullDefinition("a"))
		return w.PutDefinition("a", second)
	})
	update(t, s, func(w compute.Writer) error {
		got, err := w.Definition("a")
		want(t, got, err, second)
		return errors.Join(w.DeleteServer("a"), w.DeleteServer("a"))
	})
	view(t, s, func(r compute.Reader) error {
		_, err := r.Definition("a")
		wantError(t, "after the server was deleted", err, compute.ErrNotFound)
		return nil
	})
}

// Whatever a Spec gets in time is kept, and what says nothing comes back as nothing.
func TestDefinitionKeepsEveryField(t *testing.T) {
	var full virt.Spec
	fillIn(t, reflect.ValueOf(&full).Elem())
	unset := false
	for _, spec := range []virt.Spec{full, {}, {Features: virt.Features{PMU: &unset}, TPM: &virt.TPM{}, Disks: make([]virt.Disk, 2)}} {
		s := open(t)
		insert(t, s, fullServer("a"))
		update(t, s, func(w compute.Writer) error { return w.PutDefinition("a", spec) })
		view(t, s, func(r compute.Reader) error {
			got, err := r.Definition("a")
			want(t, got, err, spec)
			return nil
		})
	}
}

// fillIn gives a value something in each of its fields, one of what there are many of.
func fillIn(t *testing.T, v reflect.Value) {
	t.Helper()
	switch {
	case v.Type() == reflect.TypeFor[cpuset.Set]():
		v.Set(reflect.ValueOf(cpuset.Of(0, 70)))
	case v.Type() == reflect.TypeOf(noon):
		v.Set(reflect.ValueOf(noon))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fillIn(t, v.Field(i))
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillIn(t, v.Elem())
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillIn(t, v.Index(0))
	case v.Kind() == reflect.String:
		v.SetString("<text> ü")
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(1 << 40 >> 10)
	case v.CanUint():
		v.SetUint(1 << 31)
	default:
		t.Fatalf("a field of type %v", v.Type())
	}
}
