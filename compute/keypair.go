package compute

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"
)

// KeypairQuota is how many keypairs a user may have, Nova's default (quota.key_pairs).
const KeypairQuota = 100

// KeypairSSH is the only type of keypair; Nova's other one, x509, is for Windows guests.
const KeypairSSH = "ssh"

// maxPublicKey bounds a public key's line; the largest RSA key that OpenSSH makes has 2.8 kB.
const maxPublicKey = 16 << 10

// Nova's rule since microversion 2.92 (nova.api.validation.parameter_types.keypair_name_special_chars).
var keypairNamePattern = regexp.MustCompile(`^[A-Za-z0-9_@.-]([A-Za-z0-9_@. -]*[A-Za-z0-9_@.-])?$`)

// CreateKeypair stores a user's public key. Without one it makes a pair, as Nova does up to
// microversion 2.91, and returns its private half in PrivateKey. The pair is Ed25519, not the RSA
// of Nova: it is what the openstack client makes by itself, and costs no time to make. Who needs
// another kind gives its public key. ErrExists if the user has one of the name, ErrForbidden if
// KeypairQuota is reached.
func (c *Catalog) CreateKeypair(ctx context.Context, k Keypair) (Keypair, error) {
	if k.Type == "" {
		k.Type = KeypairSSH
	}
	if err := k.complete(); err != nil {
		return Keypair{}, err
	}
	k.Created = c.clock().UTC()
	err := c.store.Update(ctx, func(w Writer) error {
		if err := k.mayBeAdded(w); err != nil {
			return err
		}
		return w.PutKeypair(k)
	})
	if err != nil {
		return Keypair{}, err
	}
	return k, nil
}

// Keypair returns one keypair of a user.
func (c *Catalog) Keypair(ctx context.Context, userID, name string) (k Keypair, err error) {
	err = c.store.View(ctx, func(r Reader) error {
		k, err = r.Keypair(userID, name)
		return err
	})
	return k, err
}

// Keypairs returns a user's keypairs, oldest first.
func (c *Catalog) Keypairs(ctx context.Context, userID string) (all []Keypair, err error) {
	err = c.store.View(ctx, func(r Reader) error {
		all, err = r.Keypairs(userID)
		return err
	})
	return all, err
}

// DeleteKeypair removes a keypair; servers that were given it keep it. ErrNotFound if there is none.
func (c *Catalog) DeleteKeypair(ctx context.Context, userID, name string) error {
	return c.store.Update(ctx, func(w Writer) error {
		if _, err := w.Keypair(userID, name); err != nil {
			return err
		}
		return w.DeleteKeypair(userID, name)
	})
}

// mayBeAdded checks the name and the quota against the user's other keypairs.
func (k Keypair) mayBeAdded(r Reader) error {
	_, err := r.Keypair(k.UserID, k.Name)
	if err == nil {
		return &Failure{Kind: ErrExists, Subject: subjectOf("keypair", k.Name), Reason: "the user has one of this name"}
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	others, err := r.Keypairs(k.UserID)
	if err != nil {
		return err
	}
	if len(others) >= KeypairQuota {
		return &Failure{Kind: ErrForbidden, Subject: subjectOf("keypair", k.Name),
			Reason: fmt.Sprintf("quota exceeded: the user has %d of %d keypairs", len(others), KeypairQuota)}
	}
	return nil
}

// complete checks what was given and works out the rest.
func (k *Keypair) complete() error {
	invalid := func(field, reason string) error {
		return &Failure{Kind: ErrInvalid, Subject: subjectOf("keypair", k.Name), Field: field, Reason: reason}
	}
	if len(k.Name) > maxNameRunes || !keypairNamePattern.MatchString(k.Name) {
		return invalid("name", "must be 1 to 255 letters, digits, spaces and _-@. with no space at the ends")
	}
	if k.Type != KeypairSSH {
		return invalid("type", `only "ssh" is supported`)
	}
	k.PrivateKey = ""
	if k.PublicKey == "" {
		if err := k.generate(); err != nil {
			return fmt.Errorf("%s: generate: %w", subjectOf("keypair", k.Name), err)
		}
	}
	key, reason := parsePublicKey(k.PublicKey)
	if reason != "" {
		return invalid("public_key", reason)
	}
	k.Fingerprint = ssh.FingerprintLegacyMD5(key)
	return nil
}

func (k *Keypair) generate() error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "Generated-by-compute-agent")
	if err != nil {
		return err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	k.PrivateKey = string(pem.EncodeToMemory(block))
	k.PublicKey = string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(key))) + " Generated-by-compute-agent"
	return nil
}

// parsePublicKey reads "type base64 comment", the line of an authorized_keys file without its
// options: they are the guest's to set. The line is kept as it came, with its newline if it has
// one, because clients compare what they read with what they sent.
func parsePublicKey(line string) (key ssh.PublicKey, reason string) {
	if len(line) > maxPublicKey {
		return nil, fmt.Sprintf("has %d bytes, at most %d are allowed", len(line), maxPublicKey)
	}
	unsafe := func(r rune) bool { return r != '\t' && !unicode.IsGraphic(r) }
	if strings.ContainsFunc(strings.TrimRight(line, "\r\n"), unsafe) {
		return nil, "must be one line of printable characters"
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, `must be an OpenSSH public key: "type base64 comment"`
	}
	if len(options) > 0 {
		return nil, "must have no options before the key's type"
	}
	if given := strings.Fields(line)[0]; given != key.Type() {
		return nil, fmt.Sprintf("says %q but holds a key of type %s", abridge(given), key.Type())
	}
	return key, ""
}
