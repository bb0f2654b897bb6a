package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/architecture.md names files, and functions as FILE:NAME. Each must be there.
func TestTheArchitecturePage(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, functions := 0, 0
	for _, m := range regexp.MustCompile("`([a-z][a-z/_]*\\.go)(?::([A-Za-z]+))?`").FindAllStringSubmatch(string(page), -1) {
		file, name := m[1], m[2]
		files++
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if name == "" {
			continue
		}
		functions++
		found := false
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			found = found || ok && f.Name.Name == name
		}
		if !found {
			t.Errorf("%s has no function %s", file, name)
		}
	}
	if files < 40 || functions < 15 {
		t.Errorf("the page names %d files and %d functions: is this the whole page?", files, functions)
	}
	for _, m := range regexp.MustCompile("`((?:otp|handoff|notify|api|cmd)(?:/[a-z]+)*)`").FindAllStringSubmatch(string(page), -1) {
		if i, err := os.Stat(filepath.Join(root, m[1])); err != nil || !i.IsDir() {
			t.Errorf("%s is no folder", m[1])
		}
	}
	if !strings.Contains(string(page), "```mermaid") {
		t.Error("the drawing is missing")
	}
}
