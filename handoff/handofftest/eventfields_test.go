package handofftest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"

	"latchkey/handoff"
)

// The groups of handoff.Event say of each field which events set it, and the check of all
// tests' events says the same.
func TestEventFields(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../event.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var fields []*ast.Field
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "Event" {
			fields = spec.Type.(*ast.StructType).Fields.List
		}
		return true
	})
	of := regexp.MustCompile(`^Of: ([^.]+)\.`)
	group := ""
	seen := 0
	for _, f := range fields {
		name := f.Names[0].Name
		if said := of.FindStringSubmatch(strings.ReplaceAll(f.Doc.Text(), "\n", " ")); said != nil {
			group = said[1]
		}
		types := group
		if said := of.FindStringSubmatch(f.Comment.Text()); said != nil {
			types = said[1]
		}
		var want []string
		for _, typ := range fieldTypes[name] {
			want = append(want, typ.String())
		}
		got := strings.Split(types, ", ")
		if types == "every event" {
			got = nil
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: event.go says %v, the tests hold it to %v", name, got, want)
		}
		if len(want) > 0 {
			seen++
		}
	}
	if seen != len(fieldTypes) || len(fields) < 29 {
		t.Errorf("%d of %d fields are events' own, want %d", seen, len(fields), len(fieldTypes))
	}
}

func TestStrayFields(t *testing.T) {
	e := handoff.Event{Type: handoff.EventReleased, At: 7, Courier: "cou_7", Distance: 20}
	if got := StrayFields(e); got != nil {
		t.Errorf("released: %v", got)
	}
	e.Door, e.Excused = "d", true
	if got := StrayFields(e); !slices.Equal(got, []string{"Excused", "Door"}) {
		t.Errorf("released, with a door and excused: %v", got)
	}
}
