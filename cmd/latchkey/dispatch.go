package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"latchkey/api/ndjson"
	"latchkey/handoff/keyring"
)

// dispatchCmd sends a file of dispatches through the bulk route.
type dispatchCmd struct {
	File  string `arg:"" help:"NDJSON, one dispatch a line." type:"existingfile"`
	URL   string `required:"" env:"LATCHKEY_URL" help:"The service, such as https://latchkey.example." placeholder:"URL"`
	Token string `required:"" xor:"token" env:"LATCHKEY_TOKEN" help:"A bearer token with the scope dispatch, better given as a file." placeholder:"TOKEN"`

	TokenFile string `required:"" xor:"token" env:"LATCHKEY_TOKEN_FILE" type:"path" help:"The file with the token (${env})." placeholder:"FILE"`
	Tries     int    `default:"5" help:"How often to send the file when the connection breaks."`
}

// bulkResult is one line of the service's answer.
type bulkResult struct {
	Line    int    `json:"line"`
	Status  int    `json:"status"`
	GrantID string `json:"grant_id"`
	Code    string `json:"code"`
	Errors  []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
	} `json:"errors"`
	Warnings []struct {
		Code    string `json:"code"`
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"warnings"`
}

// summary is what became of a file.
type summary struct {
	answered, made, known int

	unavailable int            // lines that the service had no store for, at that moment
	refused     map[string]int // by code
	examples    []string       // the first refusals, by line

	warned map[string]int // lines that were taken with a warning, by code
	hints  []string       // the first of them, by line
}

const examplesShown = 20

// Run sends the file and tells what became of it. Every line that was refused makes it
// fail, after all others were sent.
func (c *dispatchCmd) Run(ctx context.Context, io streams) error {
	if c.TokenFile != "" {
		token, err := keyring.ReadPassword(c.TokenFile)
		if err != nil {
			return err
		}
		c.Token = token
	}
	lines, err := countLines(c.File)
	if err != nil {
		return err
	}
	var s summary
	for try := 1; lines > 0; try++ { // an empty file needs no service
		if s, err = c.send(ctx, lines, io); err == nil {
			break
		}
		var answer *answerError
		if errors.As(err, &answer) || try >= c.Tries || ctx.Err() != nil {
			return err
		}
		wait := time.Duration(1<<(try-1)) * time.Second
		fmt.Fprintf(io.err, "\n%v; sending the file again in %s (harmless: known lines are answered, not repeated)\n", err, wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}

	refused := s.answered - s.made - s.known
	fmt.Fprintf(io.out, "%d lines: %d new, %d known before, %d refused\n", s.answered, s.made, s.known, refused)
	for _, code := range slices.Sorted(maps.Keys(s.refused)) {
		fmt.Fprintf(io.out, "  %6d  %s\n", s.refused[code], code)
	}
	for _, e := range s.examples {
		fmt.Fprintln(io.out, e)
	}
	if len(s.warned) > 0 {
		fmt.Fprintln(io.out, "taken with a warning:")
	}
	for _, code := range slices.Sorted(maps.Keys(s.warned)) {
		fmt.Fprintf(io.out, "  %6d  %s\n", s.warned[code], code)
	}
	for _, h := range s.hints {
		fmt.Fprintln(io.out, h)
	}
	if len(s.refused) > 0 {
		return fmt.Errorf("%d of %d lines were refused", refused, s.answered)
	}
	return nil
}

// answerError is an answer of the service that another try will not change.
type answerError struct{ text string }

func (e *answerError) Error() string { return e.text }

// send sends the file once, under a progress bar.
func (c *dispatchCmd) send(ctx context.Context, lines int, streams streams) (summary, error) {
	f, err := os.Open(c.File)
	if err != nil {
		return summary{}, err
	}
	defer f.Close()
	bar := progressbar.NewOptions(lines, progressbar.OptionSetWriter(streams.err), progressbar.OptionSetDescription("dispatching"),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("parcels"),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	defer func() { _ = bar.Finish() }()
	s, err := sendDispatches(ctx, c.URL, c.Token, f, func() { _ = bar.Add(1) })
	switch {
	case err != nil:
	case s.unavailable > 0:
		err = fmt.Errorf("%d lines could not be taken just now", s.unavailable)
	case s.answered != lines:
		err = fmt.Errorf("%d of %d lines were answered", s.answered, lines)
	}
	return s, err
}

// sendDispatches sends NDJSON through a service's bulk route and calls answered for
// each line's result.
func sendDispatches(ctx context.Context, url, token string, body io.Reader, answered func()) (summary, error) {
	s := summary{refused: map[string]int{}, warned: map[string]int{}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(url, "/")+"/v1/dispatches/bulk", body)
	if err != nil {
		return s, errors.New("the URL cannot be read")
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, refusedWhole(resp)
	}
	in := bufio.NewScanner(resp.Body)
	for in.Scan() {
		var r bulkResult
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return s, errors.New("the service's answer is not NDJSON")
		}
		s.add(r)
		answered()
	}
	return s, in.Err()
}

// refusedWhole reads the problem of a request that was refused before its first line.
func refusedWhole(resp *http.Response) error {
	var p struct {
		Code  string `json:"code"`
		Title string `json:"title"`
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	_ = json.Unmarshal(body, &p)
	err := fmt.Errorf("the service answered %d %s %s", resp.StatusCode, p.Code, p.Title)
	if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
		return err
	}
	return &answerError{err.Error()}
}

func (s *summary) add(r bulkResult) {
	s.answered++
	for _, w := range r.Warnings {
		s.warned[w.Code]++
		if len(s.hints) < examplesShown {
			s.hints = append(s.hints, fmt.Sprintf("line %d: %s; %s: %s", r.Line, w.Code, w.Field, w.Message))
		}
	}
	switch r.Status {
	case http.StatusCreated:
		s.made++
	case http.StatusOK:
		s.known++
	case http.StatusServiceUnavailable:
		s.unavailable++
	default:
		s.refused[r.Code]++
		if len(s.examples) < examplesShown {
			why := r.Code
			for _, e := range r.Errors {
				why += "; " + e.Location + ": " + e.Message
			}
			s.examples = append(s.examples, fmt.Sprintf("line %d: %s", r.Line, why))
		}
	}
}

// countLines counts the lines that the service answers: those that are not blank.
func countLines(path string) (n int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for in := ndjson.NewReader(f); ; n++ {
		if _, err := in.Next(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return 0, err
		}
	}
}
