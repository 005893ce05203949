package console

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
)

// The part of RFB (RFC 6143, 7.1; VeNCrypt as the rfbproto project describes it) in which both sides agree on security. It is all of RFB that is known here:
// what follows is passed on as it is.
const (
	rfbVersion = "RFB 003.008\n" // the only one of QEMU and noVNC

	rfbTypeNone     = 1
	rfbTypeVNC      = 2
	rfbTypeVeNCrypt = 19

	vencryptX509None = 260
	vencryptX509VNC  = 261

	maxRFBReason = 1024
)

// rfbOffer is the security type that the proxy offers to a client in the place of the guest; rfbNothing if the guest makes its own offers.
type rfbOffer byte

const rfbNothing rfbOffer = 0

// rfbGuest agrees on security with a guest, by the first scheme that the guest has too. What it returns is to be used from then on: what follows is the client's
// first message, or, if the guest asks for a password, its challenge, which is the client's to answer. secure begins TLS.
func rfbGuest(conn net.Conn, schemes []string, secure func() (net.Conn, error)) (net.Conn, rfbOffer, error) {
	if err := readVersion(conn, "guest"); err != nil {
		return nil, rfbNothing, err
	}
	if _, err := io.WriteString(conn, rfbVersion); err != nil {
		return nil, rfbNothing, err
	}
	types, err := rfbTypes(conn)
	if err != nil {
		return nil, rfbNothing, err
	}
	for _, scheme := range schemes {
		switch {
		case scheme == SchemeNone && slices.Contains(types, rfbTypeNone):
			if _, err := conn.Write([]byte{rfbTypeNone}); err != nil {
				return nil, rfbNothing, err
			}
			return conn, rfbTypeNone, rfbResult(conn)
		case scheme == SchemeVeNCrypt && slices.Contains(types, rfbTypeVeNCrypt):
			offer, err := vencrypt(conn)
			if err != nil {
				return nil, rfbNothing, err
			}
			secured, err := secure()
			if err == nil && offer == rfbTypeNone {
				err = rfbResult(secured) // by TLS 1.3 it is only here that a guest refuses the proxy's certificate
			}
			return secured, offer, err
		}
	}
	return nil, rfbNothing, fmt.Errorf("the guest has security types %d, none of which is of the schemes %q", types, schemes)
}

// readVersion reads the version of a guest or client, which must be the one.
func readVersion(r io.Reader, who string) error {
	var version [len(rfbVersion)]byte
	if _, err := io.ReadFull(r, version[:]); err != nil {
		return fmt.Errorf("version of the %s: %w", who, err)
	}
	if string(version[:]) != rfbVersion {
		return fmt.Errorf("the %s speaks %q, not %q", who, version, rfbVersion)
	}
	return nil
}

// rfbTypes reads the security types that a guest offers, or why it offers none.
func rfbTypes(r io.Reader) ([]byte, error) {
	count, err := readByte(r)
	if err != nil {
		return nil, fmt.Errorf("security types: %w", err)
	}
	if count == 0 {
		return nil, rfbReason(r)
	}
	types := make([]byte, count)
	if _, err := io.ReadFull(r, types); err != nil {
		return nil, fmt.Errorf("security types: %w", err)
	}
	return types, nil
}

// rfbResult reads whether a guest lets the proxy in.
func rfbResult(r io.Reader) error {
	switch result, err := readUint32(r); {
	case err != nil:
		return fmt.Errorf("security result: %w", err)
	case result != 0:
		return rfbReason(r)
	}
	return nil
}

// rfbReason reads why a guest refuses, as an error.
func rfbReason(r io.Reader) error {
	length, err := readUint32(r)
	if err != nil || length > maxRFBReason {
		return errors.New("the guest refuses, without a reason that can be read")
	}
	reason := make([]byte, length)
	if _, err := io.ReadFull(r, reason); err != nil {
		return errors.New("the guest refuses, without a whole reason")
	}
	return fmt.Errorf("the guest refuses: %q", reason)
}

// vencrypt agrees on TLS with certificates, up to where TLS begins. A password that the guest asks for within it is left to the client.
func vencrypt(conn io.ReadWriter) (rfbOffer, error) {
	var version [2]byte
	if _, err := conn.Write([]byte{rfbTypeVeNCrypt}); err != nil {
		return rfbNothing, err
	}
	if _, err := io.ReadFull(conn, version[:]); err != nil {
		return rfbNothing, fmt.Errorf("VeNCrypt version: %w", err)
	}
	if version != [2]byte{0, 2} {
		return rfbNothing, fmt.Errorf("the guest speaks VeNCrypt %d.%d, not 0.2", version[0], version[1])
	}
	if _, err := conn.Write(version[:]); err != nil {
		return rfbNothing, err
	}
	if refused, err := readByte(conn); err != nil || refused != 0 {
		return rfbNothing, errors.Join(errors.New("the guest refuses VeNCrypt 0.2"), err)
	}
	subtype, offer, err := vencryptSubtype(conn)
	if err != nil {
		return rfbNothing, err
	}
	if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, subtype)); err != nil {
		return rfbNothing, err
	}
	if accepted, err := readByte(conn); err != nil || accepted != 1 {
		return rfbNothing, errors.Join(fmt.Errorf("the guest refuses VeNCrypt subtype %d", subtype), err)
	}
	return offer, nil
}

// vencryptSubtype reads the subtypes that a guest offers and chooses one that proves who the guest is.
func vencryptSubtype(r io.Reader) (uint32, rfbOffer, error) {
	count, err := readByte(r)
	if err != nil {
		return 0, rfbNothing, fmt.Errorf("VeNCrypt subtypes: %w", err)
	}
	subtypes := make([]uint32, count)
	if err := binary.Read(r, binary.BigEndian, subtypes); err != nil {
		return 0, rfbNothing, fmt.Errorf("VeNCrypt subtypes: %w", err)
	}
	switch {
	case slices.Contains(subtypes, vencryptX509None):
		return vencryptX509None, rfbTypeNone, nil
	case slices.Contains(subtypes, vencryptX509VNC):
		return vencryptX509VNC, rfbTypeVNC, nil
	}
	return 0, rfbNothing, fmt.Errorf("the guest has VeNCrypt subtypes %d, neither x509none (%d) nor x509vnc (%d)", subtypes, vencryptX509None, vencryptX509VNC)
}

// rfbClient takes a client to where the guest has been taken.
func rfbClient(client io.ReadWriter, offer rfbOffer) error {
	if _, err := io.WriteString(client, rfbVersion); err != nil {
		return err
	}
	if err := readVersion(client, "client"); err != nil {
		return err
	}
	if _, err := client.Write([]byte{1, byte(offer)}); err != nil {
		return err
	}
	chosen, err := readByte(client)
	if err == nil && chosen != byte(offer) {
		err = fmt.Errorf("the client chose security type %d, which was not offered", chosen)
	}
	if err == nil && offer == rfbTypeNone {
		_, err = client.Write(make([]byte, 4)) // the result: the guest has told it
	}
	return err
}

func readByte(r io.Reader) (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}

func readUint32(r io.Reader) (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(r, b[:])
	return binary.BigEndian.Uint32(b[:]), err
}
