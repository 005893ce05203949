package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"compute-agent/api"
	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/identity"
	"compute-agent/image"
	"compute-agent/internal/command"
	"compute-agent/network/fabric"
	"compute-agent/neutron"
	"compute-agent/store"
	"compute-agent/virt/fake"
)

// site is a whole agent on the fake driver behind a real listener: the store, the manager, the image
// cache and the programs that make disks are the real ones.
type site struct {
	t       testing.TB
	url     string
	core    core
	store   *store.Store
	images  string // the directory of the image cache
	log     *lockedBuffer
	tokens  map[string]string
	server  *httptest.Server
	hv      *fake.Hypervisor
	servers string // the directory of the servers' files
	screens *screens
}

// core is the backend, joined as the command does it.
type core struct {
	*compute.Manager
	*compute.Library
	*compute.Catalog
	*compute.NetworkService
	*compute.VolumeService
	*compute.ConsoleService
}

var _ api.Backend = core{}

// The users of a site. Their passwords are their names.
const (
	admin = "admin" // of the project "admin"
	bob   = "bob"   // a member of the project "builders"
	eve   = "eve"   // a member of the project "elsewhere"
)

func newSite(t testing.TB, change ...func(*api.Options)) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, images: filepath.Join(dir, "images"), servers: filepath.Join(dir, "instances"), log: &lockedBuffer{},
		tokens: map[string]string{}, hv: fake.NewHypervisor()}
	logger := slog.New(slog.NewTextHandler(s.log, nil))
	var err error
	if s.store, err = store.Open(filepath.Join(dir, "agent.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.must(s.store.Close()) })
	s.openCore(dir, logger)
	s.addUser(admin, "admin", identity.RoleAdmin)
	s.addUser(bob, "builders", identity.RoleMember)
	s.addUser(eve, "elsewhere", identity.RoleMember)
	opt := api.Options{
		Backend: s.core, Identity: identity.New(identity.Options{Store: s.store}), Logger: logger, Hostname: "node-1",
		Limits: api.Limits{RequestsPerSecond: -1, LoginsPerSecond: -1, ImageBytes: 1 << 20},
	}
	for _, c := range change {
		c(&opt)
	}
	handler, err := api.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewServer(handler)
	t.Cleanup(s.server.Close)
	s.url = s.server.URL
	return s
}

func (s *site) openCore(dir string, logger *slog.Logger) {
	s.t.Helper()
	blobs, err := image.OpenStore(s.images, image.Options{})
	s.must(err)
	library := compute.NewLibrary(s.store, blobs, nil, logger)
	disks, err := compute.NewFileDisks(s.servers, s.images, "", command.Exec{})
	s.must(err)
	driver := s.hv.Open(fake.Options{Hostname: "node-1"})
	s.t.Cleanup(func() { s.must(driver.Close()) })
	node, err := compute.LoadNodeID(dir)
	s.must(err)
	networks := compute.NewNetworkService(compute.NetworkOptions{Store: s.store, Random: counter()})
	host := compute.NewHostNetwork(s.store, noFabric{}, neutron.Site{}, logger)
	s.t.Cleanup(host.Close)
	holes := holeVolumes{filepath.Join(dir, "volumes")}
	s.must(os.Mkdir(holes.dir, 0o700))
	var manager *compute.Manager
	volumes := s.openVolumes(dir, holes, func(ctx context.Context, serverID, volumeID string) error {
		return manager.ExtendAttached(ctx, serverID, volumeID)
	})
	s.screens = &screens{driver: driver}
	consoles := compute.NewConsoleService(compute.ConsoleOptions{Store: s.store, Finder: s.screens, BaseURL: "https://host:6080"})
	s.t.Cleanup(consoles.Close)
	manager, err = compute.New(compute.Options{
		Networks: networks, HostNetwork: host, Volumes: volumes, VolumeService: volumes, VolumeHost: volumeHost{holes}, Consoles: consoles,
		Store: s.store, Driver: driver, Disks: disks, Blobs: library, NodeID: node, SettleTime: -1, Logger: logger,
		Capacity: compute.Capacity{ReservedHostMemoryMiB: 512},
	})
	s.must(err)
	s.must(manager.Start(s.t.Context()))
	s.t.Cleanup(func() { s.must(manager.Close(context.Background())) })
	s.core = core{manager, library, compute.NewCatalog(s.store, nil), networks, volumes, consoles}
}

func (s *site) openVolumes(dir string, backend compute.VolumeBackend, inUse func(ctx context.Context, serverID, volumeID string) error) *compute.VolumeService {
	s.t.Helper()
	keys, err := compute.NewVolumeKeys(filepath.Join(dir, "keys"))
	s.must(err)
	volumes := compute.NewVolumeService(compute.VolumeOptions{
		Store: s.store, Backends: map[string]compute.VolumeBackend{"local": backend}, ImageDir: s.images, Keys: keys, InUse: inUse,
	})
	s.must(volumes.Start(s.t.Context()))
	s.t.Cleanup(volumes.Close)
	return volumes
}

// holeVolumes is a backend whose volumes are files of holes in a directory.
type holeVolumes struct{ dir string }

func (h holeVolumes) path(id string) string { return filepath.Join(h.dir, id) }

func (h holeVolumes) Create(_ context.Context, v cinder.Volume, _ compute.VolumeOrigin) error {
	f, err := os.Create(h.path(v.ID))
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(int64(v.SizeGiB)<<30), f.Close())
}

