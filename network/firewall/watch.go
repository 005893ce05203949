package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// nftables is the multicast group in which the kernel tells of changes of nftables (NFNLGRP_NFTABLES).
const nftables = 7

// Watch tells that rules of the namespace in which it is called were changed through nftables, also by iptables-nft: once for what changed
// since the last time was received. Of what iptables-legacy changes the kernel tells nobody. The channel is closed when ctx ends or nothing
// can be told any more.
func Watch(ctx context.Context) (<-chan struct{}, error) {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER, nftables)
	if err != nil {
		return nil, fmt.Errorf("watch rules: %w", err)
	}
	events := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, socket.Close)
	go func() {
		defer close(events)
		defer func() {
			if stop() {
				socket.Close()
			}
		}()
		for {
			// ENOBUFS is that the kernel had more to tell than it could keep, which is an event too.
			_, _, err := socket.Receive()
			if err != nil && (errors.Is(err, os.ErrClosed) || !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN)) {
				return
			}
			select {
			case events <- struct{}{}:
			default: // one that was not received yet tells it
			}
		}
	}()
	return events, nil
}

// Generation is how often the rules of the namespace in which it is called were changed through nftables.
func Generation() (uint32, error) {
	const getGeneration, generationID = 16, 1 // NFT_MSG_GETGEN, NFTA_GEN_ID
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|getGeneration, 0)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	answers, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("generation of the rules: %w", err)
	}
	for _, answer := range answers {
		attributes, err := nl.ParseRouteAttr(answer[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("generation of the rules: %w", err)
		}
		for _, a := range attributes {
			if a.Attr.Type == generationID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, errors.New("generation of the rules: the kernel does not tell")
}
