package controller

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
)

// Service is where a connected door dials to.
type Service struct {
	URL   *url.URL               // see ParseURL
	Token func() (string, error) // asked for every request, so that a token can be renewed in its file

	// Transport is what requests go through; nil for NewTransport().
	Transport http.RoundTripper
}

// ParseURL reads a service's URL: https, or http to this machine alone, because the token
// must not travel in the clear. The error never repeats the text.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the service's URL cannot be read: https://HOST[:PORT][/PATH]")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, errors.New("the service's URL must be https, or the token could be read on the way")
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip.IsLoopback()
}

// NewTransport is a transport for connections that break without a message: HTTP/2
// connections are probed, or a dead one would be used again and again.
func NewTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second}
	t.ResponseHeaderTimeout = 15 * time.Second
	return t
}

// link is a Service as one door uses it.
type link struct {
	service Service
	door    string
	client  *http.Client
}

func newLink(s Service, door string) *link {
	if s.Transport == nil {
		s.Transport = NewTransport()
	}
	return &link{service: s, door: door, client: &http.Client{
		Transport: s.Transport,
		// The token is for this service, wherever it may point to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (l *link) request(ctx context.Context, method, what string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.service.URL.JoinPath("v1", "doors", l.door, what).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	token, err := l.service.Token()
	if err != nil {
		return nil, fmt.Errorf("the token: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return req, nil
}

// statusError is an answer other than 200.
type statusError struct{ code int }

func (e statusError) Error() string {
	return fmt.Sprintf("the service answered %d %s", e.code, http.StatusText(e.code))
}

const (
	reportsAtOnce = 64
	reportsTake   = 10 * time.Second
)

// post brings reports, oldest first. With a nil error none needs to be brought again;
// refused are those that the service could not verify.
func (l *link) post(ctx context.Context, reports [][]byte) (refused int, err error) {
	ctx, cancel := context.WithTimeout(ctx, reportsTake)
	defer cancel()
	var body struct {
		Reports []string `json:"reports"`
	}
	for _, r := range reports {
		body.Reports = append(body.Reports, base64url.EncodeToString(r))
	}
	content, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	req, err := l.request(ctx, http.MethodPost, "reports", content)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16)) // to its end, so that the connection can be used again
	if resp.StatusCode != http.StatusOK {
		return 0, statusError{resp.StatusCode}
	}
	var said struct {
		Refused []struct{} `json:"refused"`
	}
	_ = json.Unmarshal(answer, &said) // the status has said what matters
	return len(said.Refused), nil
}

var base64url = base64.RawURLEncoding.Strict()

const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// backoff is how long to wait after a number of failures in a row, at least 1: doubled
// each time, and of that a random half, so that a street of doors does not come back
// as one.
func backoff(failures int) time.Duration {
	d := lastRetry
	if failures < 6 {
		d = min(firstRetry<<(failures-1), lastRetry)
	}
	return d/2 + rand.N(d/2)
}

// pause waits, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
