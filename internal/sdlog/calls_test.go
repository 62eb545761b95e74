package sdlog

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// TestEveryMessageIsLogged looks through the source: each ID is logged
// somewhere, and where it is, the fields it promises are named in that call, or
// in that function where the attributes are gathered first.
func TestEveryMessageIsLogged(t *testing.T) {
	uses := map[string]int{}
	for _, room := range []string{"cmd/scopereapd", "reclaim", "logind", "internal"} {
		err := filepath.WalkDir(filepath.Join("../..", room), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), p, nil, 0)
			if err != nil {
				return err
			}
			for _, decl := range f.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok {
					checkUses(t, p, fn, uses)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range message.List() {
		if uses[m.Name] == 0 {
			t.Errorf("nothing logs %s", m.Name)
		}
	}
}

// checkUses looks at one function's uses of IDs.
func checkUses(t *testing.T, file string, fn *ast.FuncDecl, uses map[string]int) {
	named := fields(fn)
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		for _, arg := range call.Args {
			name := messageIn(arg)
			i := slices.IndexFunc(message.List(), func(m message.Message) bool { return m.Name == name })
			if i < 0 {
				continue
			}
			uses[name]++
			has := named
			if isLog(call) && !call.Ellipsis.IsValid() {
				has = fields(call)
			}
			if name == "Reaped" {
				continue // by reapedLine.attrs, which cmd/scopereapd tests
			}
			for _, want := range message.List()[i].Fields {
				if !slices.Contains(has, fieldPrefix+strings.TrimSuffix(want, "_USEC")) {
					t.Errorf("%s: %s logs %s without %s", file, fn.Name.Name, name, want)
				}
			}
		}
		return true
	})
}

// messageIn is the X of message.X.Attr(), or "".
func messageIn(e ast.Expr) string {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return ""
	}
	attr, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || attr.Sel.Name != "Attr" {
		return ""
	}
	id, ok := attr.X.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if pkg, ok := id.X.(*ast.Ident); !ok || pkg.Name != "message" {
		return ""
	}
	return id.Sel.Name
}

// isLog: a call of a logger's method.
func isLog(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, sel.Sel.Name)
}

// fields are the journal's names of all words in a piece of code.
func fields(n ast.Node) []string {
	var names []string
	ast.Inspect(n, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				names = append(names, fieldName(s))
			}
		}
		return true
	})
	return names
}
