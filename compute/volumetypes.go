package compute

import (
	"context"
	"maps"
	"slices"

	"compute-agent/cinder"
)

// ensureDefaultType makes the type of volumes that name none, where the operator left that to Cinder's name.
func (s *VolumeService) ensureDefaultType(tx Writer) error {
	types, err := tx.VolumeTypes()
	if err != nil || s.opt.DefaultType != cinder.DefaultTypeName {
		return err
	}
	if slices.ContainsFunc(types, func(t cinder.Type) bool { return t.Name == cinder.DefaultTypeName }) {
		return nil
	}
	now := s.now()
	return tx.PutVolumeType(cinder.Type{ID: newID(), Name: cinder.DefaultTypeName, Description: "Default Volume Type", Public: true, Created: now, Updated: now})
}

// DefaultVolumeType is the name of the type of volumes that name none.
func (s *VolumeService) DefaultVolumeType() string { return s.opt.DefaultType }

// CreateVolumeType makes a type.
func (s *VolumeService) CreateVolumeType(ctx context.Context, t cinder.Type) (cinder.Type, error) {
	t.ID, t.Created = newID(), s.now()
	t.Updated = t.Created
	err := s.change(ctx, func(tx Writer) error { return s.putType(tx, &t) })
	return t, err
}

// putType checks a type and stores it.
func (s *VolumeService) putType(tx Writer, t *cinder.Type) error {
	others, err := tx.VolumeTypes()
	if err != nil {
		return err
	}
	if t.Encryption != nil {
		e := *t.Encryption
		if e.ID == "" {
			e.ID = newID()
		}
		if e.Location == "" {
			e.Location = "front-end"
		}
		t.Encryption = &e
	}
	if err := t.Check(others, slices.Sorted(maps.Keys(s.opt.Backends))); err != nil {
		return err
	}
	if t.QoSID != "" {
		if _, err := qosOf(tx, t.QoSID); err != nil {
			return err
		}
	}
	return tx.PutVolumeType(*t)
}

func typeOf(r Reader, id string) (cinder.Type, error) {
	t, err := r.VolumeType(id)
	return t, notFound("VolumeTypeNotFound", "volume type", id, err)
}

// VolumeType returns one type.
func (s *VolumeService) VolumeType(ctx context.Context, id string) (cinder.Type, error) {
	return viewVolumes(ctx, s, func(r Reader) (cinder.Type, error) { return typeOf(r, id) })
}

// VolumeTypes lists all, oldest first.
func (s *VolumeService) VolumeTypes(ctx context.Context) ([]cinder.Type, error) {
	return viewVolumes(ctx, s, Reader.VolumeTypes)
}

// UpdateVolumeType changes a type. What its volumes were made with stays while there are any.
func (s *VolumeService) UpdateVolumeType(ctx context.Context, id string, change func(*cinder.Type) error) (t cinder.Type, err error) {
	err = s.change(ctx, func(tx Writer) error {
		before, err := typeOf(tx, id)
		if err != nil {
			return err
		}
		t = before
		t.ExtraSpecs, t.Projects = maps.Clone(before.ExtraSpecs), slices.Clone(before.Projects)
		if before.Encryption != nil {
			e := *before.Encryption
			t.Encryption = &e
		}
		if err := change(&t); err != nil {
			return err
		}
		t.ID, t.Created, t.Updated = before.ID, before.Created, s.now()
		volumes, err := tx.Volumes()
		if err != nil {
			return err
		}
		if err := t.CheckChange(before, volumes); err != nil {
			return err
		}
		return s.putType(tx, &t)
	})
	return t, err
}

// DeleteVolumeType removes a type that no volume has.
func (s *VolumeService) DeleteVolumeType(ctx context.Context, id string) error {
	return s.change(ctx, func(tx Writer) error {
		t, err := typeOf(tx, id)
		if err != nil {
			return err
		}
		volumes, err := tx.Volumes()
		if err != nil {
			return err
		}
		if err := t.CheckDelete(s.opt.DefaultType, volumes); err != nil {
			return err
		}
		return tx.DeleteVolumeType(id)
	})
}

// CreateQoS makes QoS specs.
func (s *VolumeService) CreateQoS(ctx context.Context, q cinder.QoS) (cinder.QoS, error) {
	q.ID, q.Created = newID(), s.now()
	if q.Consumer == "" {
		q.Consumer = "back-end" // Cinder's
	}
	err := s.change(ctx, func(tx Writer) error { return putQoS(tx, q) })
	return q, err
}

func putQoS(tx Writer, q cinder.QoS) error {
	others, err := tx.QoSSpecs()
	if err != nil {
		return err
	}
	if err := q.Check(others); err != nil {
		return err
	}
	return tx.PutQoS(q)
}

func qosOf(r Reader, id string) (cinder.QoS, error) {
	q, err := r.QoS(id)
	return q, notFound("QoSSpecsNotFound", "QoS specs", id, err)
}

// QoS returns QoS specs.
func (s *VolumeService) QoS(ctx context.Context, id string) (cinder.QoS, error) {
	return viewVolumes(ctx, s, func(r Reader) (cinder.QoS, error) { return qosOf(r, id) })
}

// QoSSpecs lists all, oldest first.
func (s *VolumeService) QoSSpecs(ctx context.Context) ([]cinder.QoS, error) {
	return viewVolumes(ctx, s, Reader.QoSSpecs)
}

// UpdateQoS changes QoS specs. Servers get the new limits when their volumes are connected the next time, as with Cinder.
func (s *VolumeService) UpdateQoS(ctx context.Context, id string, change func(*cinder.QoS) error) (q cinder.QoS, err error) {
	err = s.change(ctx, func(tx Writer) error {
		before, err := qosOf(tx, id)
		if err != nil {
			return err
		}
		q = before
		q.Specs = maps.Clone(before.Specs)
		if err := change(&q); err != nil {
			return err
		}
		q.ID, q.Created = before.ID, before.Created
		return putQoS(tx, q)
	})
	return q, err
}

// DeleteQoS removes QoS specs that no type has.
func (s *VolumeService) DeleteQoS(ctx context.Context, id string) error {
	return s.change(ctx, func(tx Writer) error {
		q, err := qosOf(tx, id)
		if err != nil {
			return err
		}
		types, err := tx.VolumeTypes()
		if err != nil {
			return err
		}
		if err := q.CheckDelete(types); err != nil {
			return err
		}
		return tx.DeleteQoS(id)
	})
}
