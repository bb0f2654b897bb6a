package main

import (
	"os/exec"
	"strings"
	"testing"
)

// Arrows between packages run one way: cmd -> api, notify -> handoff -> otp. Each
// outside library has one room. Test helpers (handofftest, redistest, mailtest, mqtttest, frametest, webtest) may be
// imported by tests alone, hence by no package here.
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
		"github.com/alicebob/miniredis":             {"latchkey/cmd/latchkey"},
		"github.com/prometheus/client_golang":       {api, "latchkey/cmd/latchkey"},
		"github.com/golang-jwt/jwt":                 {"latchkey/api/auth"},
		"latchkey/handoff/handofftest":              {"latchkey/handoff/handofftest", "latchkey/api/web/frame/frametest"},
		"latchkey/api/web/frame/frametest":          {},
		"latchkey/handoff/redisstore/redistest":     {"latchkey/handoff/redisstore/redistest"},
		"latchkey/notify/mail/mailtest":             {"latchkey/notify/mail/mailtest"},
		"latchkey/handoff/door/controller/mqtttest": {"latchkey/handoff/door/controller/mqtttest"},
		"latchkey/cmd/latchkey/sample":              {"latchkey/cmd"},
		"latchkey/cmd/latchkey/demo":                {"latchkey/cmd"},
		"github.com/emersion/go-smtp":               {"latchkey/notify/mail/mailtest", "latchkey/cmd/latchkey/demo"},
		"github.com/go-json-experiment/json":        {api, domain, cmd},
		"github.com/oklog/ulid":                     {api, "latchkey/notify/ledger"},
		"github.com/fxamacker/cbor":                 {domain},
		"github.com/schollz/progressbar":            {"latchkey/cmd/latchkey"},
		"github.com/alecthomas/kong":                {"latchkey/cmd/latchkey"},
		"github.com/valyala/fasthttp":               {api, "latchkey/cmd/latchkey"},
		"github.com/coreos/go-oidc":                 {"latchkey/api/auth"},
		"golang.org/x/oauth2":                       {"latchkey/api/auth"},
		"github.com/MicahParks/keyfunc":             {"latchkey/api/auth"},
		"github.com/MicahParks/jwkset":              {"latchkey/api/auth"},
		"github.com/Shopify/toxiproxy":              {},
		"github.com/chromedp":                       {"latchkey/api/web/webtest"},
		"latchkey/api/web/webtest":                  {},
		"github.com/rogpeppe/go-internal":           {},
		"pgregory.net/rapid":                        {"latchkey/handoff/handofftest"},
		"testing":                                   {"latchkey/handoff/handofftest", "latchkey/handoff/redisstore/redistest", "latchkey/notify/mail/mailtest", "latchkey/handoff/door/controller/mqtttest", "latchkey/api/web/frame/frametest", "latchkey/api/web/webtest"},
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
			if pkg != store && !within(pkg, store+"/redistest") && within(imported, store) && !within(pkg, cmd, store) {
				t.Errorf("%s imports %s: only cmd puts the store together", pkg, imported)
			}
			for library, rooms := range libraries {
				if within(imported, library) && !within(pkg, rooms...) {
					t.Errorf("%s imports %s, whose rooms are %v", pkg, imported, rooms)
				}
			}
		}
	}
	if packages < 10 {
		t.Errorf("looked at %d packages: is this the whole house?", packages)
	}
}
