package compute_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"compute-agent/compute"
	"compute-agent/store"
)

var catalogTime = time.Date(2025, 6, 7, 8, 9, 10, 0, time.UTC)

func newCatalog(t *testing.T) (*compute.Catalog, compute.Store) {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "agent.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return compute.NewCatalog(s, func() time.Time { return catalogTime }), s
}

func tinyFlavor() compute.Flavor {
	return compute.Flavor{ID: "1", Name: "m1.tiny", VCPUs: 1, MemoryMiB: 64, Public: true, RXTXFactor: 1,
		ExtraSpecs: map[string]string{"hw:cpu_policy": "shared"}}
}

// wantFailure checks the kind of an error and the field that it names.
func wantFailure(t *testing.T, err, kind error, field string) {
	t.Helper()
	var failure *compute.Failure
	if !errors.Is(err, kind) || !errors.As(err, &failure) || failure.Field != field {
		t.Errorf("error %v; want kind %q, field %q", err, kind, field)
	}
}

func TestFlavorLife(t *testing.T) {
	ctx := context.Background()
	c, _ := newCatalog(t)
	want, err := c.CreateFlavor(ctx, tinyFlavor())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(tinyFlavor(), want); d != "" {
		t.Error(d)
	}
	want.Description = "small"
	want.ExtraSpecs["hw:boot_menu"] = "true"
	got, err := c.UpdateFlavor(ctx, "1", func(f *compute.Flavor) error {
		f.Description = "small"
		f.ExtraSpecs["hw:boot_menu"] = "true"
		return nil
	})
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	got, err = c.Flavor(ctx, "1")
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	all, err := c.Flavors(ctx)
	if d := cmp.Diff([]compute.Flavor{want}, all); d != "" || err != nil {
		t.Error(d, err)
	}
	if err := c.DeleteFlavor(ctx, "1"); err != nil {
		t.Error(err)
	}
	if _, err := c.Flavor(ctx, "1"); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("a deleted flavor is read with %v", err)
	}
	if err := c.DeleteFlavor(ctx, "1"); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("a deleted flavor is deleted again with %v", err)
	}
}

func TestCreateFlavorMakesAnID(t *testing.T) {
	c, _ := newCatalog(t)
	ids := []string{}
	for i, id := range []string{"", "auto"} {
		f := tinyFlavor()
		f.ID, f.Name = id, fmt.Sprint("f", i)
		f, err := c.CreateFlavor(context.Background(), f)
		if err != nil || len(f.ID) != 36 {
			t.Errorf("ID %q gives %q, %v; want a UUID", id, f.ID, err)
		}
		ids = append(ids, f.ID)
	}
	if ids[0] == ids[1] {
		t.Errorf("two flavors with ID %s", ids[0])
	}
}

