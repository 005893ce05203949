package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// apiClient speaks to the running agent by its API, as the user of clouds.yaml in the state directory.
type apiClient struct {
	http    *http.Client
	token   string
	compute string // the URL of the compute API
	volume  string // that of the block storage API; empty where there is none
	version string // the microversion that requests are written in
}

// maxAnswer is more than any answer that is asked for; a picture of the largest screen is the longest.
const maxAnswer = 128 << 20

// openAPI logs in.
func openAPI(ctx context.Context, c *Config) (*apiClient, error) {
	file, err := (access{config: c}).read()
	if err != nil {
		return nil, fmt.Errorf("how to log in to the agent: %w", err)
	}
	cloud, there := file.Clouds[cloudName]
	if !there {
		return nil, fmt.Errorf("%s has no cloud %s", (access{config: c}).path(), cloudName)
	}
	cl := &apiClient{version: "2.89"}
	if cl.http, err = cloud.httpClient(); err != nil {
		return nil, err
	}
	return cl, cl.logIn(ctx, cloud.Auth)
}

// httpClient trusts the agent's own certificate, too.
func (c cloud) httpClient() (*http.Client, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if c.CACert != "" {
		text, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("the API's certificate: %w", err)
		}
		trusted, err := x509.SystemCertPool()
		if err != nil {
			trusted = x509.NewCertPool()
		}
		trusted.AppendCertsFromPEM(text)
		transport.TLSClientConfig = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, Timeout: time.Minute}, nil
}

func (c *apiClient) logIn(ctx context.Context, a cloudAuth) error {
	type named struct {
		Name   string `json:"name"`
		Domain any    `json:"domain"`
	}
	type domain struct {
		Name string `json:"name"`
	}
	body := map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": struct {
			named
			Password string `json:"password"`
		}{named{a.Username, domain{a.UserDomain}}, a.Password}}},
		"scope": map[string]any{"project": named{a.ProjectName, domain{a.ProjectDomain}}},
	}}
	var answer struct {
		Token struct {
			Catalog []struct {
				Type      string
				Endpoints []struct{ URL string }
			}
		}
	}
	header, err := c.request(ctx, http.MethodPost, a.URL+"/auth/tokens", body, &answer)
	if err != nil {
		return fmt.Errorf("log in to the agent: %w", err)
	}
	c.token = header.Get("X-Subject-Token")
	for _, s := range answer.Token.Catalog {
		switch {
		case len(s.Endpoints) == 0:
		case s.Type == "compute":
			c.compute = s.Endpoints[0].URL
		case s.Type == "block-storage":
			c.volume = s.Endpoints[0].URL
		}
	}
	if c.token == "" || c.compute == "" {
		return errors.New("log in to the agent: the answer names no token or no compute API")
	}
	return nil
}

// do makes a request of the compute API. body and answer are JSON; either may be nil.
func (c *apiClient) do(ctx context.Context, method, path string, body, answer any) error {
	_, err := c.request(ctx, method, c.compute+path, body, answer)
	return err
}

func (c *apiClient) request(ctx context.Context, method, url string, body, answer any) (http.Header, error) {
	var text io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, text)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("OpenStack-API-Version", "compute "+c.version)
	if c.token != "" {
		r.Header.Set("X-Auth-Token", c.token)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	said, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return nil, refusal(response.StatusCode, said)
	}
	if answer == nil {
		return response.Header, nil
	}
	return response.Header, json.Unmarshal(said, answer)
}

// refusal is what the API said of a request that it refused.
func refusal(status int, said []byte) error {
	var faults map[string]struct{ Message string }
	if err := json.Unmarshal(said, &faults); err == nil {
		for _, f := range faults {
			return errors.New(cmp.Or(f.Message, http.StatusText(status)))
		}
	}
	return fmt.Errorf("HTTP %d %s", status, http.StatusText(status))
}

// server is the ID of a server that is named by its ID or its name.
func (c *apiClient) server(ctx context.Context, name string) (id string, err error) {
	if uuid.Validate(name) == nil {
		return name, nil
	}
	var list struct {
		Servers []struct{ ID, Name string }
	}
	if err := c.do(ctx, http.MethodGet, "/servers?all_tenants=1&name="+url.QueryEscape("^"+regexp.QuoteMeta(name)+"$"), nil, &list); err != nil {
		return "", err
	}
	for _, s := range list.Servers {
		if s.Name != name {
			continue
		}
		if id != "" {
			return "", fmt.Errorf("more than one server has the name %q: name it by its ID", name)
		}
		id = s.ID
	}
	if id == "" {
		return "", fmt.Errorf("no server has the name %q", name)
	}
	return id, nil
}
