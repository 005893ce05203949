package plan

import (
	"os"
	"testing"

	"go.yaml.in/yaml/v3"
)

func readFirewallDifferences(t *testing.T) []*firewallDifference {
	t.Helper()
	text, err := os.ReadFile("testdata/firewall_differences.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list []*firewallDifference
	if err := yaml.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.Reason == "" {
			t.Errorf("difference %q has no reason", d.Name)
		}
	}
	return list
}
