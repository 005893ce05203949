package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"compute-agent/api"
	"compute-agent/identity"

	"go.yaml.in/yaml/v3"
)

const (
	// cloudsFile is in the state directory: what the openstack client needs to log in.
	cloudsFile = "clouds.yaml"
	// cloudName is what users call the agent: openstack --os-cloud compute-agent.
	cloudName = "compute-agent"
)

// access is how the admin reaches the API.
type access struct {
	config *Config
	url    string // public, without a path
}

func (a access) path() string { return filepath.Join(a.config.StateDir, cloudsFile) }

type cloudAuth struct {
	URL           string `yaml:"auth_url"`
	Username      string `yaml:"username"`
	Password      string `yaml:"password"`
	ProjectName   string `yaml:"project_name"`
	UserDomain    string `yaml:"user_domain_name"`
	ProjectDomain string `yaml:"project_domain_name"`
}

type cloud struct {
	Auth   cloudAuth `yaml:"auth"`
	Region string    `yaml:"region_name"`
	CACert string    `yaml:"cacert,omitempty"`
	API    string    `yaml:"identity_api_version"`
	// Compute is the microversion that the client asks for. Without one it takes 2.1, which does not
	// know `--nic none` (2.37); from 2.88 on it refuses `hypervisor stats show`.
	Compute string `yaml:"compute_api_version"`
	// Volume is that of the block storage API: without one it takes 3.0, which has no attachments (3.27); from 3.66 on `volume snapshot create`
	// says something that it then refuses to send.
	Volume string `yaml:"volume_api_version"`
}

type clouds struct {
	Clouds map[string]cloud `yaml:"clouds"`
}

// write writes clouds.yaml, readable by its owner only, whole or not at all.
func (a access) write(admin identity.User, password string) error {
	c := cloud{
		Auth: cloudAuth{
			URL: a.authURL(), Username: admin.Name, Password: password, ProjectName: admin.ProjectName,
			UserDomain: identity.DomainName, ProjectDomain: identity.DomainName,
		},
		Region:  api.Region,
		API:     "3",
		Compute: "2.79",
		Volume:  "3.60",
	}
	if selfSigned(a.config.TLSCert) {
		c.CACert = a.config.TLSCert
	}
	text, err := yaml.Marshal(clouds{map[string]cloud{cloudName: c}})
	if err != nil {
		return err
	}
	return writeFile(a.path(), text)
}

func (a access) authURL() string { return a.url + "/identity/v3" }

// settle makes sure that there is an admin whose password is in clouds.yaml: it makes both at the
// first start, and applies a configured password. A file that is there is otherwise left as it is;
// it may have been edited.
func (a access) settle(ctx context.Context, id *identity.Service, log *slog.Logger) error {
	wanted := a.config.AdminPassword
	admin, err := id.EnsureAdmin(ctx, a.write)
	if err != nil {
		return err
	}
	file, err := a.read()
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case wanted != "" && (missing || !a.knows(ctx, id, wanted)):
		return a.reset(ctx, id, admin, wanted)
	case missing:
		log.Warn("clouds.yaml is gone, and with it the admin's password; `compute-agent reset-admin-password` makes a new one",
			"file", a.path())
	case err != nil:
		log.Warn("clouds.yaml cannot be read", "error", err)
	case file.Clouds[cloudName].Auth.URL != a.authURL():
		log.Warn("clouds.yaml names another address than clients can reach the API at",
			"file", a.path(), "auth_url", a.authURL())
	}
	return nil
}

func (a access) read() (clouds, error) {
	var c clouds
	text, err := os.ReadFile(a.path())
	if err != nil {
		return c, err
	}
	return c, yaml.Unmarshal(text, &c)
}

// knows says whether a password is the admin's.
func (a access) knows(ctx context.Context, id *identity.Service, password string) bool {
	_, err := id.Login(ctx, identity.Credential{UserName: "admin", Password: password})
	return err == nil
}

// reset gives the admin a password. The file comes first: dying in between leaves a password that
// does not work yet, and doing it again repairs that.
func (a access) reset(ctx context.Context, id *identity.Service, admin identity.User, password string) error {
	if password == "" {
		password = rand.Text()
	}
	if err := a.write(admin, password); err != nil {
		return fmt.Errorf("write %s: %w", cloudsFile, err)
	}
	return id.SetPassword(ctx, admin.ID, password)
}

// selfSigned says whether the first certificate of a PEM file vouches for itself, so that clients
// must be told of it.
func selfSigned(file string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	return err == nil && cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

// writeFile replaces a file with one of mode 0600, whole or not at all, also over a power failure.
func writeFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return f.Close()
}
