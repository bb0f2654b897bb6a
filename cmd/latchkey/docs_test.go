package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// Documents that say what shows a claim must name what is there. Every `TestName` is a
// test of this house, the Part of a `TestName/Part` a name in its sources; every line of
// a table of tests names one, or says (test: pending), or why there is none.
func TestTheDocumentsNameRealTests(t *testing.T) {
	tests, words := map[string]bool{}, map[string]bool{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && strings.HasSuffix(path, "_test.go") {
					tests[n.Name.Name] = true
				}
			case *ast.BasicLit:
				if word, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					words[word] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	named := regexp.MustCompile("`(Test[A-Za-z0-9_]+)(?:/([A-Za-z0-9_]+))?`")
	const pending, none = "(test: pending)", "(no test: "
	for page, least := range map[string]int{"threats.md": 50, "asvs.md": 40} {
		b, err := os.ReadFile(filepath.Join(root, "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		found := named.FindAllStringSubmatch(strings.ReplaceAll(text, "`TestName`", "-"), -1)
		for _, m := range found {
			if m[0] == "`TestName/Part`" {
				continue
			}
			if !tests[m[1]] {
				t.Errorf("docs/%s names %s, which is no test", page, m[1])
			}
			if m[2] != "" && !words[m[2]] {
				t.Errorf("docs/%s names %s/%s, and nothing is called %s", page, m[1], m[2], m[2])
			}
		}
		if len(found) < least {
			t.Errorf("docs/%s names %d tests: is this the whole page?", page, len(found))
		}

		column := -1
		for n, line := range strings.Split(text, "\n") {
			cells := strings.Split(line, "|")
			switch {
			case len(cells) < 3:
				column = -1
			case column < 0:
				for i, c := range cells {
					if strings.TrimSpace(c) == "test" {
						column = i
					}
				}
				if column < 0 {
					column = len(cells) // a table without tests
				}
			case column >= len(cells) || strings.HasPrefix(line, "|---"):
			case !named.MatchString(cells[column]) && !strings.Contains(cells[column], pending) && !strings.Contains(cells[column], none):
				t.Errorf("docs/%s, line %d: no test, nor %q nor %q", page, n+1, pending, none)
			}
		}
		t.Logf("docs/%s: %d tests named, %d still pending", page, len(found), strings.Count(text, pending))
	}
}

// Each document says first for whom it is and what for, and can be read in a terminal: no
// line of prose is longer than 120 characters.
func TestTheDocumentsSayWhatTheyAreFor(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	for _, page := range append(pages, "../../README.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(b), "\n")
		if filepath.Base(page) != "README.md" && (len(lines) < 3 || !strings.HasPrefix(lines[2], "For ")) {
			t.Errorf("%s does not begin with for whom it is", page)
		}
		code, written := false, false
		for n, line := range lines {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				code = !code
			}
			if strings.HasPrefix(line, "<!--") { // what a program writes stands between two of these
				written = !written
			}
			if !code && !written && !strings.HasPrefix(strings.TrimSpace(line), "|") && !strings.HasPrefix(line, "    ") && utf8.RuneCountInString(line) > 120 {
				t.Errorf("%s:%d is %d characters long", page, n+1, utf8.RuneCountInString(line))
			}
		}
	}
}
