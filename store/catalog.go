package store

import (
	"fmt"

	"compute-agent/compute"
)

type flavorRecord struct {
	*compute.Flavor
	ID, Name column `json:",omitempty"`
}

func scanFlavor(r row) (compute.Flavor, error) {
	var f compute.Flavor
	var record []byte
	if err := r.Scan(&f.ID, &f.Name, &record); err != nil {
		return compute.Flavor{}, err
	}
	err := decode(record, &flavorRecord{Flavor: &f})
	return f, err
}

// Flavor implements compute.Reader.
func (r reader) Flavor(id string) (compute.Flavor, error) {
	return get(r, "flavor "+id, scanFlavor, "SELECT id, name, record FROM flavors WHERE id = ?", id)
}

// Flavors implements compute.Reader.
func (r reader) Flavors() ([]compute.Flavor, error) {
	return list(r, "list flavors", scanFlavor, "SELECT id, name, record FROM flavors ORDER BY id")
}

// PutFlavor implements compute.Writer. ErrExists if another flavor has the name.
func (w writer) PutFlavor(f compute.Flavor) error {
	subject := "flavor " + f.ID
	record, err := encode(flavorRecord{Flavor: &f})
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	_, err = w.exec(`INSERT INTO flavors (id, name, record) VALUES (?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record`, f.ID, f.Name, record)
	if isDuplicate(err) {
		return &compute.Failure{Kind: compute.ErrExists, Subject: subject, Field: "name", Reason: "another flavor has it"}
	}
	return explain(subject, err)
}

// DeleteFlavor implements compute.Writer.
func (w writer) DeleteFlavor(id string) error {
	_, err := w.exec("DELETE FROM flavors WHERE id = ?", id)
	return explain("flavor "+id, err)
}

type imageRecord struct {
	*compute.Image
	ID column `json:",omitempty"`
}

func scanImage(r row) (compute.Image, error) {
	var img compute.Image
	var record []byte
	if err := r.Scan(&img.ID, &record); err != nil {
		return compute.Image{}, err
	}
	err := decode(record, &imageRecord{Image: &img})
	return img, err
}

// Image implements compute.Reader.
func (r reader) Image(id string) (compute.Image, error) {
	return get(r, "image "+id, scanImage, "SELECT id, record FROM images WHERE id = ?", id)
}

// Images implements compute.Reader.
func (r reader) Images() ([]compute.Image, error) {
	return list(r, "list images", scanImage, "SELECT id, record FROM images ORDER BY seq")
}

// PutImage implements compute.Writer.
func (w writer) PutImage(img compute.Image) error {
	subject := "image " + img.ID
	record, err := encode(imageRecord{Image: &img})
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	_, err = w.exec(`INSERT INTO images (id, record) VALUES (?, ?)
		ON CONFLICT (id) DO UPDATE SET record = excluded.record`, img.ID, record)
	return explain(subject, err)
}

// DeleteImage implements compute.Writer.
func (w writer) DeleteImage(id string) error {
	_, err := w.exec("DELETE FROM images WHERE id = ?", id)
	return explain("image "+id, err)
}

type keypairRecord struct {
	*compute.Keypair
	UserID, Name column `json:",omitempty"`
}

func scanKeypair(r row) (compute.Keypair, error) {
	var k compute.Keypair
	var record []byte
	if err := r.Scan(&k.UserID, &k.Name, &record); err != nil {
		return compute.Keypair{}, err
	}
	err := decode(record, &keypairRecord{Keypair: &k})
	return k, err
}

// Keypair implements compute.Reader.
func (r reader) Keypair(userID, name string) (compute.Keypair, error) {
	return get(r, "keypair "+name, scanKeypair,
		"SELECT user_id, name, record FROM keypairs WHERE user_id = ? AND name = ?", userID, name)
}

// Keypairs implements compute.Reader.
func (r reader) Keypairs(userID string) ([]compute.Keypair, error) {
	return list(r, "list keypairs", scanKeypair,
		"SELECT user_id, name, record FROM keypairs WHERE user_id = ? ORDER BY seq", userID)
}

// PutKeypair implements compute.Writer.
func (w writer) PutKeypair(k compute.Keypair) error {
	subject := "keypair " + k.Name
	record, err := encode(keypairRecord{Keypair: &k})
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	_, err = w.exec(`INSERT INTO keypairs (user_id, name, record) VALUES (?, ?, ?)
		ON CONFLICT (user_id, name) DO UPDATE SET record = excluded.record`, k.UserID, k.Name, record)
	return explain(subject, err)
}

// DeleteKeypair implements compute.Writer.
func (w writer) DeleteKeypair(userID, name string) error {
	_, err := w.exec("DELETE FROM keypairs WHERE user_id = ? AND name = ?", userID, name)
	return explain("keypair "+name, err)
}
