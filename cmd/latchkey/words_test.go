package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"latchkey/handoff/words"
)

// texts are the literals of a source: what stands in quotes, backquotes, or after an opening
// brace of a template within them.
var texts = regexp.MustCompile("\"([^\"\\s]+)\"|'([^'\\s]+)'|`([^`\\s$]+)[`$]")

// tails are what stands behind a value in a template of a script: `${key}.text`.
var tails = regexp.MustCompile("\\}\\.([\\w-]+)`")

// says is a call that needs a key, in a template, in Go, or in a script.
var says = regexp.MustCompile("(?:\\{\\{-? ?|\\()(?:t|n) \"([a-z][\\w.-]+[\\w])\"|(?:\\.Say|\\.Text|\\bsay|\\bsayIf|\\bcount)\\(['\"`]([a-z][\\w.-]*[\\w])['\"`]")

// Each words.yaml has a word for every key that the sources beside it name, and no word that
// they do not name. A key may be put together from a literal that ends with a dot and a name
// that is a literal somewhere in the product, such as refused. and "code-locked".
func TestWordsAreUsed(t *testing.T) {
	root := "../.."
	if err := os.Chdir(root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chdir("cmd/latchkey") })
	product := map[string]bool{} // literals of the product's Go and scripts
	sources := map[string]string{}
	var folders []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != ".", d.Name() == "testdata", d.Name() == "docs", d.Name() == "zxing.js":
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.Name() == words.File:
			folders = append(folders, filepath.Dir(path))
			return nil
		case strings.HasSuffix(path, "_test.go"), !slices.Contains([]string{".go", ".js", ".html", ".ndjson"}, filepath.Ext(path)):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sources[path] = string(text)
		for _, m := range texts.FindAllStringSubmatch(string(text), -1) {
			product[m[1]+m[2]+m[3]] = true
		}
		for _, m := range tails.FindAllStringSubmatch(string(text), -1) {
			product[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) < 8 {
		t.Errorf("words in %v: is that all?", folders)
	}
	number := regexp.MustCompile(`^\d+$`)
	for _, folder := range folders {
		v, err := words.Load(os.DirFS(folder))
		if err != nil {
			t.Errorf("%s: %v", folder, err)
			continue
		}
		if folder == filepath.FromSlash("notify/mail/message") {
			continue // knows at start what its mails need, and holds its words to it
		}
		if folder == filepath.FromSlash("handoff/words") {
			continue // the cities of time zones, found by the zone's name
		}
		w := v.In(words.English)
		frame, err := words.Load(os.DirFS("api/web/frame"))
		if err != nil {
			t.Fatal(err)
		}
		has := func(key string) bool {
			return w.Has(key) || w.Has(key+".other") || frame.In(words.English).Has(key) || w.Has("say."+key) // building/log.js says what stands below say
		}
		said, begun, prefixes := map[string]bool{}, []string{}, []string{}
		for path, text := range sources {
			if !strings.HasPrefix(path, folder+string(filepath.Separator)) {
				continue
			}
			for _, m := range says.FindAllStringSubmatch(text, -1) {
				if key := m[1] + m[2]; !has(key) {
					t.Errorf("%s says %s, for which there are no words", path, key)
				}
			}
			for _, m := range texts.FindAllStringSubmatch(text, -1) {
				literal := m[1] + m[2] + m[3]
				switch said[literal] = true; {
				case strings.HasSuffix(literal, "."):
					begun = append(begun, literal)
				case strings.HasSuffix(literal, "_"):
					prefixes = append(prefixes, literal)
				}
			}
		}
		named := func(part string) bool {
			for _, prefix := range append(prefixes, "") {
				if rest, is := strings.CutPrefix(part, prefix); is && (product[rest] || product["."+rest] || product[strings.ReplaceAll(rest, "-", "_")]) {
					return true
				}
			}
			return number.MatchString(part)
		}
		used := func(key string) bool {
			if said[key] {
				return true
			}
			for _, start := range begun {
				rest, is := strings.CutPrefix(key, start)
				if !is {
					continue
				}
				all := true
				for part := range strings.SplitSeq(rest, ".") {
					all = all && named(part)
				}
				if all {
					return true
				}
			}
			return false
		}
		for _, key := range w.Keys() {
			base, form := key, key[strings.LastIndexByte(key, '.')+1:]
			if slices.Contains([]string{"none", "one", "other"}, form) && w.Has(strings.TrimSuffix(key, form)+"other") {
				base = strings.TrimSuffix(key, "."+form)
			}
			if !used(key) && !used(base) {
				t.Errorf("%s: nothing says %s", folder, key)
			}
		}
	}
}
