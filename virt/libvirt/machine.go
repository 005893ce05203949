package libvirt

import (
	"context"
	"fmt"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// Machine implements virt.MachineTeller. libvirt has put the canonical name into the domain when it was defined.
func (d *Driver) Machine(ctx context.Context, id string) (string, error) {
	result := make(chan string, 1)
	err := d.run(ctx, "read machine type of guest", id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.domain(ctx, id, func(dom *lv.Domain) error {
			domain, err := domainOf(dom)
			if err == nil && (domain.OS == nil || domain.OS.Type == nil) {
				err = fmt.Errorf("the domain has no machine type")
			}
			if err == nil {
				result <- domain.OS.Type.Machine
			}
			return err
		})
	})
	if err != nil {
		return "", err
	}
	return <-result, nil
}

// domainOf reads a domain.
func domainOf(dom *lv.Domain) (domain libvirtxml.Domain, err error) {
	text, err := dom.GetXMLDesc(0)
	if err != nil {
		return domain, err
	}
	if err := domain.Unmarshal(text); err != nil {
		return domain, fmt.Errorf("parse domain: %w", err)
	}
	return domain, nil
}
