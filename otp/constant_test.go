package otp

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

// Codes are compared in constant time: in Equal and Slip nothing looks at a digit but
// crypto/subtle, and nothing ends early. Read from the source, since a clock would tell it
// only now and then.
func TestCodesAreComparedInConstantTime(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "otp.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != "Equal" && f.Name.Name != "Slip" {
			continue
		}
		found++
		compared := 0
		ast.Inspect(f.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if fun, ok := n.Fun.(*ast.SelectorExpr); ok {
					if pkg, ok := fun.X.(*ast.Ident); ok && pkg.Name == "subtle" {
						compared++
						return false // it may look
					}
				}
			case *ast.SelectorExpr:
				if n.Sel.Name == "digits" {
					t.Errorf("%s looks at a digit itself", f.Name.Name)
				}
			case *ast.BranchStmt:
				t.Errorf("%s has a %s", f.Name.Name, n.Tok)
			case *ast.ReturnStmt:
				if n != f.Body.List[len(f.Body.List)-1] {
					t.Errorf("%s may return early", f.Name.Name)
				}
			case *ast.BinaryExpr:
				if slices.Contains([]token.Token{token.LAND, token.LOR}, n.Op) {
					return shortCircuits(t, f.Name.Name, n)
				}
			}
			return true
		})
		if compared == 0 {
			t.Errorf("%s compares nothing by crypto/subtle", f.Name.Name)
		}
	}
	if found != 2 {
		t.Errorf("found %d of Equal and Slip", found)
	}
}

// shortCircuits allows && and || only where what they may leave out is whether there is a
// code at all, which is no secret.
func shortCircuits(t *testing.T, name string, n *ast.BinaryExpr) bool {
	t.Helper()
	ast.Inspect(n.Y, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if fun, ok := call.Fun.(*ast.SelectorExpr); !ok || fun.Sel.Name != "IsZero" {
				t.Errorf("%s may leave out a comparison", name)
			}
		}
		return true
	})
	return true
}
