package domaindiff

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Accepted is a difference from Nova that is meant: where Nova writes one element into a domain, this project writes
// another, or refuses the guest.
type Accepted struct {
	// Cases are the names of the recorded ones that it holds for; none for all.
	Cases []string `yaml:"cases"`
	// Refused is the class of error with which this project refuses what Nova defines; the rest is then empty but Why.
	Refused string `yaml:"refused"`
	// Section is where it holds: features, devices/disk.
	Section string `yaml:"section"`
	// Nova and Ours are elements as XML, without what Parse takes for said. Nova is found at any depth of the section. Ours is empty where this project
	// writes none, Nova where only this project writes one; In then names the elements that it is in, and is empty for the
	// section itself.
	Nova string `yaml:"nova"`
	Ours string `yaml:"ours"`
	In   string `yaml:"in"`
	// Why says why ours is right.
	Why string `yaml:"why"`

	nova, ours *Element
}

// ReadAccepted reads a list of accepted differences in YAML.
func ReadAccepted(text []byte) ([]Accepted, error) {
	var list []Accepted
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&list); err != nil {
		return nil, err
	}
	for i := range list {
		if err := list[i].parse(); err != nil {
			return nil, fmt.Errorf("accepted difference %d, in %s: %w", i+1, list[i].Section, err)
		}
	}
	return list, nil
}

func (a *Accepted) parse() (err error) {
	switch {
	case a.Why == "":
		return errors.New("why must be said")
	case a.Refused != "":
		if len(a.Cases) == 0 || a.Section+a.Nova+a.Ours+a.In != "" {
			return errors.New("a refusal is of named cases, and of no section")
		}
		return nil
	case a.Section == "":
		return errors.New("section must be said")
	case a.Nova == "" && a.Ours == "":
		return errors.New("neither nova nor ours")
	case a.Nova != "" && a.In != "":
		return errors.New("in is only for what Nova does not write")
	}
	if a.Nova != "" {
		if a.nova, err = ParseElement(a.Nova); err != nil {
			return err
		}
	}
	if a.Ours != "" {
		a.ours, err = ParseElement(a.Ours)
	}
	return err
}

// holds says whether the difference is accepted for a case.
func (a *Accepted) holds(name string) bool {
	return len(a.Cases) == 0 || slices.Contains(a.Cases, name)
}

// RefusalOf finds the accepted refusal of a case with an error's class; -1 for none.
func RefusalOf(name, class string, list []Accepted) int {
	return slices.IndexFunc(list, func(a Accepted) bool { return a.Refused == class && class != "" && a.holds(name) })
}

// apply makes of Nova's section what this project is to write, and says whether that is anything else.
func (a *Accepted) apply(section []*Element) ([]*Element, bool) {
	if a.nova == nil && a.In == "" {
		return append(section, a.ours), true
	}
	changed := false
	section = a.replace(section, &changed)
	return section, changed
}

func (a *Accepted) replace(list []*Element, changed *bool) []*Element {
	var out []*Element
	for _, e := range list {
		if a.nova != nil && e.String() == a.nova.String() {
			*changed = true
			if a.ours != nil {
				out = append(out, a.ours)
			}
			continue
		}
		e.Children = a.replace(e.Children, changed)
		if a.nova == nil && e.Name == a.In {
			*changed = true
			e.Children = append(e.Children, a.ours)
		}
		out = append(out, e)
	}
	return out
}

// Judge compares a case's domain with Nova's recorded ones, of which each is as right as the others, section by section. It
// gives the names of the sections that are like none of them, and the numbers of the accepted differences without which
// there were more.
func Judge(named string, got Domain, nova []Domain, list []Accepted) (differ []string, used []int) {
	for _, name := range sections(append(slices.Clone(nova), got)...) {
		if equalsAny(name, got, nova) {
			continue
		}
		uses, ok := equalsAccepted(named, name, got, nova, list)
		if !ok {
			differ = append(differ, name)
		}
		used = append(used, uses...)
	}
	return differ, used
}

func equalsAny(name string, got Domain, nova []Domain) bool {
	return slices.ContainsFunc(nova, func(n Domain) bool { return slices.Equal(texts(n[name]), texts(got[name])) })
}

func equalsAccepted(named, name string, got Domain, nova []Domain, list []Accepted) ([]int, bool) {
	for _, n := range nova {
		var section []*Element
		for _, e := range n[name] {
			section = append(section, e.clone())
		}
		var used []int
		for i := range list {
			if list[i].Section != name || !list[i].holds(named) {
				continue
			}
			var changed bool
			if section, changed = list[i].apply(section); changed {
				used = append(used, i)
			}
		}
		if slices.Equal(texts(section), texts(got[name])) {
			return used, true
		}
	}
	return nil, false
}

// Describe shows a section in two domains, for people.
func Describe(name string, nova, got Domain) string {
	return fmt.Sprintf("section %s\n  nova: %v\n  got:  %v", name, texts(nova[name]), texts(got[name]))
}
