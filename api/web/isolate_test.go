package web_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The fields of templates that hold what people wrote, where they stand alone.
var written = regexp.MustCompile(`\{\{(\$b\.Name|\$b\.Address|\.Visitor\.Name|\.City|\.Reason|\.Building|\.Address)\}\}` +
	`|range \.Lines\}\}\s*(?:<bdi>)?\{\{\.\}\}|with \.Unit\}\}\s*(?:<strong>)?(?:<bdi>)?\{\{\.\}\}|\.(?:Name|Reason)\}\}(?:<span[^>]*>|<div><dt>[^<]*</dt><dd>)(?:<bdi>)?\{\{\.\}\}`)

// A name in a script that runs the other way must turn nothing beside it.
func TestPagesIsolateWhatPeopleWrote(t *testing.T) {
	seen := 0
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".html") && !strings.HasSuffix(name, ".html.tmpl") {
			return err
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		page := string(raw)
		for _, at := range written.FindAllStringIndex(page, -1) {
			before, field := page[:at[1]], page[at[0]:at[1]]
			line := before[strings.LastIndexByte(before, '\n')+1:]
			if strings.Contains(line, `{{define "title"}}`) || strings.Contains(field, "why.") {
				continue
			}
			seen++
			if strings.LastIndex(before, "<bdi>") <= strings.LastIndex(before, "</bdi>") {
				t.Errorf("%s: %s is not isolated", name, field)
			}
		}
		return nil
	})
	if err != nil || seen < 15 {
		t.Errorf("%d fields, %v", seen, err)
	}
}