func TestCreateFlavorAccepts(t *testing.T) {
	for name, change := range map[string]func(*compute.Flavor){
		"longest name":        func(f *compute.Flavor) { f.Name = strings.Repeat("ü", 255) },
		"markup in the name":  func(f *compute.Flavor) { f.Name = `<a href="x">&amp;</a>` },
		"longest id":          func(f *compute.Flavor) { f.ID = strings.Repeat("a", 255) },
		"id with spaces":      func(f *compute.Flavor) { f.ID = "a b.c_d-e" },
		"id of one character": func(f *compute.Flavor) { f.ID = "0" },
		"largest":             func(f *compute.Flavor) { f.VCPUs, f.MemoryMiB, f.DiskGiB = math.MaxInt32, math.MaxInt32, math.MaxInt32 },
		"small rxtx":          func(f *compute.Flavor) { f.RXTXFactor = 0.25 },
		"no specs":            func(f *compute.Flavor) { f.ExtraSpecs = nil },
		"longest spec key":    func(f *compute.Flavor) { f.ExtraSpecs = map[string]string{strings.Repeat("k", 255): ""} },
		"spec characters":     func(f *compute.Flavor) { f.ExtraSpecs = map[string]string{"a Z0_:.-": "x"} },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCatalog(t)
			f := tinyFlavor()
			change(&f)
			if _, err := c.CreateFlavor(context.Background(), f); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCreateFlavorRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*compute.Flavor)
		field  string
	}{
		"no name":                {func(f *compute.Flavor) { f.Name = "" }, "name"},
		"long name":              {func(f *compute.Flavor) { f.Name = strings.Repeat("n", 256) }, "name"},
		"control in name":        {func(f *compute.Flavor) { f.Name = "a\x1bb" }, "name"},
		"line break in name":     {func(f *compute.Flavor) { f.Name = "a\u2028b" }, "name"},
		"direction mark in name": {func(f *compute.Flavor) { f.Name = "a\u202eb" }, "name"},
		"broken UTF-8 in name":   {func(f *compute.Flavor) { f.Name = "a\xffb" }, "name"},
		"space before name":      {func(f *compute.Flavor) { f.Name = " a" }, "name"},
		"space after name":       {func(f *compute.Flavor) { f.Name = "a\u00a0" }, "name"},
		"long id":                {func(f *compute.Flavor) { f.ID = strings.Repeat("i", 256) }, "id"},
		"slash in id":            {func(f *compute.Flavor) { f.ID = "../x" }, "id"},
		"newline after id":       {func(f *compute.Flavor) { f.ID = "x\n" }, "id"},
		"space after id":         {func(f *compute.Flavor) { f.ID = "x " }, "id"},
		"no vcpus":               {func(f *compute.Flavor) { f.VCPUs = 0 }, "vcpus"},
		"many vcpus":             {func(f *compute.Flavor) { f.VCPUs = math.MaxInt32 + 1 }, "vcpus"},
		"no ram":                 {func(f *compute.Flavor) { f.MemoryMiB = 0 }, "ram"},
		"negative disk":          {func(f *compute.Flavor) { f.DiskGiB = -1 }, "disk"},
		"negative swap":          {func(f *compute.Flavor) { f.SwapMiB = -1 }, "swap"},
		"negative ephemeral":     {func(f *compute.Flavor) { f.EphemeralGiB = -1 }, "OS-FLV-EXT-DATA:ephemeral"},
		"no rxtx":                {func(f *compute.Flavor) { f.RXTXFactor = 0 }, "rxtx_factor"},
		"rxtx not a number":      {func(f *compute.Flavor) { f.RXTXFactor = math.NaN() }, "rxtx_factor"},
		"endless rxtx":           {func(f *compute.Flavor) { f.RXTXFactor = math.Inf(1) }, "rxtx_factor"},
		"long description":       {func(f *compute.Flavor) { f.Description = strings.Repeat("d", 65536) }, "description"},
		"empty spec key":         {func(f *compute.Flavor) { f.ExtraSpecs = map[string]string{"": "x"} }, "extra_specs"},
		"markup in spec key":     {func(f *compute.Flavor) { f.ExtraSpecs = map[string]string{"<b>": "x"} }, "extra_specs"},
		"long spec key":          {func(f *compute.Flavor) { f.ExtraSpecs = map[string]string{strings.Repeat("k", 256): "x"} }, "extra_specs"},
		"long spec value":        {func(f *compute.Flavor) { f.ExtraSpecs = map[string]string{"k": strings.Repeat("v", 256)} }, "extra_specs"},
		"control in spec value":  {func(f *compute.Flavor) { f.ExtraSpecs = map[string]string{"k": "\x00"} }, "extra_specs"},
	} {
		t.Run(name, func(t *testing.T) {
			catalog, _ := newCatalog(t)
			f := tinyFlavor()
			c.change(&f)
			_, err := catalog.CreateFlavor(context.Background(), f)
			wantFailure(t, err, compute.ErrInvalid, c.field)
			if all, err := catalog.Flavors(context.Background()); len(all) != 0 || err != nil {
				t.Errorf("left behind: %v, %v", all, err)
			}
		})
	}
}

func TestCreateFlavorRefusesTakenIDAndName(t *testing.T) {
	ctx := context.Background()
	c, _ := newCatalog(t)
	if _, err := c.CreateFlavor(ctx, tinyFlavor()); err != nil {
		t.Fatal(err)
	}
	sameID, sameName := tinyFlavor(), tinyFlavor()
	sameID.Name = "other"
	sameName.ID = "other"
	_, err := c.CreateFlavor(ctx, sameID)
	wantFailure(t, err, compute.ErrExists, "id")
	_, err = c.CreateFlavor(ctx, sameName)
	wantFailure(t, err, compute.ErrExists, "name")
}

