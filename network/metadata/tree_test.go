package metadata

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// recording is what Nova's InstanceMetadata answered, and the documents that it had for the config drive of the same server.
type recording struct {
	Name, Address string
	Files         map[string]string
	Answers       map[string]struct{ Type, Body string } // by path; empty for one that is not there
}

func recordings(t testing.TB) (all []recording) {
	data, err := os.ReadFile("testdata/nova_lookup.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func (r recording) documents() Documents {
	d := Documents{Files: map[string][]byte{}}
	for name, body := range r.Files {
		d.Files[name] = []byte(body)
	}
	return d
}

// TestAnswersAreNovas asks for every path that Nova was asked for.
func TestAnswersAreNovas(t *testing.T) {
	for _, r := range recordings(t) {
		docs, addr := r.documents(), netip.MustParseAddr(r.Address)
		for path, want := range r.Answers {
			got, ok := docs.find(path, addr)
			kind, _, _ := strings.Cut(got.kind, ";")
			if ok != (want.Type != "") || kind != want.Type || string(got.body) != want.Body {
				t.Errorf("%s: %q: %v %s %q, Nova %s %q", r.Name, path, ok, kind, got.body, want.Type, want.Body)
			}
		}
		if len(r.Answers) < 500 {
			t.Errorf("%s: only %d paths", r.Name, len(r.Answers))
		}
	}
}

// TestFindWithoutDocuments has paths of a guest whose documents are missing or no JSON.
func TestFindWithoutDocuments(t *testing.T) {
	for _, docs := range []Documents{{}, {Files: map[string][]byte{"ec2/latest/meta-data.json": []byte("[1"), "openstack": nil, "openstack/latest/a/b": nil}}} {
		for _, path := range []string{"/latest/meta-data/ami-id", "/openstack/latest", "/openstack/latest/a/b", "/latest/user-data", "/openstack/latest/password"} {
			if got, ok := docs.find(path, netip.Addr{}); ok {
				t.Errorf("%s: %q", path, got.body)
			}
		}
	}
}

// FuzzFind sees that a path leads to one of the documents, to a part of one, or to nothing.
func FuzzFind(f *testing.F) {
	r := recordings(f)[0]
	docs, addr := r.documents(), netip.MustParseAddr(r.Address)
	for path := range r.Answers {
		f.Add(path)
	}
	for _, path := range []string{"/latest/meta-data/public-keys/0/openssh-key/x", "/latest/meta-data/security-groups/0", "/openstack/latest/content", "\x00", "/%2e%2e/"} {
		f.Add(path)
	}
	var all strings.Builder
	for _, body := range r.Files {
		all.WriteString(body)
	}
	for path, a := range r.Answers {
		all.WriteString(path + a.Body)
	}
	known := all.String()
	f.Fuzz(func(t *testing.T, path string) {
		got, ok := docs.find(path, addr)
		if !ok && (got.body != nil || got.kind != "") {
			t.Errorf("%q: not there, and %q", path, got.body)
		}
		if ok && !strings.Contains(known, string(got.body)) {
			t.Errorf("%q: %q is in no document", path, got.body)
		}
		slash := "/" + path + "/"
		if again, is := docs.find(slash, addr); is != ok || string(again.body) != string(got.body) {
			t.Errorf("%q: %v %q, with slashes %v %q", path, ok, got.body, is, again.body)
		}
	})
}
