package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/api/auth"
	"latchkey/api/auth/authtest"
	"latchkey/handoff"
	"latchkey/handoff/handofftest"
	"latchkey/handoff/identity"
	"latchkey/handoff/redisstore/embedded"
	"latchkey/handoff/redisstore/redistest"
	"latchkey/notify/mail"
)

// A configuration file is held to what there is, and its errors name it.
func TestConfigIsStrict(t *testing.T) {
	s := newService(t)
	for name, c := range map[string]struct {
		content string
		want    string
	}{
		"an unknown name":    {`{"redis_urll": "redis://x"}`, "redis_urll is not a known name"},
		"a flag's spelling":  {`{"redis-url": "redis://x"}`, "redis-url is not a known name: write redis_url"},
		"another spelling":   {`{"redisUrl": "redis://x"}`, "redisUrl is not a known name: write redis_url"},
		"a command":          {`{"serve": {"addr": "127.0.0.1:0"}}`, "serve is not a known name"},
		"a name twice":       {`{"addr": "127.0.0.1:0", "addr": "127.0.0.1:1"}`, "addr is given twice"},
		"null":               {`{"addr": null}`, "addr is null"},
		"another type":       {`{"lanes": "many"}`, "--lanes"},
		"a list for a text":  {`{"addr": ["127.0.0.1:0"]}`, "--addr"},
		"no such value":      {`{"durability": "eternal"}`, "--durability"},
		"a wrong URL":        {`{"smtp_url": "ftp://hunter2"}`, "--smtp-url"},
		"broken":             {"{\n\"addr\": \"hunter2\n}", "line 2"},
		"a list":             {`["hunter2"]`, "one JSON object"},
		"nothing":            {``, "one JSON object"},
		"null alone":         {`null`, "JSON object"},
		"something after it": {`{} {"addr":"hunter2"}`, "one JSON object"},
	} {
		path := filepath.Join(t.TempDir(), "latchkey.json")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		args := slices.Concat([]string{"--config", path}, s.args)
		for _, flag := range []string{"addr", "lanes", "durability", "smtp-url"} { // what the line says counts more
			if i := index(args, "--"+flag); i >= 0 && strings.Contains(c.want, "--"+flag) {
				args = slices.Delete(args, i, i+2)
			}
		}
		code, _, errs := once(args...)
		if code != 2 || !strings.Contains(errs, c.want) || !strings.Contains(errs, path) || strings.Contains(errs, "hunter2") {
			t.Errorf("%s: %d %s", name, code, errs)
		}
	}
	if code, _, errs := once("--config", "/nowhere/latchkey.json", "serve"); code != 2 || !strings.Contains(errs, "/nowhere/latchkey.json") {
		t.Errorf("no file: %d %s", code, errs)
	}
	// One file for all commands: names of the others are known.
	path := filepath.Join(t.TempDir(), "latchkey.json")
	content := fmt.Sprintf(`{"redis_url": "redis://%s", "mail_from": "Latchkey <latchkey@shop.example>", "insecure": ["debug"], "shop_names": {"demo": "Demo"}, "max_key_life": "90d", "tries": 3}`, s.redis.Addr())
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil { // there is no secret in it
		t.Fatal(err)
	}
	if code, _, errs := once("--config", path, "outbox", "list"); code != 0 {
		t.Errorf("a common file: %d %s", code, errs)
	}
}

// A variable that cannot be read is named, and what it holds is not shown.
func TestEnvironmentIsNotRepeated(t *testing.T) {
	for name, value := range map[string]string{"LATCHKEY_SMTP_URL": "ftp://user:hunter2@mail.example", "LATCHKEY_RETENTION": "hunter2"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			code, out, errs := once("serve", "--redis-url", "redis://127.0.0.1:1", "--mail-from", "a@b.example", "--keyset", "x", "--policy", "x", "--issuers", "x")
			if code != 2 || !strings.Contains(errs, name) || strings.Contains(out+errs, "hunter2@") || strings.Contains(out+errs, `"hunter2")`) {
				t.Errorf("%d %s", code, errs)
			}
		})
	}
}

