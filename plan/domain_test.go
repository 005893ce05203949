package plan

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"compute-agent/plan/domaindiff"
)

// domainVector is a question with what Nova made of it in two of its releases, Zed and a master of 2026. Either is right;
// one that a release could not answer is empty.
type domainVector struct {
	Case   json.RawMessage `json:"case"`
	Zed    string          `json:"zed"`
	Master string          `json:"master"`
	name   string
	error  *Refusal
}

// readDomainVectors reads domain_xml, which was recorded for this project, and domain_more: further questions, one for each
// value of each key that Nova's driver looks at and some combinations, put to the unmodified driver of both releases on the
// fixtures of Nova's own tests. Cases on which both die with an error of Python's are left out.
func readDomainVectors(t *testing.T) (list []domainVector) {
	lines := slices.Concat(readLines(t, "testdata/domain_xml.jsonl.gz"), readLines(t, "testdata/domain_more.jsonl.gz"))
	for _, line := range lines {
		var v domainVector
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		var named struct {
			Name  string   `json:"name"`
			Error *Refusal `json:"error"`
		}
		if err := json.Unmarshal(v.Case, &named); err != nil {
			t.Fatal(err)
		}
		v.name, v.error = named.Name, named.Error
		list = append(list, v)
	}
	return list
}

// TestDomainVectors holds the domains against those that Nova made of the same questions, section by section. With
// DOMAIN_VECTORS_OUT in the environment they are written there.
func TestDomainVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/domain_differences.yaml")
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := domaindiff.ReadAccepted(text)
	if err != nil {
		t.Fatal(err)
	}
	used := make([]bool, len(accepted))
	vectors := readDomainVectors(t)
	right := 0
	for _, v := range vectors {
		ok := t.Run(v.name, func(t *testing.T) {
			for _, i := range v.check(t, accepted) {
				used[i] = true
			}
		})
		if ok {
			right++
		}
	}
	t.Logf("%d of %d domain vectors", right, len(vectors))
	if len(vectors) == 0 {
		t.Error("no vectors were read")
	}
	for i, a := range accepted {
		if !used[i] {
			t.Errorf("accepted difference %d (%s: %s) is none any more: no case has it", i+1, a.Section, a.Why)
		}
	}
}

// TestDomainMachines: the capabilities of a host say which machine types it has; without them a name of QEMU's form is
// good.
func TestDomainMachines(t *testing.T) {
	const caps = `<capabilities><guest><os_type>hvm</os_type><arch name="x86_64"><machine>pc-q35-7.2</machine>` +
		`<machine canonical="pc-q35-7.2">q35</machine><domain type="kvm"/></arch></guest></capabilities>`
	for _, c := range []struct {
		machine, capabilities string
		ok                    bool
	}{{"pc-q35-9.1", "", true}, {"pc-q35-9.1", caps, false}, {"pc-q35-7.2", caps, true}, {"q35", caps, true}, {"pc-foo-99", "", false}, {"q35", "<capabilities", false}} {
		question := `{"input": {"flavor": {"vcpus": 1, "memory_mb": 64}, "host": {"qemu_version": "9.1.0", "libvirt_version": "10.9.0"},
			"instance": {"uuid": "cb6d28b6-2f1a-4d2c-a2b3-1f0c6ae6a3f4", "id": 7}, "image": {"properties": {"hw_machine_type": "` + c.machine + `"}}}}`
		xml, err := Domain([]byte(question), c.capabilities)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.machine, err)
		}
		if c.ok && !strings.Contains(xml, "instance-00000007") {
			t.Errorf("%s: %s", c.machine, xml)
		}
	}
}

// TestDomainDecides takes away what the questions say has been decided before: where the drives are, on which cells the
// guest is, its name. The same comes out, but for which of several CPUs that are as good as each other a vCPU is pinned
// to, which is as a set is walked in Python.
func TestDomainDecides(t *testing.T) {
	compared := 0
	for _, v := range readDomainVectors(t) {
		told, err := Domain(v.Case, "")
		if err != nil {
			continue
		}
		var question map[string]json.RawMessage
		if err := json.Unmarshal(v.Case, &question); err != nil {
			t.Fatal(err)
		}
		delete(question, "derived")
		rest, err := json.Marshal(question)
		if err != nil {
			t.Fatal(err)
		}
		decided, err := Domain(rest, "")
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		for _, section := range domaindiff.Differences(parseDomain(t, told), parseDomain(t, decided)) {
			if section != "cputune" {
				t.Errorf("%s: %s", v.name, domaindiff.Describe(section, parseDomain(t, told), parseDomain(t, decided)))
			}
		}
		compared++
	}
	if compared < 500 {
		t.Errorf("%d questions were compared", compared)
	}
}

func (v *domainVector) check(t *testing.T, accepted []domaindiff.Accepted) (used []int) {
	xml, err := Domain(v.Case, "")
	var refused *Refusal
	switch {
	case errors.As(err, &refused) && v.error != nil && refused.Class == v.error.Class:
		return nil
	case errors.As(err, &refused):
		if i := domaindiff.RefusalOf(v.name, refused.Class, accepted); i >= 0 {
			return []int{i}
		}
	}
	if err != nil || v.Zed+v.Master == "" {
		t.Errorf("got %v, want %v", err, v.error)
		return nil
	}
	if folder := os.Getenv("DOMAIN_VECTORS_OUT"); folder != "" {
		if err := os.WriteFile(filepath.Join(folder, v.name+".xml"), []byte(xml), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := parseDomain(t, xml)
	var nova []domaindiff.Domain
	for _, recorded := range []string{v.Master, v.Zed} {
		if recorded != "" {
			nova = append(nova, parseDomain(t, recorded))
		}
	}
	differ, used := domaindiff.Judge(v.name, got, nova, accepted)
	for _, section := range differ {
		t.Error(domaindiff.Describe(section, nova[0], got))
	}
	return used
}
