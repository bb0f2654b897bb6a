package api

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey/handoff"
	"latchkey/handoff/storage"
)

// reasons reads the constants of type Reason out of the domain's source.
func reasons(t *testing.T) map[handoff.Reason]bool {
	t.Helper()
	found := map[handoff.Reason]bool{}
	files, err := filepath.Glob("../handoff/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		collect(t, file, found)
	}
	return found
}

func collect(t *testing.T, file *ast.File, found map[handoff.Reason]bool) {
	t.Helper()
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != "Reason" {
			return true
		}
		for _, value := range spec.Values {
			slug, err := strconv.Unquote(value.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found[handoff.Reason(slug)] = true
		}
		return true
	})
}

func TestEveryReasonHasItsProblem(t *testing.T) {
	found := reasons(t)
	if len(found) < 30 {
		t.Fatalf("only %d reasons found: is the source read rightly?", len(found))
	}
	for reason := range found {
		k, known := kinds[reason]
		if !known {
			t.Errorf("%s has no place in kinds", reason)
			continue
		}
		if k.status < 400 || k.status > 499 || k.title == "" || http.StatusText(k.status) == "" {
			t.Errorf("%s: status %d, title %q", reason, k.status, k.title)
		}
		p := problemOf(&handoff.Refusal{Reason: reason})
		if p.Code != string(reason) || p.Type != "urn:latchkey:problem:"+string(reason) || p.Status != k.status {
			t.Errorf("%s makes %+v", reason, p)
		}
	}
	for reason := range kinds {
		if !found[reason] {
			t.Errorf("kinds has %s, which is no reason", reason)
		}
	}
}

func TestFailuresOfOursStayInside(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		retry  bool
	}{
		{storage.ErrUnavailable, 503, true},
		{fmt.Errorf("wrapped: %w", storage.ErrUnavailable), 503, true},
		{storage.ErrUnknownOutcome, 503, true},
		{context.DeadlineExceeded, 503, true},
		{storage.ErrSealed, 500, false},
		{errors.New("secret text"), 500, false},
		{&handoff.Refusal{Reason: "of-a-newer-version"}, 500, false},
	} {
		p := problemOf(c.err)
		if p.Status != c.status || (p.retryAfter > 0) != c.retry || p.cause == nil {
			t.Errorf("%v makes %+v", c.err, p)
		}
		if strings.Contains(p.Title+p.Detail+p.Code, "secret") {
			t.Errorf("%v is told", c.err)
		}
	}
}

func TestRetryAfterRoundsUp(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Millisecond: "1", time.Second: "1", time.Second + 1: "2", time.Minute: "60",
	} {
		if got := retrySeconds(d); got != want {
			t.Errorf("%v is %s s, want %s", d, got, want)
		}
	}
}
