package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"compute-agent/compute"
)

// Every route's schema exists, and every schema has a route or an action.
func TestSchemasAreUsed(t *testing.T) {
	all, err := loadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{"image_patch": true}
	a := &api{}
	for _, s := range []service{a.identityService(), a.imageService(), a.computeService(), a.networkService(), a.volumeService()} {
		for _, r := range s.routes {
			if r.schema != "" {
				used[r.schema] = true
			}
			if needsBody := strings.HasPrefix(r.pattern, "POST ") && r.schema == ""; needsBody {
				t.Errorf("%s reads a body without a schema", r.pattern)
			}
		}
	}
	for _, act := range actions {
		used[act.schema] = true
	}
	for _, act := range volumeActions {
		used[act.schema] = true
	}
	for _, act := range snapshotActions {
		used[act.schema] = true
	}
	for _, act := range volumeTypeActions {
		used[act.schema] = true
	}
	delete(used, "") // of actions without arguments
	for name := range used {
		if !all.names[name] {
			t.Errorf("no schema %s", name)
		}
	}
	for name := range all.names {
		if !used[name] {
			t.Errorf("schema %s is not used", name)
		}
	}
}

// An agent compiles a schema when it needs it, so whether all compile in each of their forms is asked here.
func TestSchemasCompile(t *testing.T) {
	all, err := loadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	for name := range all.names {
		doc, err := readWhole(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range formsOf(doc) {
			if _, err := all.at(name, form.since); err != nil {
				t.Error(err)
			}
		}
	}
	if len(all.forms) != len(all.names) {
		t.Errorf("%d of %d schemas compiled", len(all.forms), len(all.names))
	}
}

// The form of a schema in a microversion is the newest one that is not later.
func TestSchemaForms(t *testing.T) {
	all, err := loadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	const server = `{"server": {"name": "x", "imageRef": "", "flavorRef": "1", "networks": %s%s}}`
	for _, c := range []struct {
		version    microversion
		networks   string
		field      string
		acceptable bool
	}{
		{1, `[]`, ``, true},
		{1, `"none"`, ``, false},
		{37, `"none"`, ``, true},
		{37, `[]`, ``, true},
		{37, `"some"`, ``, false},
		{18, `[]`, `"description": "x"`, false},
		{19, `[]`, `"description": "x"`, true},
		{56, `[]`, `"personality": []`, true},
		{57, `[]`, `"personality": []`, false},
		{73, `[]`, `"host": "h"`, false},
		{74, `[]`, `"host": "h"`, true},
	} {
		field := c.field
		if field != "" {
			field = ", " + field
		}
		value, err := parseJSON(fmt.Appendf(nil, server, c.networks, field))
		if err != nil {
			t.Fatal(err)
		}
		if err := all.check("server_create", c.version, value); (err == nil) != c.acceptable {
			t.Errorf("%d networks %s %s: %v", c.version, c.networks, c.field, err)
		}
	}
}

// Nova's words for a server's state (nova.api.openstack.common).
func TestServerStatus(t *testing.T) {
	for _, c := range []struct {
		vm   compute.VMState
		task compute.TaskState
		want string
	}{
		{compute.Building, compute.TaskSpawning, "BUILD"},
		{compute.Active, compute.TaskNone, "ACTIVE"},
		{compute.Active, compute.TaskPoweringOff, "ACTIVE"},
		{compute.Active, compute.TaskRebooting, "REBOOT"},
		{compute.Active, compute.TaskRebootStarted, "REBOOT"},
		{compute.Active, compute.TaskRebootingHard, "HARD_REBOOT"},
		{compute.Active, compute.TaskRebootStartedHard, "HARD_REBOOT"},
		{compute.Active, compute.TaskDeleting, "ACTIVE"},
		{compute.Stopped, compute.TaskNone, "SHUTOFF"},
		{compute.Stopped, compute.TaskPoweringOn, "SHUTOFF"},
		{compute.Paused, compute.TaskNone, "PAUSED"},
		{compute.Suspended, compute.TaskNone, "SUSPENDED"},
		{compute.Rescued, compute.TaskNone, "RESCUE"},
		{compute.Resized, compute.TaskNone, "VERIFY_RESIZE"},
		{compute.SoftDeleted, compute.TaskNone, "SOFT_DELETED"},
		{compute.Deleted, compute.TaskNone, "DELETED"},
		{compute.Error, compute.TaskDeleting, "ERROR"},
		{compute.Shelved, compute.TaskNone, "SHELVED"},
		{compute.ShelvedOffloaded, compute.TaskNone, "SHELVED_OFFLOADED"},
	} {
		got := serverStatus(c.vm, c.task)
		if got != c.want {
			t.Errorf("%s, %q: %s, want %s", c.vm, c.task, got, c.want)
		}
		if !slices.Contains(knownStatuses, got) {
			t.Errorf("%s cannot be filtered by", got)
		}
	}
}

// The page of a list holds what follows its marker.
func TestCut(t *testing.T) {
	items := []string{"a", "b", "c"}
	for _, c := range []struct {
		page page
		want string
	}{
		{page{limit: 10}, "[a b c] false"},
		{page{limit: 3}, "[a b c] false"},
		{page{limit: 2}, "[a b] true"},
		{page{limit: 0}, "[] true"},
		{page{limit: 1, marker: "b"}, "[c] false"},
		{page{limit: 1, marker: "c"}, "[] false"},
	} {
		part, more, err := cut(items, c.page, func(s string) string { return s })
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(part, more); got != c.want {
			t.Errorf("%+v: %s, want %s", c.page, got, c.want)
		}
	}
}

// A guest's output cannot command the terminal that shows it.
func TestWithoutControls(t *testing.T) {
	if got := withoutControls("a\x1b[31mb\r\n\tc\x00\x7f\u009b2Jd"); got != "a[31mb\r\n\tc2Jd" {
		t.Errorf("%q", got)
	}
}
