package compute

import (
	"context"
	"slices"

	"compute-agent/neutron"
)

// CreateSecurityGroup makes a group, whose members may reach everybody.
func (s *NetworkService) CreateSecurityGroup(ctx context.Context, g neutron.SecurityGroup) (neutron.SecurityGroup, error) {
	g.ID, g.Revision, g.Created = newID(), 1, s.now()
	g.Updated = g.Created
	g.Rules = neutron.EgressRules(newID, g.Created)
	err := s.change(ctx, func(tx Writer) error {
		if err := g.Check(); err != nil {
			return err
		}
		if _, err := s.defaultGroup(tx, g.ProjectID); err != nil {
			return err
		}
		if g.Name == neutron.DefaultGroup {
			return conflict("SecurityGroupDefaultAlreadyExists", "default security group already exists")
		}
		if err := s.within(tx, ResourceSecurityGroup, g.ProjectID); err != nil {
			return err
		}
		if err := s.withinRules(tx, g.ProjectID, len(g.Rules)); err != nil {
			return err
		}
		return tx.PutSecurityGroup(g)
	})
	return g, err
}

// withinRules checks a project's quota of rules before it gets some more.
func (s *NetworkService) withinRules(r Reader, projectID string, more int) error {
	if s.quotas.Rules < 0 {
		return nil
	}
	groups, err := r.SecurityGroupsOf(projectID)
	if err != nil {
		return err
	}
	has := 0
	for _, g := range groups {
		has += len(g.Rules)
	}
	if has+more > s.quotas.Rules {
		return conflict("OverQuota", "quota exceeded for resources: ['%s']: the project has %d of %d", ResourceRule, has, s.quotas.Rules)
	}
	return nil
}

// SecurityGroup returns one group with its rules.
func (s *NetworkService) SecurityGroup(ctx context.Context, id string) (neutron.SecurityGroup, error) {
	return show(ctx, s, func(r Reader) (neutron.SecurityGroup, error) { return groupOf(r, id) })
}

func groupOf(r Reader, id string) (neutron.SecurityGroup, error) {
	g, err := r.SecurityGroup(id)
	return g, missingRecord("SecurityGroupNotFound", "security group", id, err)
}

// SecurityGroups lists all groups, oldest first. The project's default one is made if it is not there; an empty project has none.
func (s *NetworkService) SecurityGroups(ctx context.Context, projectID string) (all []neutron.SecurityGroup, err error) {
	all, err = show(ctx, s, Reader.SecurityGroups)
	isDefault := func(g neutron.SecurityGroup) bool { return g.ProjectID == projectID && g.Name == neutron.DefaultGroup }
	if err != nil || projectID == "" || slices.ContainsFunc(all, isDefault) {
		return all, err
	}
	err = s.store.Update(context.WithoutCancel(ctx), func(tx Writer) error {
		if _, err := s.defaultGroup(tx, projectID); err != nil {
			return err
		}
		all, err = tx.SecurityGroups()
		return err
	})
	return all, err
}

// UpdateSecurityGroup changes a group's own words; its rules stay. ErrConflict for a new name of the default one, and for one that is in
// use and shall know connections no longer, or again.
func (s *NetworkService) UpdateSecurityGroup(ctx context.Context, id string, change func(*neutron.SecurityGroup) error) (g neutron.SecurityGroup, err error) {
	err = s.change(ctx, func(tx Writer) error {
		before, err := groupOf(tx, id)
		if err != nil {
			return err
		}
		g = before
		if err := change(&g); err != nil {
			return err
		}
		g.ID, g.ProjectID, g.Rules, g.Created = before.ID, before.ProjectID, before.Rules, before.Created
		g.Revision, g.Updated = before.Revision+1, s.now()
		if err := g.Check(); err != nil {
			return err
		}
		if g.Name != before.Name && (g.Name == neutron.DefaultGroup || before.Name == neutron.DefaultGroup) {
			return conflict("SecurityGroupCannotUpdateDefault", "the name of the default security group is its own, and stays")
		}
		if g.Stateless != before.Stateless {
			if err := groupUnused(tx, id); err != nil {
				return err
			}
		}
		return tx.PutSecurityGroup(g)
	})
	return g, err
}

func groupUnused(r Reader, id string) error {
	ports, err := r.PortsIn(id)
	if err == nil && len(ports) > 0 {
		return conflict("SecurityGroupInUse", "security group %s in use: ports are in it: %s", id, usersOf(ports))
	}
	return err
}

// DeleteSecurityGroup removes a group, and the rules of other groups that name it, as Neutron does. ErrConflict for a default one, and
// while ports are in it.
func (s *NetworkService) DeleteSecurityGroup(ctx context.Context, id string) error {
	return s.change(ctx, func(tx Writer) error {
		g, err := groupOf(tx, id)
		if err != nil {
			return err
		}
		if err := groupUnused(tx, id); err != nil {
			return err
		}
		if g.Name == neutron.DefaultGroup {
			return conflict("SecurityGroupCannotRemoveDefault", "the default security group cannot be removed")
		}
		if err := s.forgetGroup(tx, id); err != nil {
			return err
		}
		return tx.DeleteSecurityGroup(id)
	})
}

// forgetGroup removes the rules that name a group as their remote one.
func (s *NetworkService) forgetGroup(tx Writer, id string) error {
	groups, err := tx.SecurityGroups()
	if err != nil {
		return err
	}
	for _, g := range groups {
		left := slices.DeleteFunc(slices.Clone(g.Rules), func(r neutron.Rule) bool { return r.RemoteGroup == id })
		if len(left) == len(g.Rules) {
			continue
		}
		if err := s.putRules(tx, g, left); err != nil {
			return err
		}
	}
	return nil
}

func (s *NetworkService) putRules(tx Writer, g neutron.SecurityGroup, rules []neutron.Rule) error {
	g.Rules, g.Revision, g.Updated = rules, g.Revision+1, s.now()
	return tx.PutSecurityGroup(g)
}

// AddRule adds a rule to a group. ErrConflict if it lets through what another one does.
func (s *NetworkService) AddRule(ctx context.Context, groupID string, r neutron.Rule) (neutron.Rule, error) {
	r.ID, r.Revision, r.Created = newID(), 1, s.now()
	r.Updated = r.Created
	err := s.change(ctx, func(tx Writer) error {
		g, err := groupOf(tx, groupID)
		if err != nil {
			return err
		}
		if err := r.Check(); err != nil {
			return err
		}
		if r.RemoteGroup != "" {
			if _, err := groupOf(tx, r.RemoteGroup); err != nil {
				return err
			}
		}
		if err := s.withinRules(tx, g.ProjectID, 1); err != nil {
			return err
		}
		if err := g.Add(r); err != nil {
			return err
		}
		return s.putRules(tx, g, g.Rules)
	})
	return r, err
}

// RemoveRule removes a rule. What it let through is then cut.
func (s *NetworkService) RemoveRule(ctx context.Context, ruleID string) error {
	return s.change(ctx, func(tx Writer) error {
		groups, err := tx.SecurityGroups()
		if err != nil {
			return err
		}
		isIt := func(r neutron.Rule) bool { return r.ID == ruleID }
		for _, g := range groups {
			if slices.ContainsFunc(g.Rules, isIt) {
				return s.putRules(tx, g, slices.DeleteFunc(slices.Clone(g.Rules), isIt))
			}
		}
		return missingRecord("SecurityGroupRuleNotFound", "security group rule", ruleID, ErrNotFound)
	})
}