func TestUpdateFlavorRefuses(t *testing.T) {
	ctx := context.Background()
	mine := errors.New("mine")
	for name, change := range map[string]struct {
		fn   func(*compute.Flavor) error
		want error
	}{
		"another size":       {func(f *compute.Flavor) error { f.VCPUs = 2; return nil }, compute.ErrInvalid},
		"another name":       {func(f *compute.Flavor) error { f.Name = "x"; return nil }, compute.ErrInvalid},
		"another id":         {func(f *compute.Flavor) error { f.ID = "x"; return nil }, compute.ErrInvalid},
		"a bad spec":         {func(f *compute.Flavor) error { f.ExtraSpecs["\n"] = ""; return nil }, compute.ErrInvalid},
		"the change's error": {func(f *compute.Flavor) error { f.ExtraSpecs["k"] = "v"; return mine }, mine},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCatalog(t)
			if _, err := c.CreateFlavor(ctx, tinyFlavor()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.UpdateFlavor(ctx, "1", change.fn); !errors.Is(err, change.want) {
				t.Errorf("error %v, want %v", err, change.want)
			}
			got, err := c.Flavor(ctx, "1")
			if d := cmp.Diff(tinyFlavor(), got); d != "" || err != nil {
				t.Error("the flavor changed:", d, err)
			}
		})
	}
	c, _ := newCatalog(t)
	if _, err := c.UpdateFlavor(ctx, "none", func(*compute.Flavor) error { return nil }); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("an unknown flavor is updated with %v", err)
	}
}

// A public key and its fingerprint as ssh-keygen -l -E md5 prints it.
const (
	someKey         = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f someone@host"
	someFingerprint = "0f:a2:0a:d7:38:3e:65:45:08:6b:63:84:1c:ff:dc:ba"
)

func TestCreateKeypairKeepsAPublicKeyAsItCame(t *testing.T) {
	ctx := context.Background()
	c, _ := newCatalog(t)
	for name, key := range map[string]string{
		"plain":           someKey,
		"newline":         someKey + "\n",
		"CR and newline":  someKey + "\r\n",
		"no comment":      strings.TrimSuffix(someKey, " someone@host"),
		"comment in UTF8": someKey + " ünser",
	} {
		t.Run(name, func(t *testing.T) {
			want := compute.Keypair{UserID: "u", Name: name, Type: "ssh", PublicKey: key, Fingerprint: someFingerprint, Created: catalogTime}
			got, err := c.CreateKeypair(ctx, compute.Keypair{UserID: "u", Name: name, PublicKey: key})
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Error(d, err)
			}
			got, err = c.Keypair(ctx, "u", name)
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Error(d, err)
			}
		})
	}
}

