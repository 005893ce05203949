package api_test

import "testing"

// Clients look a group up here before they give it to a server, in a version in which Nova still passed that on.
func TestSecurityGroupsAsNovaHasThem(t *testing.T) {
	s := newSite(t)
	own := s.want(200, request{as: bob, method: "GET", path: "/compute/v2.1/os-security-groups"})["security_groups"].([]any)
	group := own[0].(map[string]any)
	if len(own) != 1 || group["name"] != "default" {
		t.Fatalf("groups %v, want the project's default one", own)
	}
	path := "/compute/v2.1/os-security-groups/" + group["id"].(string)
	shown := s.want(200, request{as: bob, method: "GET", path: path})["security_group"].(map[string]any)
	if shown["id"] != group["id"] || len(shown["rules"].([]any)) != 2 {
		t.Errorf("group %v, want its two rules for ingress", shown)
	}
	s.want(404, request{as: admin, method: "GET", path: path})
	s.want(404, request{as: bob, method: "GET", path: "/compute/v2.1/os-security-groups", version: "2.36"})
}
