package api

import (
	"net/http"

	"compute-agent/compute"
)

// unlimited is what the API calls a quota that there is none of: the host's own size is the limit.
const unlimited = -1

// The limits that later microversions dropped with what they were about.
const (
	lastNetworkLimits     microversion = 35
	lastImageMetaLimit    microversion = 38
	lastPersonalityLimits microversion = 56
)

func (a *api) showLimits(c *call) (*answer, error) {
	q := newQuery(c, c.since(75), []string{"tenant_id", "reserved"})
	if q.err != nil {
		return nil, q.err
	}
	project := c.caller.ProjectID
	if other := q.text("tenant_id"); other != "" && other != project {
		if !c.caller.admin {
			return nil, faultf(http.StatusForbidden, "Policy doesn't allow the limits of another project to be seen.")
		}
		project = other
	}
	servers, err := a.Backend.Servers(c.Context())
	if err != nil {
		return nil, err
	}
	absolute := map[string]any{
		"maxTotalInstances": unlimited, "maxTotalCores": unlimited, "maxTotalRAMSize": unlimited,
		"maxTotalKeypairs": compute.KeypairQuota, "maxServerMeta": maxMetadata,
		"maxServerGroups": 0, "maxServerGroupMembers": 0, "totalServerGroupsUsed": 0,
	}
	addUsed(absolute, servers, project)
	if c.version <= lastNetworkLimits {
		for _, name := range []string{"maxTotalFloatingIps", "totalFloatingIpsUsed", "maxSecurityGroups", "totalSecurityGroupsUsed", "maxSecurityGroupRules"} {
			absolute[name] = 0
		}
	}
	if c.version <= lastImageMetaLimit {
		absolute["maxImageMeta"] = maxImageProperties
	}
	if c.version <= lastPersonalityLimits {
		absolute["maxPersonality"], absolute["maxPersonalitySize"] = 0, 0
	}
	return ok(map[string]any{"limits": map[string]any{"rate": []any{}, "absolute": absolute}})
}

func addUsed(absolute map[string]any, servers []compute.Server, project string) {
	count, cores, ram := 0, 0, 0
	for _, s := range servers {
		if s.ProjectID == project && s.VM != compute.Deleted {
			count, cores, ram = count+1, cores+s.Flavor.VCPUs, ram+s.Flavor.MemoryMiB
		}
	}
	absolute["totalInstancesUsed"], absolute["totalCoresUsed"], absolute["totalRAMUsed"] = count, cores, ram
}

func (a *api) showQuotas(c *call) (*answer, error) {
	project := c.PathValue("id")
	if !c.caller.mine(project) {
		return nil, faultf(http.StatusForbidden, "Policy doesn't allow the quotas of another project to be seen.")
	}
	quotas := map[string]any{
		"id": project, "instances": unlimited, "cores": unlimited, "ram": unlimited, "key_pairs": compute.KeypairQuota,
		"metadata_items": maxMetadata, "server_groups": 0, "server_group_members": 0,
	}
	if c.version <= lastNetworkLimits {
		for _, name := range []string{"fixed_ips", "floating_ips", "security_groups", "security_group_rules"} {
			quotas[name] = 0
		}
	}
	if c.version <= lastPersonalityLimits {
		for _, name := range []string{"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"} {
			quotas[name] = 0
		}
	}
	return ok(map[string]any{"quota_set": quotas})
}