func TestCreateKeypairMakesAPair(t *testing.T) {
	ctx := context.Background()
	c, _ := newCatalog(t)
	made, err := c.CreateKeypair(ctx, compute.Keypair{UserID: "u", Name: "k", PrivateKey: "not taken from a caller"})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey([]byte(made.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	public, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(made.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if string(public.Marshal()) != string(signer.PublicKey().Marshal()) || comment == "" {
		t.Errorf("the public half %q does not belong to the private one", made.PublicKey)
	}
	if made.Fingerprint != ssh.FingerprintLegacyMD5(public) {
		t.Errorf("fingerprint %s", made.Fingerprint)
	}
	kept, err := c.Keypair(ctx, "u", "k")
	made.PrivateKey = ""
	if d := cmp.Diff(made, kept); d != "" || err != nil {
		t.Error("the stored keypair differs:", d, err)
	}
}

func TestCreateKeypairAcceptsOtherAlgorithms(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newCatalog(t)
	k, err := c.CreateKeypair(context.Background(), compute.Keypair{UserID: "u", Name: "k", PublicKey: string(ssh.MarshalAuthorizedKey(public))})
	if err != nil || k.PrivateKey != "" {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestCreateKeypairRefuses(t *testing.T) {
	c, _ := newCatalog(t)
	for name, k := range map[string]struct {
		keypair compute.Keypair
		field   string
	}{
		"no name":               {compute.Keypair{}, "name"},
		"slash in name":         {compute.Keypair{Name: "a/b"}, "name"},
		"newline in name":       {compute.Keypair{Name: "a\n"}, "name"},
		"umlaut in name":        {compute.Keypair{Name: "ü"}, "name"},
		"space after name":      {compute.Keypair{Name: "a "}, "name"},
		"long name":             {compute.Keypair{Name: strings.Repeat("k", 256)}, "name"},
		"certificate":           {compute.Keypair{Name: "k", Type: "x509"}, "type"},
		"not a key":             {compute.Keypair{Name: "k", PublicKey: "hello"}, "public_key"},
		"comment line":          {compute.Keypair{Name: "k", PublicKey: "# " + someKey}, "public_key"},
		"newline only":          {compute.Keypair{Name: "k", PublicKey: "\n"}, "public_key"},
		"broken base64":         {compute.Keypair{Name: "k", PublicKey: "ssh-ed25519 AAAA! x"}, "public_key"},
		"type and key disagree": {compute.Keypair{Name: "k", PublicKey: strings.Replace(someKey, "ssh-ed25519", "ssh-rsa", 1)}, "public_key"},
		"two lines":             {compute.Keypair{Name: "k", PublicKey: someKey + "\n" + someKey}, "public_key"},
		"options":               {compute.Keypair{Name: "k", PublicKey: `command="x" ` + someKey}, "public_key"},
		"control character":     {compute.Keypair{Name: "k", PublicKey: someKey + "\x1b[31m"}, "public_key"},
		"too long":              {compute.Keypair{Name: "k", PublicKey: someKey + strings.Repeat("c", 16<<10)}, "public_key"},
	} {
		t.Run(name, func(t *testing.T) {
			k.keypair.UserID = "u"
			_, err := c.CreateKeypair(context.Background(), k.keypair)
			wantFailure(t, err, compute.ErrInvalid, k.field)
		})
	}
	if all, err := c.Keypairs(context.Background(), "u"); len(all) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", all, err)
	}
}

func TestKeypairsAreTheUsersOwn(t *testing.T) {
	ctx := context.Background()
	c, _ := newCatalog(t)
	for _, k := range []compute.Keypair{{UserID: "u", Name: "b"}, {UserID: "u", Name: "a"}, {UserID: "v", Name: "a"}} {
		k.PublicKey = someKey
		if _, err := c.CreateKeypair(ctx, k); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.CreateKeypair(ctx, compute.Keypair{UserID: "u", Name: "a", PublicKey: someKey})
	wantFailure(t, err, compute.ErrExists, "")
	if err := c.DeleteKeypair(ctx, "v", "a"); err != nil {
		t.Error(err)
	}
	if err := c.DeleteKeypair(ctx, "v", "a"); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("deleted again with %v", err)
	}
	if _, err := c.Keypair(ctx, "v", "a"); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("read after delete with %v", err)
	}
	all, err := c.Keypairs(ctx, "u")
	names := []string{}
	for _, k := range all {
		names = append(names, k.Name)
	}
	if !slices.Equal(names, []string{"b", "a"}) || err != nil {
		t.Errorf("keypairs %v, %v; want b, a", names, err)
	}
}

func TestKeypairQuota(t *testing.T) {
	ctx := context.Background()
	c, _ := newCatalog(t)
	add := func(user string, i int) error {
		_, err := c.CreateKeypair(ctx, compute.Keypair{UserID: user, Name: fmt.Sprint("k", i), PublicKey: someKey})
		return err
	}
	for i := range compute.KeypairQuota {
		if err := add("u", i); err != nil {
			t.Fatal(err)
		}
	}
	wantFailure(t, add("u", compute.KeypairQuota), compute.ErrForbidden, "")
	wantFailure(t, add("u", 0), compute.ErrExists, "")
	if err := add("v", 0); err != nil {
		t.Error(err)
	}
}
