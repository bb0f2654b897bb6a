package handoff_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"testing"

	. "latchkey/handoff"
)

type keyed string

func (k keyed) Name(domain string, parts ...string) []byte {
	h := hmac.New(sha256.New, []byte(k))
	h.Write([]byte(domain + "\x00" + strings.Join(parts, "\x00")))
	return h.Sum(nil)
}

// A token is read in whatever case, by its key alone, and no part of it may be changed.
func TestMailToken(t *testing.T) {
	id := GrantID{Hash: "0f3b2c1d4e5f60718293a4b5", Generation: 3}
	token := MailToken(keyed("k"), id, 7)
	if len(token) != MailTokenLen || strings.Trim(token, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		t.Fatalf("%q of %d", token, len(token))
	}
	for _, text := range []string{token, strings.ToUpper(token)} {
		if got, issue, ok := ParseMailToken(keyed("k"), text); !ok || got != id || issue != 7 {
			t.Errorf("%s: %v %d %v", text, got, issue, ok)
		}
	}
	if _, _, ok := ParseMailToken(keyed("other"), token); ok {
		t.Error("another key's token counts")
	}
	for i := range token {
		for _, c := range "abcdefghijklmnopqrstuvwxyz234567" {
			if changed := token[:i] + string(c) + token[i+1:]; changed != token {
				if _, _, ok := ParseMailToken(keyed("k"), changed); ok {
					t.Errorf("%s counts as %s", changed, token)
				}
			}
		}
	}
	for _, text := range []string{"", token[1:], token + "a", token + "=", token[:46] + "\n", "\n" + token, strings.Repeat("a", MailTokenLen)} {
		if _, _, ok := ParseMailToken(keyed("k"), text); ok {
			t.Errorf("%q counts", text)
		}
	}
	if other := MailToken(keyed("k"), id, 8); other == token {
		t.Error("two codes have one token")
	}
	for _, bad := range []GrantID{{Hash: id.Hash}, {Hash: id.Hash, Generation: 256}} {
		if got := MailToken(keyed("k"), bad, 1); got != "" {
			t.Errorf("%v has the token %s", bad, got)
		}
	}
	if got := MailToken(keyed("k"), id, 1<<32); got != "" {
		t.Errorf("a code beyond all bounds has the token %s", got)
	}
}
