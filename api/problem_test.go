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
	"slices"
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

// sentinels reads the error variables out of the source of a package, by the name under
// which others know them: storage.ErrConflict.
func sentinels(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(folder + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", folder, len(files), err)
	}
	var found []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			general, is := d.(*ast.GenDecl)
			if !is || general.Tok != token.VAR {
				continue
			}
			for _, spec := range general.Specs {
				for _, id := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(id.Name, "Err") {
						found = append(found, file.Name.Name+"."+id.Name)
					}
				}
			}
		}
	}
	return found
}

// mappedErrors reads the names in errorRows out of problem.go.
func mappedErrors(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, is := n.(*ast.ValueSpec)
		if !is || spec.Names[0].Name != "errorRows" {
			return true
		}
		for _, row := range spec.Values[0].(*ast.CompositeLit).Elts {
			for _, field := range row.(*ast.CompositeLit).Elts {
				pair := field.(*ast.KeyValueExpr)
				if s, is := pair.Value.(*ast.SelectorExpr); is && pair.Key.(*ast.Ident).Name == "err" {
					found = append(found, s.X.(*ast.Ident).Name+"."+s.Sel.Name)
				}
			}
		}
		return false
	})
	return found
}

func TestEveryErrorOfARoomHasItsRow(t *testing.T) {
	rows := mappedErrors(t)
	if len(rows) != len(errorRows) {
		t.Fatalf("%d rows were read of %d", len(rows), len(errorRows))
	}
	var declared []string
	for _, folder := range []string{"", "/storage", "/registry", "/residents", "/identity", "/trail", "/eventlog", "/service"} {
		declared = append(declared, sentinels(t, "../handoff"+folder)...)
	}
	declared = append(declared, sentinels(t, "auth")...)
	if len(declared) < 15 {
		t.Fatalf("only %d errors found: is the source read rightly?", len(declared))
	}
	for _, name := range declared {
		if !slices.Contains(rows, name) {
			t.Errorf("%s has no row in errorRows: which problem is it, or is it internal-error?", name)
		}
	}
	for _, name := range rows {
		if !slices.Contains(declared, name) && !strings.HasPrefix(name, "context.") {
			t.Errorf("errorRows has %s, which no room declares", name)
		}
	}
}

func TestErrorRows(t *testing.T) {
	for _, row := range errorRows {
		p := problemOf(fmt.Errorf("wrapped: %w", row.err))
		switch {
		case row.field != "":
			if p.Status != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Location != row.field || p.Errors[0].Message != row.rule {
				t.Errorf("%v makes %+v", row.err, p)
			}
		case p.Code != row.code || p.Title == "" || p.Status < 400:
			t.Errorf("%v makes %+v", row.err, p)
		}
		if kept := p.cause != nil; kept != (p.Status >= 500) {
			t.Errorf("%v: the cause is kept: %v, at status %d", row.err, kept, p.Status)
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
