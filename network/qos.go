package network

import (
	"cmp"
	"errors"
	"fmt"
)

// QoS is what a port may send and get, as Neutron's QoS rules say. The zero QoS is no limit.
type QoS struct {
	// ToGuest is Neutron's ingress bandwidth limit: what is more waits, and is dropped when it would wait too long. FromGuest is the
	// egress one: what is more is dropped.
	ToGuest, FromGuest Rate
	// SetDSCP marks what the guest sends with DSCP, 0 to 63 (RFC 2474).
	SetDSCP bool
	DSCP    uint8
}

// Rate is a bandwidth limit. The zero Rate is none.
type Rate struct {
	Kbit      int // a second, of 1000 bits
	BurstKbit int // that may come at once; 0 for 80 % of a second's, as with Neutron
}

const (
	minKbit    = 10
	maxKbit    = 34_000_000 // what tc's policing can count
	maxBurst   = 8_000_000
	maxSeconds = 100 // of the rate, in a burst
)

func (q *QoS) validate() error {
	for _, r := range []struct {
		what string
		Rate
	}{{"to guest", q.ToGuest}, {"from guest", q.FromGuest}} {
		switch {
		case r.Kbit == 0 && r.BurstKbit != 0:
			return fmt.Errorf("qos: %s: a burst of %d kbit without a rate", r.what, r.BurstKbit)
		case r.Kbit != 0 && (r.Kbit < minKbit || r.Kbit > maxKbit):
			return fmt.Errorf("qos: %s: %d kbit/s is not from %d to %d", r.what, r.Kbit, minKbit, maxKbit)
		case r.BurstKbit < 0 || r.BurstKbit > min(maxBurst, maxSeconds*r.Kbit):
			return fmt.Errorf("qos: %s: a burst of %d kbit is not from 0 to %d, 100 seconds' worth or 8 Gbit", r.what, r.BurstKbit,
				min(maxBurst, maxSeconds*r.Kbit))
		}
	}
	if q.DSCP > 63 || !q.SetDSCP && q.DSCP != 0 {
		return errors.New("qos: dscp: it is from 0 to 63, and none unless it is set")
	}
	return nil
}

// complete is the QoS with the bursts that it leaves open, and none that is too small for a frame, which would never pass.
func (q QoS) complete(mtu int) QoS {
	q.ToGuest, q.FromGuest = q.ToGuest.complete(mtu), q.FromGuest.complete(mtu)
	return q
}

func (r Rate) complete(mtu int) Rate {
	if r.Kbit == 0 {
		return r
	}
	const header = 18 // of Ethernet, with a tag
	frame := (mtu + header + bytesPerKbit - 1) / bytesPerKbit
	r.BurstKbit = min(max(cmp.Or(r.BurstKbit, r.Kbit*8/10), frame), maxBurst)
	return r
}

const bytesPerKbit = 125

// is says whether two limits are the same to the kernel, which counts bursts in microseconds.
func (r Rate) is(other Rate) bool {
	tolerance := 1 + 2*r.Kbit/1_000_000 // of two microseconds
	d := r.BurstKbit - other.BurstKbit
	return r.Kbit == other.Kbit && -tolerance <= d && d <= tolerance
}

// String is the limit as kbit/s and the burst in kbit.
func (r Rate) String() string { return fmt.Sprintf("%d kbit/s burst %d kbit", r.Kbit, r.BurstKbit) }

// String is what of the QoS there is.
func (q QoS) String() string {
	out := ""
	if q.ToGuest.Kbit != 0 {
		out += " to guest " + q.ToGuest.String()
	}
	if q.FromGuest.Kbit != 0 {
		out += " from guest " + q.FromGuest.String()
	}
	if q.SetDSCP {
		out += fmt.Sprintf(" dscp %d", q.DSCP)
	}
	return out
}

// limit makes the QoS of a port's link what is wanted. It comes last: a port whose limit cannot be had is plugged in all the same, and
// reported.
func (d *differ) limit(w Link) {
	is, there := d.now.Links[w.Name]
	if !there || !w.owned() && !w.Guest {
		return
	}
	taken := w.QoS != (QoS{}) && d.switchedIn(w.Name)
	for _, c := range []struct {
		same, any bool
		op        Op
	}{
		{is.QoS.ToGuest.is(w.QoS.ToGuest), w.QoS.ToGuest.Kbit != 0, OpToGuest},
		{is.QoS.SetDSCP == w.QoS.SetDSCP && is.QoS.DSCP == w.QoS.DSCP, w.QoS.SetDSCP, OpDSCP},
		{is.QoS.FromGuest.is(w.QoS.FromGuest), w.QoS.FromGuest.Kbit != 0, OpFromGuest},
	} {
		if !c.same || c.any && taken {
			d.emit(Change{Op: c.op, Link: w.Name, New: w})
		}
	}
}
