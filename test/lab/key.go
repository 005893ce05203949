package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// makeKey makes the key that this run logs in with, and returns its line for sshd. It is in no file.
func (v *vm) makeKey() (authorized string, err error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	if v.key, err = ssh.NewSignerFromKey(private); err != nil {
		return "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(v.key.PublicKey()))), nil
}

// hostKey reads the key by which the image's sshd is known.
func hostKey(image string) (ssh.PublicKey, error) {
	line, err := os.ReadFile(filepath.Join(image, "host_key.pub"))
	if err != nil {
		return nil, err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(line)
	return key, err
}
