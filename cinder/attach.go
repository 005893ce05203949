package cinder

import (
	"slices"
	"strings"
)

// attachable are the states whose place among each other the attachments decide.
var attachable = []Status{Available, Reserved, Attaching, InUse, Detaching}

// Settled is the status that a volume's attachments give it: that of what is under way, else in-use, else available. A status that has another
// reason, like extending or error, stays.
func (v Volume) Settled(attachments []Attachment) Status {
	if !slices.Contains(attachable, v.Status) {
		return v.Status
	}
	return attachedStatus(attachments)
}

func attachedStatus(attachments []Attachment) Status {
	settled := Available
	order := map[AttachmentStatus]int{AttachmentAttached: 1, AttachmentReserved: 2, AttachmentAttaching: 3, AttachmentDetaching: 4}
	most := 0
	for _, a := range attachments {
		if order[a.Status] > most {
			most = order[a.Status]
			settled = []Status{InUse, Reserved, Attaching, Detaching}[most-1]
		}
	}
	return settled
}

// CheckReserve says whether a server may get the volume; the empty serverID is a host without one. Several may where the volume is multiattach.
func (v Volume) CheckReserve(attachments []Attachment, serverID string) error {
	for _, a := range attachments {
		if serverID != "" && a.ServerID == serverID {
			return invalidVolume(v.ID, "it is attached to server %s already", serverID)
		}
	}
	allowed := []Status{Available}
	if v.Multiattach {
		allowed = attachable
	}
	if err := v.checkStatus("reserve", allowed...); err != nil {
		if len(attachments) > 0 && !v.Multiattach {
			return invalidVolume(v.ID, "status must be available to reserve, but the current status is %s: it is attached to %s, and it is not multiattach", v.Status, owners(attachments))
		}
		return err
	}
	if len(attachments) > 0 && !v.Multiattach {
		return invalidVolume(v.ID, "it is attached to %s, and it is not multiattach", owners(attachments))
	}
	return nil
}

// CheckDetach says whether an attachment may be taken away from its server: it must be attached, and nothing else may be under way.
func (v Volume) CheckDetach(a Attachment) error {
	if a.Status != AttachmentAttached {
		return invalidVolume(v.ID, "attachment %s must be attached to detach it, but it is %s", a.ID, a.Status)
	}
	// A volume whose extension failed is as whole as it was.
	allowed := []Status{InUse, ErrorExtending}
	if v.Multiattach {
		allowed = append(slices.Clone(attachable), ErrorExtending)
	}
	return v.checkStatus("detach", allowed...)
}

// checkStatus refuses a command on a volume that is in none of the states.
func (v Volume) checkStatus(command string, allowed ...Status) error {
	if slices.Contains(allowed, v.Status) {
		return nil
	}
	words := make([]string, len(allowed))
	for i, s := range allowed {
		words[i] = string(s)
	}
	return invalidVolume(v.ID, "status must be %s to %s, but the current status is %s", strings.Join(words, " or "), command, v.Status)
}

func invalidVolume(id, rule string, args ...any) error {
	return Refuse("InvalidVolume", Invalid, "", "", "volume "+id+": "+rule, args...)
}

// owners names who has a volume.
func owners(attachments []Attachment) string {
	var names []string
	for _, a := range attachments {
		if a.ServerID == "" {
			names = append(names, "host "+a.Host)
		} else {
			names = append(names, "server "+a.ServerID)
		}
	}
	return strings.Join(names, ", ")
}

// Rested is the status that a volume's attachments give it when some other work on it is done.
func (v Volume) Rested(attachments []Attachment) Status { return attachedStatus(attachments) }
