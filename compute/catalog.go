package compute

import "time"

// Catalog keeps what servers are made from beside images: the flavors, and the users' keypairs.
type Catalog struct {
	store Store
	clock func() time.Time
}

// NewCatalog returns the catalog in store. The clock may be nil for time.Now.
func NewCatalog(store Store, clock func() time.Time) *Catalog {
	if clock == nil {
		clock = time.Now
	}
	return &Catalog{store: store, clock: clock}
}
