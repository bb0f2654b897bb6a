package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Arrows between packages run one way: cmd -> api, notify -> handoff -> otp. Each
// outside library has one room. Test helpers (handofftest, redistest, embedded, mailtest, mqtttest, frametest, webtest) may be
// imported by tests alone, hence by no package here; authtest by the demonstration, too.
func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "latchkey/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	within := func(pkg string, rooms ...string) bool {
		for _, r := range rooms {
			if pkg == r || strings.HasPrefix(pkg, r+"/") {
				return true
			}
		}
		return false
	}
	const (
		otp, domain, store = "latchkey/otp", "latchkey/handoff", "latchkey/handoff/redisstore"
		notify, api, cmd   = "latchkey/notify", "latchkey/api", "latchkey/cmd"
	)
	const embedded = store + "/embedded" // a test's own store
	// Which rooms a room must not look into.
	closed := map[string][]string{
		otp:    {domain, notify, api, cmd},
		domain: {notify, api, cmd},
		notify: {api, cmd, store},
		api:    {notify, cmd, store},
	}
	// Which rooms may use a library.
	libraries := map[string][]string{
		"github.com/pquerna/otp":                    {otp, "latchkey/handoff/door"},
		"github.com/eclipse/paho.mqtt.golang":       {"latchkey/handoff/door/controller"},
		"github.com/tmaxmax/go-sse":                 {"latchkey/handoff/door/controller"},
		"github.com/veraison/go-cose":               {"latchkey/handoff/door"},
		"github.com/redis/go-redis":                 {store},
		"github.com/go-redis/redis_rate":            {store},
		"github.com/wneessen/go-mail":               {"latchkey/notify/mail"},
		"github.com/gofiber/fiber":                  {api},
		"github.com/danielgtaylor/huma":             {api},
		"github.com/tink-crypto/tink-go":            {"latchkey/handoff/keyring"},
		"github.com/alicebob/miniredis":             {"latchkey/cmd/latchkey", embedded},
		"github.com/prometheus/client_golang":       {api, "latchkey/cmd/latchkey"},
		"github.com/golang-jwt/jwt":                 {"latchkey/api/auth"},
		"latchkey/handoff/handofftest":              {"latchkey/handoff/handofftest", "latchkey/api/web/frame/frametest"},
		"latchkey/api/web/frame/frametest":          {"latchkey/api/web/frame/frametest"},
		"latchkey/api/auth/authtest":                {"latchkey/api/auth/authtest", "latchkey/api/web/frame/frametest", "latchkey/cmd/latchkey"},
		"latchkey/handoff/redisstore/redistest":     {"latchkey/handoff/redisstore/redistest"},
		embedded:                                    {"latchkey/api/web/frame/frametest"},
		"latchkey/notify/mail/mailtest":             {"latchkey/notify/mail/mailtest"},
		"latchkey/handoff/door/controller/mqtttest": {"latchkey/handoff/door/controller/mqtttest"},
		"latchkey/cmd/latchkey/sample":              {"latchkey/cmd"},
		"latchkey/cmd/latchkey/demo":                {"latchkey/cmd"},
		"github.com/emersion/go-smtp":               {"latchkey/notify/mail/mailtest", "latchkey/cmd/latchkey/demo"},
		"github.com/go-json-experiment/json":        {api, domain, cmd},
		"github.com/oklog/ulid":                     {api, "latchkey/notify/trailwriter"},
		"github.com/fxamacker/cbor":                 {domain},
		"github.com/bojanz/currency":                {domain},
		"go.yaml.in/yaml":                           {"latchkey/handoff/words"},
		"github.com/schollz/progressbar":            {"latchkey/cmd/latchkey"},
		"github.com/alecthomas/kong":                {"latchkey/cmd/latchkey"},
		"github.com/valyala/fasthttp":               {api, "latchkey/cmd/latchkey"},
		"github.com/coreos/go-oidc":                 {"latchkey/api/auth"},
		"golang.org/x/oauth2":                       {"latchkey/api/auth"},
		"github.com/MicahParks/keyfunc":             {"latchkey/api/auth"},
		"github.com/MicahParks/jwkset":              {"latchkey/api/auth"},
		"github.com/chromedp":                       {"latchkey/api/web/webtest"},
		"latchkey/api/web/webtest":                  {},
		"pgregory.net/rapid":                        {"latchkey/handoff/handofftest"},
		"testing":                                   {"latchkey/handoff/handofftest", "latchkey/handoff/redisstore/redistest", embedded, "latchkey/notify/mail/mailtest", "latchkey/handoff/door/controller/mqtttest", "latchkey/api/web/frame/frametest", "latchkey/api/web/webtest"},
	}
	packages := 0
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Fields(line)
		pkg, imports := fields[0], fields[1:]
		packages++
		for _, imported := range imports {
			for room, others := range closed {
				if within(pkg, room) && within(imported, others...) && !strings.HasSuffix(pkg, "test") {
					t.Errorf("%s imports %s", pkg, imported)
				}
			}
			if within(imported, store) && !within(pkg, cmd, store) && imported != embedded {
				t.Errorf("%s imports %s: only cmd puts the store together", pkg, imported)
			}
			for library, rooms := range libraries {
				if within(imported, library) && !within(pkg, rooms...) {
					t.Errorf("%s imports %s, whose rooms are %v", pkg, imported, rooms)
				}
			}
		}
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for library := range libraries {
		if strings.Contains(library, ".") && !strings.Contains(string(mod), library) {
			t.Errorf("%s is in the list of libraries, and not in go.mod", library)
		}
	}
	if packages < 10 {
		t.Errorf("looked at %d packages: is this the whole house?", packages)
	}
}

