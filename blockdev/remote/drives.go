package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
)

// NBD connects exports of NBD servers, which the hypervisor reaches. They have no identity.
type NBD struct {
	nobody
	Run  command.Runner
	Dial Dial // nil for this host's
}

// Connect implements connector.Connector: the server must answer and have the export.
func (c NBD) Connect(ctx context.Context, info connector.Info, _ connector.Identity) (connector.Device, error) {
	n := info.NBD
	if _, err := reachable(ctx, c.Dial, "data.host", []connector.Address{n.Server}); err != nil {
		return connector.Device{}, err
	}
	size, err := c.size(ctx, *n)
	if err != nil {
		return connector.Device{}, err
	}
	return connector.Device{
		Network: &connector.Network{Protocol: "nbd", Name: n.Export, Hosts: []connector.Address{n.Server}},
		Format:  "raw", Bytes: size,
	}, nil
}

// Extend implements connector.Connector.
func (c NBD) Extend(ctx context.Context, info connector.Info, _ connector.Device) (connector.Device, error) {
	return c.Connect(ctx, info, "")
}

// size asks by QEMU's own client, which does not look into the contents: they are raw.
func (c NBD) size(ctx context.Context, n connector.NBDInfo) (int64, error) {
	image, err := json.Marshal(map[string]any{"driver": "raw", "file": map[string]any{
		"driver": "nbd", "export": n.Export,
		"server": map[string]string{"type": "inet", "host": n.Server.Host, "port": strconv.Itoa(n.Server.Port)},
	}})
	if err != nil {
		return 0, err
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out, err := c.Run.Run(within, command.Cmd{Name: "qemu-img", Args: []string{"info", "--force-share", "--output=json", "json:" + string(image)}})
	if err != nil {
		return 0, c.refused(ctx, n, err)
	}
	var answer struct {
		Bytes int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return 0, fmt.Errorf("qemu-img info of NBD export %q: %w", n.Export, err)
	}
	if answer.Bytes <= 0 {
		return 0, &connector.Error{Reason: connector.BadSize, Field: "data.export", Value: n.Export, Rule: "the export is empty"}
	}
	return answer.Bytes, nil
}

func (c NBD) refused(ctx context.Context, n connector.NBDInfo, err error) error {
	var failed *command.Error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return &connector.Error{Reason: connector.Unreachable, Field: "data.host", Value: address(n.Server), Rule: "the server does not speak", Err: err}
	case errors.As(err, &failed) && failed.ExitCode > 0:
		return &connector.Error{Reason: connector.NoDevice, Field: "data.export", Value: n.Export, Rule: "the server does not give the export", Err: err}
	}
	return err
}

// RBD connects images of Ceph, which the hypervisor reaches. They have no identity that could be asked for without a client of Ceph on the host.
type RBD struct {
	nobody
	// User and Secret are who logs in, and the UUID of the hypervisor's secret, where connection_info has a user and neither secret nor keyring (Nova:
	// rbd_user, rbd_secret_uuid).
	User, Secret string
	Dial         Dial // nil for this host's
}

const monitorPort = 6789 // of Ceph monitors, for clients of the first protocol

// Connect implements connector.Connector: one of the monitors must answer. Without monitors it is the hypervisor's own configuration that names them.
func (c RBD) Connect(ctx context.Context, info connector.Info, _ connector.Identity) (connector.Device, error) {
	r := info.RBD
	network := &connector.Network{Protocol: "rbd", Name: r.Pool + "/" + r.Image, Hosts: r.Hosts}
	if r.User != "" {
		network.User, network.Usage, network.Secret = r.User, "ceph", r.SecretUUID
		if r.SecretUUID == "" && r.Keyring == "" {
			if c.Secret == "" {
				return connector.Device{}, &connector.Error{Reason: connector.InvalidInfo, Field: "data.secret_uuid", Rule: "it is missing, and the operator has set none"}
			}
			network.User, network.Secret = cmp.Or(c.User, r.User), c.Secret
		}
	}
	if len(r.Hosts) > 0 {
		servers := make([]connector.Address, len(r.Hosts))
		for i, h := range r.Hosts {
			if servers[i] = h; h.Port == 0 {
				servers[i].Port = monitorPort
			}
		}
		if _, err := reachable(ctx, c.Dial, "data.hosts", servers); err != nil {
			return connector.Device{}, err
		}
	}
	return connector.Device{Network: network, Format: "raw"}, nil
}

// Extend implements connector.Connector: the size is Ceph's to know.
func (c RBD) Extend(_ context.Context, _ connector.Info, dev connector.Device) (connector.Device, error) {
	return dev, nil
}
