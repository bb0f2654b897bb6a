package frame

import (
	"errors"
	"fmt"
	"html/template"
	"reflect"
	"text/template/parse"
)

// checkKeys finds the keys that a page's templates name and its words lack. A key that is
// only put together when the page is rendered is not found here.
func checkKeys(page *template.Template, w *Words) error {
	var faults []error
	for _, t := range page.Templates() {
		if t.Tree == nil {
			continue
		}
		calls(t.Tree.Root, func(function, key string) {
			if function == "n" {
				key += ".other"
			}
			if !w.Has(key) {
				faults = append(faults, fmt.Errorf("no words for %s", key))
			}
		})
	}
	return errors.Join(faults...)
}

// keyAt is which argument of a function is a key.
var keyAt = map[string]int{"t": 1, "n": 1, "link": 2}

// calls visits the keys that functions are called with, at and below a node.
func calls(n parse.Node, visit func(function, key string)) {
	if n == nil || reflect.ValueOf(n).IsNil() {
		return
	}
	branch := func(b *parse.BranchNode) {
		calls(b.Pipe, visit)
		calls(b.List, visit)
		calls(b.ElseList, visit)
	}
	switch n := n.(type) {
	case *parse.ListNode:
		for _, below := range n.Nodes {
			calls(below, visit)
		}
	case *parse.ActionNode:
		calls(n.Pipe, visit)
	case *parse.TemplateNode:
		calls(n.Pipe, visit)
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			calls(c, visit)
		}
	case *parse.ChainNode:
		calls(n.Node, visit)
	case *parse.CommandNode:
		if function, is := n.Args[0].(*parse.IdentifierNode); is {
			if at := keyAt[function.Ident]; at > 0 && at < len(n.Args) {
				if key, is := n.Args[at].(*parse.StringNode); is {
					visit(function.Ident, key.Text)
				}
			}
		}
		for _, a := range n.Args {
			calls(a, visit)
		}
	}
}