// rooms are the packages below handoff, each with the rooms that it may import. A room that
// is not listed may import none, and no room may be missing here.
var rooms = map[string][]string{
	"":                         {"otp"},
	"clock":                    {},
	"storage":                  {},
	"counts":                   {""},
	"eventlog":                 {""},
	"registry":                 {"", "clock", "eventlog", "storage"},
	"identity":                 {"", "clock"},
	"residents":                {"", "clock", "storage", "registry", "identity"},
	"trail":                    {"", "clock", "eventlog"},
	"service":                  {"", "clock", "storage", "otp"},
	"door":                     {},
	"door/controller":          {"door"},
	"receipt":                  {"", "door"},
	"keyring":                  {},
	"words":                    {},
	"redisstore":               {"", "counts", "door", "eventlog", "identity", "registry", "residents", "service", "storage", "trail"},
	"handofftest/simulation":   {"", "otp"},
	"handofftest":              {"", "counts", "door", "eventlog", "identity", "registry", "residents", "service", "storage", "trail", "otp"},
	"redisstore/redistest":     {},
	"redisstore/embedded":      {"redisstore", "keyring"},
	"door/controller/mqtttest": {},
}

func TestRoomsOfTheDomain(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "latchkey/handoff/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	name := func(path string) string {
		if path == "latchkey/otp" {
			return "otp"
		}
		return strings.TrimPrefix(strings.TrimPrefix(path, "latchkey/handoff"), "/")
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		room := name(fields[0])
		found = append(found, room)
		may, known := rooms[room]
		if !known {
			t.Errorf("handoff/%s is in no list of rooms", room)
		}
		for _, imported := range fields[1:] {
			if strings.HasPrefix(imported, "latchkey/") && !slices.Contains(may, name(imported)) {
				t.Errorf("handoff/%s imports %s", room, imported)
			}
		}
	}
	if want := slices.Sorted(maps.Keys(rooms)); !slices.Equal(slices.Sorted(slices.Values(found)), want) {
		t.Errorf("the rooms are %v, want %v", found, want)
	}
}

// pure is what the domain may import. It decides from what it is given: it knows no
// context, no clock, no network, no file and no chance.
var pure = []string{
	"archive/zip", "bytes", "cmp", "crypto/hmac", "embed", "encoding/base32", "encoding/binary", "encoding/hex", "errors", "fmt", "hash/fnv", "io", "log/slog", "maps", "math", "math/big", "reflect", "regexp", "slices", "strconv", "strings", "sync",
	"time", "unicode", "unicode/utf8",
	"github.com/go-json-experiment/json", "github.com/bojanz/currency", "golang.org/x/text/unicode/norm", "golang.org/x/text/language", "golang.org/x/net/idna", "net/url",
	"latchkey/otp",
}

func TestTheDomainIsPure(t *testing.T) {
	files, err := filepath.Glob("../../handoff/*.go")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			if path, _ := strconv.Unquote(i.Path.Value); !slices.Contains(pure, path) {
				t.Errorf("%s imports %s", file, path)
			}
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker", "Tick", "AfterFunc"}, s.Sel.Name) {
				t.Errorf("%s calls time.%s", file, s.Sel.Name)
			}
			return true
		})
	}
}