func (h holeVolumes) Delete(_ context.Context, v cinder.Volume) error { return os.Remove(h.path(v.ID)) }

func (h holeVolumes) Extend(_ context.Context, v cinder.Volume, gib int) error {
	return os.Truncate(h.path(v.ID), int64(gib)<<30)
}

func (holeVolumes) Snapshot(context.Context, cinder.Snapshot, cinder.Volume) error { return nil }

func (holeVolumes) DeleteSnapshot(context.Context, cinder.Snapshot, cinder.Volume) error { return nil }

func (holeVolumes) Pool(context.Context) (cinder.Pool, error) {
	return cinder.Pool{Kind: "local", TotalGiB: 100, FreeGiB: 60.5, Multiattach: true, Copies: true, LiveCopies: true, LiveExtend: true, Encryption: []string{"luks"}, Up: true}, nil
}

func (holeVolumes) Connection(_ context.Context, v cinder.Volume, _ connector.Properties) (connector.Raw, error) {
	return json.Marshal(map[string]any{"driver_volume_type": "local", "data": map[string]any{"device_path": "/dev/volumes/" + v.ID}})
}

// volumeHost is a host that has every volume.
type volumeHost struct{ volumes holeVolumes }

func (volumeHost) Properties(context.Context) (connector.Properties, error) {
	return connector.Properties{Host: "node-1", IP: "192.0.2.1", OSType: "linux", Platform: "x86_64"}, nil
}

func (h volumeHost) Connect(_ context.Context, r compute.VolumeConnection) (connector.Device, error) {
	return connector.Device{Path: h.volumes.path(r.VolumeID), Format: "raw"}, nil
}

func (volumeHost) Disconnect(context.Context, compute.VolumeConnection) error { return nil }

func (h volumeHost) Extend(ctx context.Context, r compute.VolumeConnection) (connector.Device, error) {
	return h.Connect(ctx, r)
}

// noFabric is a host on which every network works.
type noFabric struct{}

func (noFabric) Apply(context.Context, fabric.State) error { return nil }
func (noFabric) Resync()                                   {}

// counter is a source of numbers that are as good as random and the same each time.
func counter() func(uint64) uint64 {
	var last atomic.Uint64
	return func(n uint64) uint64 { return last.Add(1) % n }
}

func (s *site) addUser(name, project, role string) {
	s.t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(name), bcrypt.MinCost)
	s.must(err)
	s.must(s.store.CreateUser(s.t.Context(), identity.User{
		ID: name + "-id", Name: name, DomainID: identity.DomainID, ProjectID: project + "-id", ProjectName: project,
		Roles: []string{role}, PasswordHash: hash, Created: time.Now(),
	}))
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// request is what a test sends. The zero values are: nobody, GET, no microversion, no body.
type request struct {
	as      string // a user's name
	method  string
	path    string
	version string // of the compute API, or of the block storage API by its path
	body    string
	header  http.Header
}

// response is what came back.
type response struct {
	status int
	header http.Header
	body   string
}

func (s *site) send(r request) response {
	s.t.Helper()
	method := r.method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+r.path, strings.NewReader(r.body))
	s.must(err)
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.version != "" {
		service := "compute"
		if strings.HasPrefix(r.path, "/volume") {
			service = "volume"
		}
		req.Header.Set("OpenStack-API-Version", service+" "+r.version)
	}
	if r.as != "" {
		req.Header.Set("X-Auth-Token", s.token(r.as))
	}
	req.Header.Set("Accept", "application/json")
	for name, values := range r.header {
		req.Header[name] = values
	}
	res, err := s.server.Client().Transport.RoundTrip(req)
	s.must(err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	s.must(err)
	return response{res.StatusCode, res.Header, string(body)}
}

