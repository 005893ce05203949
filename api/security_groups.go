package api

import (
	"compute-agent/compute"
	"strings"

	"compute-agent/network/firewall"
	"compute-agent/neutron"
)

var groupResource = &resource{
	name: "security_group", plural: "security_groups", path: "security-groups",
	class: "SecurityGroupNotFound", missing: "Security group %s does not exist",
	attributes: withStandard(map[string]trait{"stateful": settable, "shared": 0, "security_group_rules": compound}),
	list:       (*records).groupViews,
	show: func(r *records, id string) (view, error) {
		g, err := r.api.Backend.SecurityGroup(r.ctx(), id)
		return viewOf(g, err, groupView)
	},
	create: (*records).createGroup,
	update: (*records).updateGroup,
	remove: func(r *records, id string) error { return r.api.Backend.DeleteSecurityGroup(r.ctx(), id) },
	tag: func(r *records, id string, change func(*[]string)) error {
		_, err := r.api.Backend.UpdateSecurityGroup(r.ctx(), id, func(g *neutron.SecurityGroup) error { change(&g.Tags); return nil })
		return err
	},
}

var ruleResource = &resource{
	name: "security_group_rule", plural: "security_group_rules", path: "security-group-rules",
	class: "SecurityGroupRuleNotFound", missing: "Security group rule %s does not exist",
	attributes: map[string]trait{
		"id": 0, "project_id": creatable, "tenant_id": creatable, "description": creatable, "security_group_id": creatable,
		"direction": creatable, "ethertype": creatable, "protocol": creatable, "port_range_min": creatable, "port_range_max": creatable,
		"remote_ip_prefix": creatable, "remote_group_id": creatable, "normalized_cidr": compound,
		"revision_number": 0, "created_at": 0, "updated_at": 0, "tags": compound,
	},
	required: []string{"security_group_id", "direction"},
	list:     (*records).ruleViews,
	show:     (*records).showRule,
	create:   (*records).createRule,
	remove:   func(r *records, id string) error { return r.api.Backend.RemoveRule(r.ctx(), id) },
}

func (r *records) groupViews() ([]view, error) {
	all, err := r.api.Backend.SecurityGroups(r.ctx(), r.caller.ProjectID)
	return viewsOf(all, err, groupView)
}

func groupView(g neutron.SecurityGroup) view {
	return standard{g.ID, g.ProjectID, g.Description, g.Tags, g.Revision, g.Created, g.Updated}.add(view{
		"name": g.Name, "stateful": !g.Stateless, "shared": false,
		"security_group_rules": listOf(g.Rules, func(rule neutron.Rule) view { return ruleView(g, rule) }),
	})
}

func ruleView(g neutron.SecurityGroup, rule neutron.Rule) view {
	v := standard{rule.ID, g.ProjectID, rule.Description, nil, rule.Revision, rule.Created, rule.Updated}.add(view{
		"security_group_id": g.ID, "direction": string(rule.Direction), "ethertype": string(rule.Ethertype), "protocol": orNull(rule.Protocol),
		"port_range_min": numberOrNull(rule.PortMin), "port_range_max": numberOrNull(rule.PortMax),
		"remote_ip_prefix": nil, "normalized_cidr": nil, "remote_group_id": orNull(rule.RemoteGroup),
	})
	if rule.Remote.IsValid() {
		v["remote_ip_prefix"], v["normalized_cidr"] = rule.Remote.String(), rule.Remote.Masked().String()
	}
	return v
}

func numberOrNull(n *int) any {
	if n == nil {
		return nil
	}
	return *n
}

type groupBody struct {
	Name        optional[string]  `json:"name"`
	Description optional[string]  `json:"description"`
	ProjectID   string            `json:"project_id"`
	Stateful    optional[boolean] `json:"stateful"`
}

func (b groupBody) change(g *neutron.SecurityGroup) {
	b.Name.set(&g.Name)
	b.Description.set(&g.Description)
	g.Stateless = !orBool(b.Stateful, !g.Stateless)
}

func (r *records) createGroup(in item) (view, error) {
	var b groupBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	g := neutron.SecurityGroup{ProjectID: b.ProjectID}
	b.change(&g)
	made, err := r.api.Backend.CreateSecurityGroup(r.ctx(), g)
	return viewOf(made, err, groupView)
}

func (r *records) updateGroup(id string, in item) (view, error) {
	var b groupBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	g, err := r.api.Backend.UpdateSecurityGroup(r.ctx(), id, func(g *neutron.SecurityGroup) error { b.change(g); return nil })
	return viewOf(g, err, groupView)
}

func (r *records) ruleViews() ([]view, error) {
	all, err := r.api.Backend.SecurityGroups(r.ctx(), r.caller.ProjectID)
	views := []view{}
	for _, g := range all {
		for _, rule := range g.Rules {
			views = append(views, ruleView(g, rule))
		}
	}
	return views, err
}

func (r *records) showRule(id string) (view, error) {
	all, err := r.ruleViews()
	for _, v := range all {
		if v["id"] == id {
			return v, err
		}
	}
	if err == nil {
		err = compute.ErrNotFound
	}
	return nil, err
}

type ruleBody struct {
	GroupID     string             `json:"security_group_id"`
	Description string             `json:"description"`
	Direction   firewall.Direction `json:"direction"`
	Ethertype   string             `json:"ethertype"`
	Protocol    text               `json:"protocol"`
	PortMin     *integer           `json:"port_range_min"`
	PortMax     *integer           `json:"port_range_max"`
	Remote      cidr               `json:"remote_ip_prefix"`
	RemoteGroup string             `json:"remote_group_id"`
}

// rule translates what was asked. All words for any protocol are none.
func (b ruleBody) rule() neutron.Rule {
	rule := neutron.Rule{
		Description: b.Description, Direction: b.Direction, Ethertype: firewall.IPv4, Protocol: strings.ToLower(string(b.Protocol)),
		PortMin: (*int)(b.PortMin), PortMax: (*int)(b.PortMax), Remote: b.Remote.Prefix, RemoteGroup: b.RemoteGroup,
	}
	if strings.EqualFold(b.Ethertype, string(firewall.IPv6)) {
		rule.Ethertype = firewall.IPv6
	}
	if rule.Protocol == "any" || rule.Protocol == "0" || rule.Protocol == "-1" {
		rule.Protocol = ""
	}
	return rule
}

func (r *records) createRule(in item) (view, error) {
	var b ruleBody
	if err := in.decode(&b); err != nil {
		return nil, err
	}
	for _, id := range notEmpty([]string{b.GroupID, b.RemoteGroup}) {
		if _, err := r.find(groupResource, id); err != nil {
			return nil, err
		}
	}
	rule, err := r.api.Backend.AddRule(r.ctx(), b.GroupID, b.rule())
	if err != nil {
		return nil, err
	}
	g, err := r.api.Backend.SecurityGroup(r.ctx(), b.GroupID)
	return viewOf(rule, err, func(rule neutron.Rule) view { return ruleView(g, rule) })
}