// Every file with a secret is refused while others may read it, by an error that names the
// file and how to mend it, and is taken once it is its owner's alone.
func TestSecretsAreTheirOwners(t *testing.T) {
	s := newService(t)
	dir := t.TempDir()
	file := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	made := func(name string, args ...string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if code, _, errs := once(append(args, path)...); code != 0 {
			t.Fatal(errs)
		}
		return path
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pairOf(t, cert, key, time.Now().AddDate(0, 6, 0))
	ca := redistest.NewAuthority(t)
	_, dkim, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(dkim)
	if err != nil {
		t.Fatal(err)
	}
	issuers := func(name string, entry map[string]any) string {
		entry["issuer"], entry["audience"], entry["scopes"] = "https://id.example", "latchkey", []string{"ops"}
		content, err := json.Marshal(map[string]any{"issuers": []any{entry}})
		if err != nil {
			t.Fatal(err)
		}
		return file(name, string(content))
	}
	clientSecret := file("client.secret", "hunter2")
	login := issuers("login.json", map[string]any{"login": map[string]any{"name": "N", "client_id": "c", "client_secret_file": clientSecret}})
	queried := issuers("queried.json", map[string]any{"jwks_url": "https://id.example/keys?token=hunter2"})
	token, root := file("token", "hunter2"), made("root.json", "keys", "doors", "root")
	receiptKey := made("receipts.json", "keys", "receipts", "new")
	doorKeys := made("doors.json", "keys", "doors", "new")
	keyset := s.args[index(s.args, "--keyset")+1]
	never := slices.Clip(with(s.args, "--addr", s.redis.Addr())) // it gets as far as listening, and no further

	for name, c := range map[string]struct {
		path string
		args []string
	}{
		"keyset":            {keyset, never},
		"TLS key":           {key, append(never, "--tls-cert", cert, "--tls-key", key)},
		"DKIM key":          {file("dkim.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))), append(never, "--dkim-key", filepath.Join(dir, "dkim.pem"), "--dkim-domain", "shop.example", "--dkim-selector", "a")},
		"client secret":     {clientSecret, append(with(never, "--issuers", login), "--public-url", "https://parcels.example")},
		"issuers":           {queried, with(never, "--issuers", queried)},
		"door keys":         {doorKeys, append(never, "--door-keys", doorKeys)},
		"receipt key":       {receiptKey, append(never, "--receipt-keys", receiptKey)},
		"door keys, rotate": {doorKeys, []string{"keys", "doors", "rotate", "--stage", doorKeys}},
		"root key":          {root, []string{"keys", "doors", "revoke", "--root", root, "--serial", "1"}},
		"Redis password":    {file("redis.pw", "hunter2"), append(never, "--redis-password-file", filepath.Join(dir, "redis.pw"))},
		"Sentinel password": {file("sentinel.pw", "hunter2"), append(never, "--redis-sentinel-password-file", filepath.Join(dir, "sentinel.pw"))},
		"Redis client key":  {ca.ClientKey, append(never, "--redis-cert", ca.ClientCert, "--redis-key", ca.ClientKey)},
		"SMTP password":     {file("smtp.pw", "hunter2"), append(never, "--smtp-user", "me", "--smtp-password-file", filepath.Join(dir, "smtp.pw"))},
		"shop's token":      {token, []string{"dispatch", file("none.ndjson", ""), "--url", "http://127.0.0.1:1", "--token-file", token, "--tries", "1"}},
		"configuration":     {file("conf.json", `{"redis_url":"redis://:hunter2@127.0.0.1:1"}`), append([]string{"--config", filepath.Join(dir, "conf.json")}, never...)},
		"with a mailbox":    {file("smtp.json", `{"smtp_url":"smtp://me:hunter2@127.0.0.1:1"}`), append([]string{"--config", filepath.Join(dir, "smtp.json")}, never...)},
		"with Sentinels":    {file("sent.json", `{"redis_url":"redis://127.0.0.1:1?master_name=m&password=hunter2"}`), append([]string{"--config", filepath.Join(dir, "sent.json")}, never...)},
		"with a token":      {file("token.json", `{"token":"hunter2"}`), append([]string{"--config", filepath.Join(dir, "token.json")}, never...)},
		"with a broker":     {file("mqtt.json", `{"mqtt":"mqtts://me:hunter2@b.example/zigbee2mqtt/x"}`), append([]string{"--config", filepath.Join(dir, "mqtt.json")}, never...)},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o620, 0o602} {
				if err := os.Chmod(c.path, mode); err != nil {
					t.Fatal(err)
				}
				code, out, errs := once(c.args...)
				if code == 0 || !strings.Contains(errs, "chmod 600 "+c.path) || !strings.Contains(errs, fmt.Sprintf("mode %04o", mode)) || strings.Contains(out+errs, "hunter2") {
					t.Errorf("%04o: %d %s%s", mode, code, out, errs)
				}
			}
			for _, mode := range []os.FileMode{0o600, 0o400} {
				if err := os.Chmod(c.path, mode); err != nil {
					t.Fatal(err)
				}
				if _, out, errs := once(c.args...); strings.Contains(errs, "chmod 600") || strings.Contains(out+errs, "hunter2") {
					t.Errorf("%04o is refused: %s", mode, errs)
				}
			}
			if err := os.Chmod(c.path, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// So is a door's token, each time that it is read.
func TestDoorsTokenIsItsOwners(t *testing.T) {
	path := secretFile(t, "hunter2")
	run := &doorRunCmd{URL: "http://127.0.0.1:1", TokenFile: path}
	service, err := run.service()
	if err != nil {
		t.Fatal(err)
	}
	if token, err := service.Token(); err != nil || token != "hunter2" {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := service.Token(); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("read again: %v", err)
	}
	if _, err := run.service(); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("at start: %v", err)
	}
}

// Credentials for the mail server come from the URL or from beside it, not from both.
func TestMailServerPassword(t *testing.T) {
	plain, err := mail.ParseURL("smtp://mail.example")
	if err != nil {
		t.Fatal(err)
	}
	full, err := mail.ParseURL("smtp://me:s3cret@mail.example")
	if err != nil {
		t.Fatal(err)
	}
	password := secretFile(t, "s3cret")
	if got, err := (&serveCmd{SMTPURL: plain, SMTPUser: "me", SMTPPasswordFile: password}).mailServer(); err != nil || got != full {
		t.Errorf("from a file: %v, %v", got, err)
	}
	if got, err := (&serveCmd{SMTPURL: full}).mailServer(); err != nil || got != full {
		t.Errorf("from the URL: %v, %v", got, err)
	}
	for name, c := range map[string]*serveCmd{
		"both":        {SMTPURL: full, SMTPUser: "me", SMTPPasswordFile: password},
		"no user":     {SMTPURL: plain, SMTPPasswordFile: password},
		"no password": {SMTPURL: plain, SMTPUser: "me"},
		"two lines":   {SMTPURL: plain, SMTPUser: "me", SMTPPasswordFile: secretFile(t, "s3cret\ns3cret")},
		"nothing":     {SMTPURL: plain, SMTPUser: "me", SMTPPasswordFile: secretFile(t, "")},
	} {
		if _, err := c.mailServer(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A name that one file has and the other lacks is a warning, in both directions.
func TestMismatches(t *testing.T) {
	policy := &handoff.Policy{Carriers: []string{"swift", "rival"}, Shops: map[string]handoff.ShopPolicy{"demo": {}, "outlet": {}}}
	trust := []auth.Trust{{Shops: []string{"demo", "demmo"}, Carriers: []string{"swift"}}}
	keys := []identity.APIKey{{Shop: "gone"}, {Shop: "gone"}, {Carrier: "rival"}}
	got := mismatches(policy, trust, keys, map[string]string{"demo": "Demo", "dem0": "Demo"}, map[string]string{"swift": "Swift"})
	var of []string
	for _, m := range got {
		of = append(of, m.kind+" "+m.id)
	}
	if want := []string{"shop demmo", "shop gone", "shop dem0", "shop outlet"}; !slices.Equal(of, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := mismatches(policy, []auth.Trust{{Shops: []string{auth.Anyone}, Carriers: []string{auth.Anyone}}}, nil, nil, nil); len(got) != 0 {
		t.Errorf("where anyone is trusted: %v", got)
	}
}

// Serve warns of them at start, and when the issuers are read again.
func TestServeWarnsOfMismatches(t *testing.T) {
	s := newService(t)
	s.trust(t, map[string]any{
		"issuer": "https://id.example", "audience": "latchkey", "jwks_url": "http://127.0.0.1:1/keys",
		"scopes": []string{"shop", "carrier"}, "shops": []string{"demmo"}, "carriers": []string{"swift"},
	})
	p := start(t, s.args...)
	p.url(t)
	for _, want := range []string{`"of":"shop","id":"demmo"`, `"of":"shop","id":"demo"`, `"of":"carrier","id":"rival"`} {
		if !strings.Contains(p.err.String(), want) {
			t.Errorf("the log lacks %s: %s", want, p.err.String())
		}
	}
	if strings.Contains(p.err.String(), `"of":"carrier","id":"swift"`) {
		t.Error("swift is fine")
	}
}

// When the next key ends is a metric, and said before it does: once a day, by its id.
func TestKeysAreWatched(t *testing.T) {
	store, m := embedded.New(t), mustInstruments(t)
	now := handofftest.Noon
	var log output
	w := &keyWatch{store: store, life: auth.LongestKeyLife, now: func() time.Time { return now }, metrics: m, log: slog.New(slog.NewJSONHandler(&log, nil))}
	shows := func(end time.Time, ending int) {
		t.Helper()
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		at := "0"
		if !end.IsZero() {
			at = fmt.Sprintf("%g", float64(end.Unix()))
		}
		metrics := gathered(t, m)
		for _, want := range []string{"latchkey_api_key_soonest_end_timestamp_seconds " + at, fmt.Sprintf("latchkey_api_keys_ending %d", ending)} {
			if !strings.Contains(metrics, want+"\n") {
				t.Errorf("at %v the metrics lack %s", now, want)
			}
		}
	}
	shows(time.Time{}, 0)
	created := handoff.InstantOf(now)
	for id, days := range map[string]int{"short": 20, "long": 90, "old": 0} {
		k := identity.APIKey{ID: id, Scopes: []string{"door"}, Door: "d", Label: "label-" + id, Created: created}
		if days > 0 {
			k.Expires = handoff.InstantOf(now.AddDate(0, 0, days))
		}
		if err := store.AddAPIKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	begun := now
	shows(begun.AddDate(0, 0, 20), 0)
	now = begun.AddDate(0, 0, 7)
	shows(begun.AddDate(0, 0, 20), 1)
	shows(begun.AddDate(0, 0, 20), 1)
	if told := strings.Count(log.String(), "an API key ends soon"); told != 1 || !strings.Contains(log.String(), `"key":"short","label":"label-short"`) {
		t.Errorf("told %d times: %s", told, log.String())
	}
	now = begun.AddDate(0, 0, 8)
	shows(begun.AddDate(0, 0, 20), 1)
	if told := strings.Count(log.String(), "an API key ends soon"); told != 2 {
		t.Errorf("told %d times in two days", told)
	}
	now = begun.AddDate(0, 0, 20)
	shows(begun.AddDate(0, 0, 90), 0)
	now = begun.AddDate(0, 0, 360) // the one without an end
	shows(begun.Add(auth.LongestKeyLife), 1)
}

func mustInstruments(t *testing.T) *instruments {
	t.Helper()
	m, err := newInstruments()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func gathered(t *testing.T, m *instruments) string {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			if len(metric.GetLabel()) == 0 && metric.GetGauge() != nil {
				fmt.Fprintf(&b, "%s %g\n", f.GetName(), metric.GetGauge().GetValue())
			}
		}
	}
	return b.String()
}

// Why a token or a key is refused stands in the log, and the answer is the same for all.
func TestRefusalsSayWhy(t *testing.T) {
	s := newService(t)
	p := start(t, s.args...)
	c := client{t, p.url(t)}
	sign := func(issuer, audience string, life time.Duration, now func() time.Time) string {
		t.Helper()
		i, err := authtest.NewIssuer(rand.Reader, issuer, audience, now)
		if err != nil {
			t.Fatal(err)
		}
		token, err := i.Sign(auth.Principal{Subject: "s", Shop: "demo", Scopes: []auth.Scope{auth.Shop}}, life)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	own := func(age, life time.Duration) string { // by the issuer's own key, at another time
		t.Helper()
		s.late = -age
		defer func() { s.late = 0 }()
		token, err := s.issuer.Sign(auth.Principal{Subject: "s", Shop: "demo", Scopes: []auth.Scope{auth.Shop}}, life)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	keyset, redis := s.args[index(s.args, "--keyset")+1], "redis://"+s.redis.Addr()
	key := func(args ...string) string {
		t.Helper()
		code, out, errs := once(append([]string{"apikey", "--redis-url", redis, "--keyset", keyset, "create"}, args...)...)
		if code != 0 {
			t.Fatal(errs)
		}
		return strings.TrimSpace(out)
	}
	far, revoked := key("--scope", "ops", "--network", "192.0.2.0/24"), key("--scope", "door", "--door", "gate")
	if code, _, errs := once("apikey", "--redis-url", redis, "--keyset", keyset, "revoke", revoked); code != 0 {
		t.Fatal(errs)
	}
	tampered := []byte(own(0, time.Hour))
	if at := len(tampered) - 10; tampered[at] == 'A' {
		tampered[at] = 'B'
	} else {
		tampered[at] = 'A'
	}
	for why, token := range map[string]string{
		"malformed":           "x.y.z",
		"unknown-issuer":      sign("https://elsewhere.example", "latchkey", time.Hour, time.Now),
		"wrong-audience":      sign("issuer", "shop", time.Hour, time.Now),
		"unknown-key-id":      sign("issuer", "latchkey", time.Hour, time.Now),
		"bad-signature":       string(tampered),
		"expired":             own(2*time.Hour, time.Hour),
		"not-yet-valid":       own(-time.Hour, time.Hour),
		"too-old":             own(25*time.Hour, 90*24*time.Hour),
		"key-outside-network": far,
		"key-not-found":       revoked,
	} {
		before := len(p.err.String())
		status, answer := c.do("GET", "/v1/dispatches/x", token, "")
		delete(answer, "instance")
		text, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		if status != http.StatusUnauthorized || answer["code"] != "unauthorized" || strings.Contains(string(text), why) {
			t.Errorf("%s: %d %s", why, status, text)
		}
		var log string
		await(t, "the log", func() bool { log = p.err.String()[before:]; return strings.Contains(log, `"status":401`) })
		if !strings.Contains(log, `"why":"`+why+`"`) {
			t.Errorf("%s: the log says %s", why, log)
		}
		if strings.Contains(log, token) || strings.Contains(log, token[max(0, len(token)-20):]) {
			t.Errorf("%s: the log repeats the token", why)
		}
		if strings.HasPrefix(token, "lk_") && !strings.Contains(log, `"key":"`+strings.Split(token, "_")[1]+`"`) {
			t.Errorf("%s: the log does not name the key: %s", why, log)
		}
	}
	if status, _ := c.do("GET", "/v1/dispatches/x", "", ""); status != http.StatusUnauthorized || !strings.Contains(p.err.String(), `"why":"no-credentials"`) {
		t.Error("a request without a token")
	}
	if log := p.err.String(); !strings.Contains(log, `"took_ms":`) || strings.Contains(log, `"took":`) {
		t.Error("a duration in the log has no unit")
	}
}

// No number of connections to the mail server is read as a default that was not asked for.
func TestSMTPConnectionsAreBounded(t *testing.T) {
	for _, n := range []int{-1, 0, mostSMTPConnections + 1} {
		c := serveCmd{
			redisAt: redisAt{RedisURL: "redis://127.0.0.1:1"}, MaxConnections: 1, MaxConnectionsPerAddress: 1, SMTPConnections: n,
			Insecure: []string{"plain-http", "any-host", "any-proxy", "redis-plain"},
		}
		if _, err := c.settings(wallClock{}); err == nil || !strings.Contains(err.Error(), "--smtp-connections must be from 1 to") {
			t.Errorf("%d: %v", n, err)
		}
	}
}