// want sends a request that must be answered with a status, and decodes the answer.
func (s *site) want(status int, r request) map[string]any {
	s.t.Helper()
	res := s.send(r)
	if res.status != status {
		s.t.Fatalf("%s %s as %q: %d %s, want %d", r.method, r.path, r.as, res.status, res.body, status)
	}
	return decoded(s.t, res)
}

func decoded(t testing.TB, res response) map[string]any {
	t.Helper()
	body := map[string]any{}
	if res.body != "" && strings.HasPrefix(res.header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal([]byte(res.body), &body); err != nil {
			t.Fatalf("%v in %s", err, res.body)
		}
	}
	return body
}

func loginBody(user, password string) string {
	return fmt.Sprintf(`{"auth": {"identity": {"methods": ["password"], "password": {"user":
		{"name": %q, "domain": {"name": "Default"}, "password": %q}}}}}`, user, password)
}

// token logs a user in, once.
func (s *site) token(user string) string {
	s.t.Helper()
	if t, known := s.tokens[user]; known {
		return t
	}
	res := s.send(request{method: "POST", path: "/identity/v3/auth/tokens", body: loginBody(user, user)})
	if res.status != http.StatusCreated {
		s.t.Fatalf("login of %s: %d %s", user, res.status, res.body)
	}
	s.tokens[user] = res.header.Get("X-Subject-Token")
	return s.tokens[user]
}

// dig follows keys and indexes into a decoded answer.
func dig(t testing.TB, value any, path ...any) any {
	t.Helper()
	for _, key := range path {
		switch k := key.(type) {
		case string:
			object, isObject := value.(map[string]any)
			v, there := object[k]
			if !isObject || !there {
				t.Fatalf("no %q in %v", k, value)
			}
			value = v
		case int:
			list, isList := value.([]any)
			if !isList || k >= len(list) {
				t.Fatalf("no item %d in %v", k, value)
			}
			value = list[k]
		}
	}
	return value
}

func text(t testing.TB, value any, path ...any) string {
	t.Helper()
	s, isText := dig(t, value, path...).(string)
	if !isText {
		t.Fatalf("%v of %v is no text", path, value)
	}
	return s
}

// addImage uploads a raw image of one sector.
func (s *site) addImage(as, name, visibility string) (id string) {
	s.t.Helper()
	body := fmt.Sprintf(`{"name": %q, "disk_format": "raw", "container_format": "bare", "visibility": %q}`, name, visibility)
	id = text(s.t, s.want(201, request{as: as, method: "POST", path: "/image/v2/images", body: body}), "id")
	s.want(204, request{as: as, method: "PUT", path: "/image/v2/images/" + id + "/file", body: strings.Repeat("image...", 64),
		header: http.Header{"Content-Type": {"application/octet-stream"}}})
	return id
}

func (s *site) addFlavor(id string) {
	s.t.Helper()
	body := fmt.Sprintf(`{"flavor": {"id": %q, "name": "m1.%s", "ram": 64, "vcpus": 1, "disk": 1}}`, id, id)
	s.want(200, request{as: admin, method: "POST", path: "/compute/v2.1/flavors", body: body})
}

// addServer creates a server and waits until it is built.
func (s *site) addServer(as, name, imageID, flavorID string) (id string) {
	s.t.Helper()
	body := fmt.Sprintf(`{"server": {"name": %q, "imageRef": %q, "flavorRef": %q, "networks": "none"}}`, name, imageID, flavorID)
	id = text(s.t, s.want(202, request{as: as, method: "POST", path: "/compute/v2.1/servers", version: "2.37", body: body}), "server", "id")
	s.settle(id)
	return id
}

func (s *site) settle(id string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	s.must(s.core.Wait(ctx, id))
}

// act sends a server's action and waits for its end.
func (s *site) act(as, id, body string) {
	s.t.Helper()
	s.want(202, request{as: as, method: "POST", path: "/compute/v2.1/servers/" + id + "/action", body: body})
	s.settle(id)
}

func (s *site) show(as, id, version string) map[string]any {
	s.t.Helper()
	return s.want(200, request{as: as, path: "/compute/v2.1/servers/" + id, version: version})["server"].(map[string]any)
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
